"""The digits network in PyTorch; its twin in Keras is built by train_digits_keras.py."""

from __future__ import annotations

from torch import Tensor, nn


class Digits(nn.Module):
    """Logits [batch,10] of the digit shown by each float32 image [batch,1,8,8] in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 2 * 2, 10))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image))
