"""What Dataset refuses, and how it says so."""

import math

import numpy as np
import pytest

from lava_snnlearn.data import Dataset, Split


def split(samples=4, features=3, **change):
    x = np.zeros((samples, features), np.float32)
    y = np.arange(samples, dtype=np.int64) % 2
    return Split(change.get("x", x), change.get("y", y))


def make(**change):
    parts = {"train": split(), "valid": split(0), "test": split(2), "classes": 2} | change
    return Dataset("tiny", **parts)


def with_value(value):
    x = np.zeros((4, 3), np.float32)
    x[2, 1] = value
    return split(x=x)


def test_sound_data_are_accepted():
    data = make()
    assert (data.features, len(data.train), len(data.valid), len(data.test)) == (3, 4, 0, 2)


@pytest.mark.parametrize(
    "change, parts",
    [
        ({"train": split(0)}, ["tiny.train is empty", "at least one sample"]),
        ({"test": split(0)}, ["tiny.test is empty"]),
        ({"test": split(2, 5)}, ["tiny.test has 5 features", "training split has 3"]),
        ({"valid": split(2, 5)}, ["tiny.valid has 5 features"]),
        ({"train": with_value(math.nan)}, ["tiny.train", "1 values", "(2, 1)"]),
        ({"train": with_value(math.inf)}, ["tiny.train", "infinite"]),
        ({"classes": 1}, ["label 1 at sample 1", "0..0", "`classes`"]),
        ({"train": split(y=np.array([0, 1, -1, 0]))}, ["label -1 at sample 2", "0..1"]),
        ({"train": split(y=np.array([0, 1]))}, ["(4, 3)", "(2,)", "[N, features]"]),
        ({"train": split(x=np.zeros((4, 3, 1), np.float32))}, ["(4, 3, 1)", "reshape(len(x), -1)"]),
        ({"train": split(y=np.zeros((4, 1), np.int64))}, ["(4, 1)", "labels [N]"]),
    ],
)
def test_bad_data_are_refused(change, parts):
    with pytest.raises(ValueError) as refusal:
        make(**change)
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("change", [{"x": np.zeros((4, 3))}, {"y": np.zeros(4, np.int32)}], ids=["float64", "int32"])
def test_other_dtypes_are_refused(change):
    with pytest.raises(TypeError, match=r"float32.*int64.*astype"):
        make(train=split(**change))


LISTS = Split([[0.0, 0.0, 0.0]], [0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train": LISTS}, r"tiny\.train\.x is of type list.*np\.asarray\(x, np\.float32\)"),
        ({"valid": LISTS}, r"tiny\.valid\.x is of type list"),
        ({"test": split(y=[0, 1, 0, 1])}, r"tiny\.test\.y is of type list.*np\.asarray\(y, np\.int64\)"),
        ({"train": (np.zeros((4, 3), np.float32), np.zeros(4, np.int64))}, r"tiny\.train is of type tuple.*snn\.data\.Split"),
        ({"classes": 2.5}, r"classes is 2\.5; it must be an integer"),
    ],
    ids=["lists in train", "lists in valid", "list of labels", "tuple", "classes"],
)
def test_parts_of_another_type_are_refused(change, message):
    with pytest.raises(TypeError, match=message):
        make(**change)
