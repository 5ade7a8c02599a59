"""Labelled data in three splits, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import finite, whole_number


@dataclass(frozen=True)
class Split:
    """Samples and labels: ``x`` float32 [N, features], ``y`` int64 [N]."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """train, valid (may be empty) and test splits of one classification task.

    Args:
        name: for reports.
        train, valid, test: the splits.
        classes: number of classes; labels are 0 .. classes - 1.
        image_shape: height and width for pictures in reports, if the features are pixels.

    Raises:
        ValueError: an empty train or test split, NaN or infinity, labels out of range, lengths or widths that do not agree.
        TypeError: a part that is no Split of numpy arrays, dtypes other than float32 and int64, classes not whole.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: int
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        whole_number("classes", self.classes)
        for label, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            self._check(f"{self.name}.{label}", split, may_be_empty=label == "valid")

    @property
    def features(self) -> int:
        """Width of a sample."""
        return int(self.train.x.shape[1])

    def _check(self, where: str, split: Split, may_be_empty: bool) -> None:
        if not isinstance(split, Split):
            raise TypeError(f"{where} is of type {type(split).__name__}; pass snn.data.Split(x, y) of numpy arrays")
        for part, values in (("x", split.x), ("y", split.y)):
            if not isinstance(values, np.ndarray):
                raise TypeError(
                    f"{where}.{part} is of type {type(values).__name__}; it must be a numpy array: np.asarray(x, np.float32) "
                    "for samples, np.asarray(y, np.int64) for labels"
                )
        if split.x.dtype != np.float32 or split.y.dtype != np.int64:
            raise TypeError(
                f"{where} has dtypes {split.x.dtype} and {split.y.dtype}; need float32 samples and int64 labels (use .astype)"
            )
        if split.x.ndim != 2 or split.y.ndim != 1 or len(split.x) != len(split.y):
            raise ValueError(
                f"{where} has shapes {split.x.shape} and {split.y.shape}; expected samples [N, features] and labels [N]. "
                "Flatten images with x.reshape(len(x), -1)."
            )
        if len(split) == 0 and not may_be_empty:
            raise ValueError(f"{where} is empty; training and testing need at least one sample each")
        if len(split) and split.x.shape[1] != self.features:
            raise ValueError(f"{where} has {split.x.shape[1]} features, the training split has {self.features}")
        finite(where, split.x)
        outside = (split.y < 0) | (split.y >= self.classes)
        if outside.any():
            first = int(np.argmax(outside))
            raise ValueError(
                f"{where} has label {int(split.y[first])} at sample {first}; labels must lie in 0..{self.classes - 1}. "
                "Relabel the samples or raise `classes`."
            )
