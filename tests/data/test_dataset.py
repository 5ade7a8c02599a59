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


def frames(samples=4, steps=5, dtype=np.float32):
    return split(samples, x=np.zeros((samples, steps, 3), dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_sequences_are_accepted(dtype):
    data = make(train=frames(dtype=dtype), test=frames(2, dtype=dtype), shape=(1, 3, 1))
    assert (data.sequence, data.steps, data.features) == (True, 5, 3)
    assert (data.shape, data.image_shape) == ((1, 3, 1), (3, 1))


def test_static_samples_have_no_steps():
    assert (make().sequence, make().steps, make().shape) == (False, None, None)


@pytest.mark.parametrize("given, shape", [((1, 3), (1, 1, 3)), ((2, 2), None)])
def test_pictures_of_one_channel_give_the_shape_where_they_fit(given, shape):
    data = make(image_shape=given)
    assert (data.image_shape, data.shape) == (given, shape)


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
        ({"train": split(x=np.zeros((4, 3, 1, 1), np.float32))}, ["(4, 3, 1, 1)", "[N, T, features]", "reshape(len(x), -1)"]),
        ({"train": split(x=np.zeros((4, 0, 3), np.float32))}, ["(4, 0, 3)", "[N, T, features]"]),
        ({"train": frames()}, ["tiny.test holds float32 static samples", "training split float32 sequences", "one kind"]),
        ({"train": frames(dtype=np.uint8), "test": frames()}, ["tiny.test holds float32 seq", "uint8 seq", "one kind"]),
        ({"train": frames(), "test": frames(steps=3)}, ["tiny.test has sequences of 3 steps", "training split of 5"]),
        ({"shape": (1, 2, 2)}, ["shape (1, 2, 2)", "3 features", "(channels, height, width)"]),
        ({"shape": (1, 3)}, ["shape (1, 3)", "(channels, height, width)"]),
        ({"shape": (3, -1, -1)}, ["shape (3, -1, -1)"]),
        ({"shape": (1, 3, 1), "image_shape": (1, 3)}, ["image_shape (1, 3)", "leave image_shape out"]),
        ({"train": split(y=np.zeros((4, 1), np.int64))}, ["(4, 1)", "labels [N]"]),
    ],
)
def test_bad_data_are_refused(change, parts):
    with pytest.raises(ValueError) as refusal:
        make(**change)
    for part in parts:
        assert part in str(refusal.value)


DTYPES = {"float64": {"x": np.zeros((4, 3))}, "int32": {"y": np.zeros(4, np.int32)}, "uint8": {"x": np.zeros((4, 3), np.uint8)}}


@pytest.mark.parametrize("change", DTYPES.values(), ids=DTYPES)
def test_other_dtypes_are_refused(change):
    with pytest.raises(TypeError, match=r"float32.*int64.*astype.*uint8 is taken for sequences \[N, T, features\] only"):
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
        ({"shape": (1, 3, 1.0)}, r"shape is 1\.0; it must be an integer"),
    ],
    ids=["lists in train", "lists in valid", "list of labels", "tuple", "classes", "shape"],
)
def test_parts_of_another_type_are_refused(change, message):
    with pytest.raises(TypeError, match=message):
        make(**change)
