"""scikit-learn's handwritten digits as every sample sees them: 0..1 in float32, split once and for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 0
BRIGHTEST = 16  # scikit-learn's pixels are whole numbers from 0 to 16
TEST_SHARE = 0.25  # 450 of the 1797 images
SAVED_IMAGES = 64  # as many of the test images as travel with the samples


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images and what they show: `images` is float32 [count,8,8] in 0..1, `labels` int64 [count] in 0..9."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def nchw(self) -> np.ndarray:
        """The images as PyTorch takes them: [count,1,8,8]."""
        return self.images[:, np.newaxis]

    @property
    def nhwc(self) -> np.ndarray:
        """The images as Keras takes them: [count,8,8,1]."""
        return self.images[..., np.newaxis]

    @property
    def ids(self) -> np.ndarray:
        """The pixels of each image, row by row, as tokens: int64 [count,64] in 0..16."""
        return np.rint(self.images * BRIGHTEST).astype(np.int64).reshape(len(self.images), -1)

    def accuracy(self, logits: np.ndarray) -> float:
        """Give the share of images whose largest logit, of [count,10], is the digit shown."""
        return float(np.mean(logits.argmax(axis=1) == self.labels))


def load_split() -> tuple[LabelledImages, LabelledImages]:
    """Load the training and the test images, the same ones in every run."""
    bunch = load_digits()
    images = (bunch.images / BRIGHTEST).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_SHARE, random_state=SEED, stratify=labels
    )
    return LabelledImages(train_images, train_labels), LabelledImages(test_images, test_labels)


def write_test_data(test: LabelledImages, folder: Path) -> None:
    """Write the first test images in both layouts, and their labels, as `.npz` files into `folder`."""
    saved = LabelledImages(test.images[:SAVED_IMAGES], test.labels[:SAVED_IMAGES])
    np.savez_compressed(folder / "digits_nchw_inputs.npz", image=saved.nchw)
    np.savez_compressed(folder / "digits_nhwc_inputs.npz", image=saved.nhwc)
    np.savez_compressed(folder / "digits_labels.npz", labels=saved.labels)
