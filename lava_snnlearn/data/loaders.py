"""Data sets by name.

"digits" is embedded in scikit-learn. "mnist", "fashion", "cifar10", "cifar100" and "svhn" are read from the folder that the
environment variable LAVA_SNNLEARN_DATA names, where it holds them (images/mnist.npz, images/fashion_mnist.npz,
images/cifar10_10k.npz, images/cifar100.npz, images/svhn.npz), otherwise downloaded once by torchvision. "notmnist" is read from
images/notmnist_10k.npz of that folder; torchvision does not have it. Event sets are in :mod:`lava_snnlearn.data.events`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.data.events import EVENT_DATASETS, load_events
from lava_snnlearn.data.places import DATA_VARIABLE, cache_folder, local_file
from lava_snnlearn.data.splits import check_sizes, set_aside

SCALES = ("standard", "unit")
# Samples that are scaled at once: their float64 copies are small beside the data.
_BLOCK = 4096


class _Raw(NamedTuple):
    """Pixels [N, features] (flat order channel, row, column) with their full range, labels, and the split of the source."""

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    top: float
    shape: tuple[int, int, int]
    classes: int = 10


def _digits() -> _Raw:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    labels = [part.astype(np.int64) for part in parts[2:]]
    return _Raw("digits", parts[0], labels[0], parts[1], labels[1], top=16.0, shape=(1, 8, 8))


def _images(
    name: str, file: str, torchvision_name: str, shape: tuple[int, int, int], local_name: str, classes: int = 10
) -> Callable[[], _Raw]:
    """Reader of a set of uint8 images [N, H, W] or [N, H, W, C]; ``local_name``: what the file in the folder is called."""

    def read() -> _Raw:
        local = local_file(f"images/{file}")
        if local is not None:
            with np.load(local, allow_pickle=False) as store:
                arrays = [store[key] for key in ("x_train", "y_train", "x_test", "y_test")]
        else:
            arrays = _download(torchvision_name)
        x_train, y_train, x_test, y_test = arrays
        flat = [_channels_first(x) for x in (x_train, x_test)]
        title = name if local is None else local_name
        return _Raw(title, flat[0], y_train.astype(np.int64), flat[1], y_test.astype(np.int64), 255.0, shape, classes)

    return read


def _notmnist() -> _Raw:
    file = "images/notmnist_10k.npz"
    local = local_file(file)
    if local is None:
        raise RuntimeError(
            f"notmnist cannot be downloaded: torchvision does not have it. Set {DATA_VARIABLE} to a folder that holds {file} "
            "(x uint8 [10000, 28, 28], y uint8 [10000] in random order)."
        )
    with np.load(local, allow_pickle=False) as store:
        x, y = store["x"].reshape(len(store["x"]), -1), store["y"].astype(np.int64)
    # The source has no split, and its order is random.
    first = len(y) * 9 // 10
    return _Raw("notmnist-10k", x[:first], y[:first], x[first:], y[first:], top=255.0, shape=(1, 28, 28))


def _channels_first(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1) if x.ndim == 4 else x).reshape(len(x), -1)


def _download(name: str) -> list[NDArray[Any]]:
    try:
        arrays = [np.asarray(array) for train in (True, False) for array in _torchvision(name, train)]
    except Exception as error:
        raise RuntimeError(
            f"{name} could not be downloaded ({error}). Check the network connection, or set {DATA_VARIABLE} to a folder that "
            "holds images/mnist.npz, images/fashion_mnist.npz, images/cifar10_10k.npz, images/cifar100.npz, images/svhn.npz "
            "(keys x_train, y_train, x_test, y_test)."
        ) from error
    return arrays


def _torchvision(name: str, train: bool) -> tuple[Any, Any]:
    """Images [N, H, W] or [N, H, W, C], and labels."""
    from torchvision import datasets

    if name == "SVHN":
        numbers = datasets.SVHN(cache_folder(), split="train" if train else "test", download=True)
        return np.moveaxis(numbers.data, 1, -1), numbers.labels
    images = getattr(datasets, name)(cache_folder(), train=train, download=True)
    return images.data, images.targets


DATASETS: dict[str, Callable[[], _Raw]] = {
    # The file is a part of CIFAR-10, and its name says so.
    "cifar10": _images("cifar10", "cifar10_10k.npz", "CIFAR10", (3, 32, 32), "cifar10-10k"),
    "cifar100": _images("cifar100", "cifar100.npz", "CIFAR100", (3, 32, 32), "cifar100", classes=100),
    "digits": _digits,
    "fashion": _images("fashion", "fashion_mnist.npz", "FashionMNIST", (1, 28, 28), "fashion"),
    "mnist": _images("mnist", "mnist.npz", "MNIST", (1, 28, 28), "mnist"),
    "notmnist": _notmnist,
    "svhn": _images("svhn", "svhn.npz", "SVHN", (3, 32, 32), "svhn"),
}


def load(
    name: str,
    *,
    valid: float = 0.1,
    scale: str = "standard",
    train_size: int | None = None,
    seed: int = 0,
    **framing: Any,
) -> Dataset:
    """A data set by name: images "digits" (8x8 pixels), "mnist", "fashion" and "notmnist" (28x28), "cifar10", "cifar100" and
    "svhn" (32x32, 3 colours), of 10 classes each, "cifar100" of 100; or events, see
    :func:`~lava_snnlearn.data.events.load_events`.

    From the local folder, "cifar10" is a part: 10,000 of the 50,000 training and 1,000 of the 10,000 test images. Its name is
    then "cifar10-10k". "notmnist" is one of 10,000 images of the letters A to J, "notmnist-10k": the first 9,000 for training,
    the last 1,000 for testing.

    Args:
        name: see above.
        valid: fraction of the training split that is set aside (stratified) for choosing the best epoch; 0: nothing.
        scale: "standard" subtracts the mean of the training pixels and divides by their standard deviation, each channel by
            itself; "unit" maps the pixel range to [0, 1], which the rate and latency codes need. Not for events.
        train_size: use only this many training samples (stratified); None uses all.
        seed: for the draws of `valid` and `train_size`. The digits test split (20 %, stratified) never changes.
        framing: options of event sets, e.g. steps=10.

    Returns:
        Dataset with x float32 [N, pixels] and y int64 [N]; pixels in the order channel, row, column. Event sets: x uint8
        [N, T, pixels].

    Raises:
        UnknownNameError: unknown name or scale.
        ValueError: valid outside [0, 1), train_size out of range, a scale for events.
        TypeError: options of event sets for images.
        RuntimeError: a download that failed, a file that is missing; says what to do.
    """
    known_name("data set", name, [*DATASETS, *EVENT_DATASETS])
    known_name("scale", scale, SCALES)
    if name in EVENT_DATASETS:
        if scale != "standard":
            raise ValueError(f"scale is {scale!r}, but events are counted, not scaled; max_count=1 gives frames of 0 and 1")
        return load_events(name, valid=valid, train_size=train_size, seed=seed, **framing)
    if framing:
        raise TypeError(f"{', '.join(framing)}: options of event sets ({', '.join(EVENT_DATASETS)}); {name!r} holds images")
    raw = DATASETS[name]()
    check_sizes(name, len(raw.y_train), valid, train_size)
    offset, factor = _scaling(raw) if scale == "standard" else (0.0, raw.top)
    train, held = set_aside(_scaled(raw.x_train, raw.y_train, offset, factor), valid, train_size, seed)
    test = _scaled(raw.x_test, raw.y_test, offset, factor)
    return Dataset(raw.name, train, held, test, raw.classes, shape=raw.shape)


def _scaling(raw: _Raw) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the training pixels of each channel, repeated for its pixels: two arrays [features]."""
    pixels = raw.shape[1] * raw.shape[2]
    channels = [raw.x_train[:, at : at + pixels] for at in range(0, raw.x_train.shape[1], pixels)]
    means = [channel.mean(dtype=np.float64) for channel in channels]
    deviations = [channel.std(dtype=np.float64) for channel in channels]
    return np.repeat(means, pixels), np.repeat(deviations, pixels)


def _scaled(x: NDArray[Any], y: NDArray[np.int64], offset: Any, factor: Any) -> Split:
    scaled = np.empty(x.shape, np.float32)
    for at in range(0, len(x), _BLOCK):
        scaled[at : at + _BLOCK] = (x[at : at + _BLOCK].astype(np.float64) - offset) / factor
    return Split(scaled, y)
