"""Labelled data in three splits, checked when it is made: static samples, or sequences of frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import finite, whole_number


@dataclass(frozen=True)
class Split:
    """Samples and labels.

    ``x``: static samples float32 [N, features], or sequences [N, T, features], float32 or uint8 (event counts: a quarter of the
    memory; the Trainer turns a batch into floats when it needs it). ``y``: int64 [N].
    """

    x: NDArray[np.float32] | NDArray[np.uint8]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: NDArray[np.integer[Any]]) -> Split:
        """The samples of these indices, in their order (copies)."""
        return Split(self.x[indices], self.y[indices])


@dataclass(frozen=True)
class Dataset:
    """train, valid (may be empty) and test splits of one classification task.

    Args:
        name: for reports.
        train, valid, test: the splits; all static, or all sequences of the same number of steps.
        classes: number of classes; labels are 0 .. classes - 1.
        image_shape: height and width for pictures in reports, if the features are pixels; known from ``shape``.
        shape: channels, height and width, if the features are images or frames, flattened in this order. One channel of
            ``image_shape`` where only that is given and fits.

    Raises:
        ValueError: an empty train or test split, NaN or infinity, labels out of range, lengths, widths, steps or shapes that do
            not agree.
        TypeError: a part that is no Split of numpy arrays, other dtypes, classes not whole.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: int
    image_shape: tuple[int, int] | None = None
    shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        whole_number("classes", self.classes)
        for label, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            where = f"{self.name}.{label}"
            _check_arrays(where, split)
            self._check_agreement(where, split, may_be_empty=label == "valid")
            finite(where, split.x)
            self._check_labels(where, split.y)
        self._settle_shape()

    @property
    def features(self) -> int:
        """Width of a sample, or of a frame of a sequence."""
        return int(self.train.x.shape[-1])

    @property
    def sequence(self) -> bool:
        """Whether samples are sequences."""
        return self.train.x.ndim == 3

    @property
    def steps(self) -> int | None:
        """Time steps of a sequence; None for static samples."""
        return int(self.train.x.shape[1]) if self.sequence else None

    def _settle_shape(self) -> None:
        shape, image = self.shape, self.image_shape
        if shape is None and image is not None and prod(image) == self.features:
            object.__setattr__(self, "shape", (1, *image))
        if shape is None:
            return
        sizes = tuple(whole_number("shape", size) for size in shape)
        if len(sizes) != 3 or min(sizes) < 1 or prod(sizes) != self.features:
            raise ValueError(
                f"{self.name} has shape {shape}, but samples of {self.features} features; shape is (channels, height, width) "
                "and its product is the number of features"
            )
        if image is not None and tuple(image) != sizes[1:]:
            raise ValueError(f"{self.name} has shape {shape} and image_shape {image}; leave image_shape out")
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "image_shape", sizes[1:])

    def _check_agreement(self, where: str, split: Split, may_be_empty: bool) -> None:
        if len(split) == 0:
            if not may_be_empty:
                raise ValueError(f"{where} is empty; training and testing need at least one sample each")
            return
        if split.x.ndim != self.train.x.ndim or split.x.dtype != self.train.x.dtype:
            raise ValueError(
                f"{where} holds {_kind(split)}, the training split {_kind(self.train)}; all splits must be of one kind"
            )
        if split.x.shape[-1] != self.features:
            raise ValueError(f"{where} has {split.x.shape[-1]} features, the training split has {self.features}")
        if split.x.shape[1:-1] != self.train.x.shape[1:-1]:
            raise ValueError(
                f"{where} has sequences of {split.x.shape[1]} steps, the training split of {self.steps};"
                " cut or pad them to one length"
            )

    def _check_labels(self, where: str, y: NDArray[np.int64]) -> None:
        outside = (y < 0) | (y >= self.classes)
        if outside.any():
            first = int(np.argmax(outside))
            raise ValueError(
                f"{where} has label {int(y[first])} at sample {first}; labels must lie in 0..{self.classes - 1}. "
                "Relabel the samples or raise `classes`."
            )


def digest(data: Dataset) -> str:
    """SHA-256 of the training and validation splits: a resumed run must have the same."""
    found = hashlib.sha256()
    for array in (data.train.x, data.train.y, data.valid.x, data.valid.y):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _kind(split: Split) -> str:
    return f"{split.x.dtype} {'sequences' if split.x.ndim == 3 else 'static samples'}"


def _check_arrays(where: str, split: Split) -> None:
    if not isinstance(split, Split):
        raise TypeError(f"{where} is of type {type(split).__name__}; pass snn.data.Split(x, y) of numpy arrays")
    for part, values in (("x", split.x), ("y", split.y)):
        if not isinstance(values, np.ndarray):
            raise TypeError(
                f"{where}.{part} is of type {type(values).__name__}; it must be a numpy array: np.asarray(x, np.float32) "
                "for samples, np.asarray(y, np.int64) for labels"
            )
    counts = split.x.dtype == np.uint8 and split.x.ndim == 3
    if not (split.x.dtype == np.float32 or counts) or split.y.dtype != np.int64:
        raise TypeError(
            f"{where} has dtypes {split.x.dtype} and {split.y.dtype}; need float32 samples and int64 labels (use .astype). "
            "uint8 is taken for sequences [N, T, features] only"
        )
    if split.x.ndim not in (2, 3) or split.y.ndim != 1 or len(split.x) != len(split.y) or 0 in split.x.shape[1:]:
        raise ValueError(
            f"{where} has shapes {split.x.shape} and {split.y.shape}; expected samples [N, features] or sequences "
            "[N, T, features], and labels [N]. Flatten images with x.reshape(len(x), -1), frames with "
            "x.reshape(*x.shape[:2], -1)."
        )
