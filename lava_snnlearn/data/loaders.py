"""Data sets by name.

"digits" is embedded in scikit-learn. "mnist" and "fashion" are read from the folder named by the environment variable
LAVA_SNNLEARN_DATA where it holds them (images/mnist.npz, images/fashion_mnist.npz), otherwise downloaded once by torchvision.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.data.dataset import Dataset, Split

DATA_VARIABLE = "LAVA_SNNLEARN_DATA"
SCALES = ("standard", "unit")


class _Raw(NamedTuple):
    """Pixels [N, features] as float64 with their full range, labels, and the split that the source gives."""

    x_train: NDArray[np.float64]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    top: float
    side: int


def _digits() -> _Raw:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return _Raw(parts[0], parts[2].astype(np.int64), parts[1], parts[3].astype(np.int64), top=16.0, side=8)


def _mnist_like(file: str, torchvision_name: str) -> Callable[[], _Raw]:
    def read() -> _Raw:
        folder = os.environ.get(DATA_VARIABLE)
        local = Path(folder) / "images" / file if folder else None
        if local is not None and local.is_file():
            with np.load(local, allow_pickle=False) as store:
                arrays = [store[key] for key in ("x_train", "y_train", "x_test", "y_test")]
        else:
            arrays = _download(torchvision_name)
        x_train, y_train, x_test, y_test = arrays
        flat = [x.reshape(len(x), -1).astype(np.float64) for x in (x_train, x_test)]
        return _Raw(flat[0], y_train.astype(np.int64), flat[1], y_test.astype(np.int64), top=255.0, side=28)

    return read


def _download(name: str) -> list[NDArray[np.uint8]]:
    from torchvision import datasets

    root = Path.home() / ".cache" / "lava_snnlearn"
    try:
        sets = [getattr(datasets, name)(root, train=train, download=True) for train in (True, False)]
    except Exception as error:
        raise RuntimeError(
            f"{name} could not be downloaded ({error}). Check the network connection, or set {DATA_VARIABLE} to a folder that "
            "holds images/mnist.npz and images/fashion_mnist.npz (keys x_train, y_train, x_test, y_test)."
        ) from error
    return [array for data in sets for array in (data.data.numpy(), data.targets.numpy())]


DATASETS: dict[str, Callable[[], _Raw]] = {
    "digits": _digits,
    "fashion": _mnist_like("fashion_mnist.npz", "FashionMNIST"),
    "mnist": _mnist_like("mnist.npz", "MNIST"),
}


def load(name: str, *, valid: float = 0.1, scale: str = "standard", train_size: int | None = None, seed: int = 0) -> Dataset:
    """A data set by name: "digits" (8x8 pixels), "mnist" or "fashion" (28x28); 10 classes each.

    Args:
        name: see above.
        valid: fraction of the training split that is set aside (stratified) for choosing the best epoch; 0: nothing.
        scale: "standard" subtracts the global mean of the training pixels and divides by their standard deviation; "unit"
            maps the pixel range to [0, 1], which the rate and latency codes need.
        train_size: use only this many training samples (stratified); None uses all.
        seed: for the draws of `valid` and `train_size`. The digits test split (20 %, stratified) never changes.

    Returns:
        Dataset with x float32 [N, pixels] and y int64 [N].

    Raises:
        UnknownNameError: unknown name or scale.
        ValueError: valid outside [0, 1), train_size out of range.
        RuntimeError: a download that failed; says what to do.
    """
    raw = DATASETS[known_name("data set", name, DATASETS)]()
    known_name("scale", scale, SCALES)
    if not 0 <= valid < 1:
        raise ValueError(f"valid is {valid}; it is the fraction of training samples set aside and must lie in [0, 1)")
    if train_size is not None and not 10 <= train_size <= len(raw.y_train):
        raise ValueError(f"train_size is {train_size}; {name} has 10 to {len(raw.y_train)} training samples to choose")
    offset, factor = (float(raw.x_train.mean()), float(raw.x_train.std())) if scale == "standard" else (0.0, raw.top)

    def split(x: NDArray[np.float64], y: NDArray[np.int64]) -> Split:
        return Split(((x - offset) / factor).astype(np.float32), y)

    train, held = _set_aside(split(raw.x_train, raw.y_train), valid, train_size, seed)
    return Dataset(name, train, held, split(raw.x_test, raw.y_test), classes=10, image_shape=(raw.side, raw.side))


def _set_aside(train: Split, valid: float, train_size: int | None, seed: int) -> tuple[Split, Split]:
    indices = np.arange(len(train))
    if train_size is not None and train_size < len(train):
        indices, _ = _stratified(train, indices, f"train_size = {train_size}", seed, train_size=train_size)
    held = indices[:0]
    if valid > 0:
        indices, held = _stratified(train, indices, f"valid = {valid}", seed, test_size=valid)
    return Split(train.x[indices], train.y[indices]), Split(train.x[held], train.y[held])


def _stratified(
    train: Split, indices: NDArray[np.int64], wish: str, seed: int, **size: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split

    try:
        chosen, rest = train_test_split(indices, stratify=train.y[indices], random_state=seed, **size)
    except ValueError as error:
        raise ValueError(
            f"{wish} of {len(indices)} samples leaves a part without one sample of every class ({error}). Both need at least "
            "one sample a class: choose a size further away from none and all."
        ) from error
    return chosen, rest
