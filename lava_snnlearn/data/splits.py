"""Stratified parts of labelled data: validation and test splits, smaller training sets, cross-validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import instance_of, real_number, whole_number
from lava_snnlearn.data.dataset import Dataset, Split


def check_sizes(name: str, samples: int, valid: float, train_size: int | None) -> None:
    """Raise ValueError or TypeError where no such parts can be taken from ``samples`` training samples."""
    real_number("valid", valid)
    if not 0 <= valid < 1:
        raise ValueError(f"valid is {valid}; it is the fraction of training samples set aside and must lie in [0, 1)")
    if train_size is not None and not 10 <= whole_number("train_size", train_size) <= samples:
        raise ValueError(f"train_size is {train_size}; {name} has 10 to {samples} training samples to choose")


def set_aside(train: Split, valid: float, train_size: int | None, seed: int) -> tuple[Split, Split]:
    """Training and validation split: of ``train_size`` samples (None: all), the fraction ``valid`` is set aside; stratified."""
    indices = np.arange(len(train))
    if train_size is not None and train_size < len(train):
        indices, _ = stratified(train.y, indices, f"train_size = {train_size}", seed, train_size=train_size)
    held = indices[:0]
    if valid > 0:
        indices, held = stratified(train.y, indices, f"valid = {valid}", seed, test_size=valid)
    return train.take(indices), train.take(held)


def stratified(
    labels: NDArray[np.int64], indices: NDArray[np.int64], wish: str, seed: int, **size: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two parts of ``indices`` with the class shares of ``labels[indices]``; sizes as in scikit-learn's train_test_split.

    Raises:
        ValueError: a part would lack a class; ``wish`` says in the message what was asked for.
    """
    from sklearn.model_selection import train_test_split

    try:
        chosen, rest = train_test_split(indices, stratify=labels[indices], random_state=seed, **size)
    except ValueError as error:
        raise ValueError(
            f"{wish} of {len(indices)} samples leaves a part without one sample of every class ({error}). Both need at least "
            "one sample a class: choose a size further away from none and all."
        ) from error
    return chosen, rest


def k_folds(data: Dataset, folds: int = 5, seed: int = 0) -> list[Dataset]:
    """Stratified cross-validation over all samples (train, valid and test together), for small sets.

    Each sample is in the test split of exactly one fold; validation splits are empty. Samples are taken as they are: with
    ``load(..., scale="standard")`` mean and deviation remain those of the original training split.

    Args:
        data: a data set of N samples in all.
        folds: k, from 2 to the number of samples of the rarest class.
        seed: of the draw.

    Returns:
        k data sets; the i-th is called "<name>-fold<i>of<k>", i from 1. Each holds a copy of the samples.

    Raises:
        ValueError: folds out of range. TypeError: folds not whole, data of another type.
    """
    from sklearn.model_selection import StratifiedKFold

    instance_of("data", data, Dataset, 'pass a Dataset, e.g. snn.data.load("digits")')
    parts = [split for split in (data.train, data.valid, data.test) if len(split)]
    whole = Split(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
    rarest = int(np.unique(whole.y, return_counts=True)[1].min())
    if not 2 <= whole_number("folds", folds) <= rarest:
        raise ValueError(f"folds is {folds}; {data.name} takes 2 to {rarest}, the number of samples of its rarest class")
    draw = StratifiedKFold(folds, shuffle=True, random_state=seed).split(whole.y, whole.y)
    return [
        Dataset(
            f"{data.name}-fold{number}of{folds}",
            whole.take(train),
            whole.take(train[:0]),
            whole.take(test),
            data.classes,
            data.image_shape,
            data.shape,
        )
        for number, (train, test) in enumerate(draw, start=1)
    ]
