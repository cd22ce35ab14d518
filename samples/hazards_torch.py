"""Small PyTorch networks, each with one trait that conversions tend to get wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoByTwo(nn.Module):
    """Two inputs, the halves of an image [batch,1,8,4]; two outputs, digit [batch,10] and parity [batch,2]."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.right = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.digit = nn.Linear(8 * 4 * 4, 10)
        self.parity = nn.Linear(8 * 4 * 4, 2)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        whole = torch.relu(torch.cat([self.left(left), self.right(right)], dim=3))
        features = nn.functional.max_pool2d(whole, 2).flatten(1)
        return self.digit(features), self.parity(features)


class Tokens(nn.Module):
    """Integer inputs: 64 tokens int64 [batch,64] in 0..16, embedded, averaged two by two, to logits [batch,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 8)
        self.dense = nn.Linear(32 * 8, 10)

    def forward(self, ids: Tensor) -> Tensor:
        pooled = self.embedding(ids).reshape(-1, 32, 2, 8).mean(dim=2)
        return self.dense(pooled.flatten(1))


class Recurrent(nn.Module):
    """A loop over time: the 8 rows of an image [batch,8,8] through an LSTM, to logits [batch,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 24, batch_first=True)
        self.dense = nn.Linear(24, 10)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.lstm(rows)
        return self.dense(states[:, -1])


class Dictionary(nn.Module):
    """Outputs by key: logits and probabilities, both [batch,10], of an image [batch,1,8,8]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        logits = self.layers(image)
        return {"logits": logits, "probabilities": torch.softmax(logits, dim=1)}
