"""Cross-validation: folds are a stratified partition of all samples."""

import numpy as np
import pytest

from lava_snnlearn.data import Dataset, Split, k_folds, load


def numbered(counts=(13, 11, 6), steps=2, valid=4, test=6):
    """Sequences whose first value is the number of the sample; the labels have these counts."""
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.zeros((len(y), steps, 4), np.uint8)
    x[:, 0, 0] = np.arange(len(y))
    parts = np.split(np.arange(len(y)), [len(y) - valid - test, len(y) - test])
    return Dataset("numbered", *(Split(x[part], y[part]) for part in parts), classes=len(counts), shape=(1, 2, 2)), y


@pytest.mark.parametrize("valid", [0, 4])
@pytest.mark.parametrize("folds", [2, 5, 6])
def test_folds_are_a_stratified_partition(folds, valid):
    data, y = numbered(valid=valid)
    found = k_folds(data, folds, seed=3)
    assert [fold.name for fold in found] == [f"numbered-fold{number}of{folds}" for number in range(1, folds + 1)]
    tested = []
    for fold in found:
        train, test = fold.train.x[:, 0, 0], fold.test.x[:, 0, 0]
        assert sorted([*train, *test]) == list(range(30))
        assert np.array_equal(fold.train.y, y[train])
        assert np.array_equal(fold.test.y, y[test])
        for label, count in enumerate((13, 11, 6)):
            assert abs(int((fold.test.y == label).sum()) - count / folds) < 1
        assert (len(fold.valid), fold.classes, fold.shape, fold.steps) == (0, 3, (1, 2, 2), 2)
        tested += test.tolist()
    assert sorted(tested) == list(range(30))


def test_folds_depend_on_the_seed_alone():
    data, _ = numbered()
    first, again, other = (k_folds(data, 3, seed=seed)[0].test.x for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_static_samples_are_folded_too():
    digits = load("digits")
    folds = k_folds(digits)
    assert sum(len(fold.test) for fold in folds) == 1797
    assert len(folds) == 5
    assert (folds[0].sequence, folds[0].image_shape) == (False, (8, 8))


@pytest.mark.parametrize("folds, error", [(1, ValueError), (7, ValueError), (2.0, TypeError)])
def test_bad_numbers_of_folds_are_refused(folds, error):
    data, _ = numbered()
    message = r"folds is 2\.0; it must be an integer" if error is TypeError else rf"folds is {folds}; numbered takes 2 to 6"
    with pytest.raises(error, match=message):
        k_folds(data, folds)


def test_folds_of_something_else_are_refused():
    with pytest.raises(TypeError, match="pass a Dataset"):
        k_folds(np.zeros((3, 3)))
