"""Task sequences: permutations, rotations, splits, several sets in one form, joined sets; refusals. Nothing downloads."""

import re

import numpy as np
import pytest
import torchvision.datasets

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import (
    FIVE_DATASETS,
    Dataset,
    Split,
    TaskSequence,
    five_datasets,
    load,
    permuted,
    rotated,
    split,
)
from lava_snnlearn.data.places import DATA_VARIABLE

SPLITS = ("train", "valid", "test")


def made(features=6, classes=4, valid=4, steps=None, shape=None, name="made"):
    """Samples whose value i * 100 + f tells sample i and feature f; labels 0 .. classes - 1 in turn."""
    sizes = {"train": 8, "valid": valid, "test": 12}
    starts = dict(zip(sizes, np.cumsum([0, 8, valid]), strict=True))

    def part(label):
        number = np.arange(sizes[label])
        x = ((starts[label] + number)[:, None] * 100 + np.arange(features)).astype(np.float32)
        x = x if steps is None else np.stack([x + 0.25 * t for t in range(steps)], 1)
        return Split(x, number % classes)

    return Dataset(name, *map(part, SPLITS), classes=classes, shape=shape)


def order_of(part):
    """The feature that stands in each place of the samples of a part, the same for all of them."""
    features = part.x[..., :].astype(np.int64) % 100
    assert (features == features.reshape(-1, features.shape[-1])[0]).all(), "one order for all samples and steps"
    return features.reshape(-1, features.shape[-1])[0]


@pytest.mark.parametrize("steps", [None, 3])
def test_permutations_are_the_same_for_all_samples_of_a_task(steps):
    data = made(features=30, steps=steps)
    tasks = permuted(data, 4, seed=5)
    assert (tasks.name, tasks.heads, len(tasks)) == ("permuted-made", "shared", 4)
    orders = []
    for index, task in enumerate(tasks.tasks):
        assert (task.name, task.classes) == (f"made-permuted{index}", 4)
        found = [order_of(getattr(task, label)) for label in SPLITS]
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[0], found[2])
        assert sorted(found[0]) == list(range(30)), "a permutation"
        for label in SPLITS:
            before, after = getattr(data, label), getattr(task, label)
            assert np.array_equal(before.x[..., found[0]], after.x), "samples stay in their order"
            assert np.array_equal(before.y, after.y)
            assert after.x.flags.c_contiguous
        orders.append(tuple(found[0]))
    assert orders[0] == tuple(range(30)), "task 0 is the data"
    assert len(set(orders)) == 4


def test_permutations_depend_on_the_seed_alone():
    data = made(features=30)

    def orders(count, seed):
        return [tuple(order_of(task.test)) for task in permuted(data, count, seed).tasks]

    assert orders(2, 1) == orders(4, 1)[:2]
    assert orders(3, 1)[1:] != orders(3, 2)[1:]


def test_an_empty_validation_split_may_have_any_form():
    data = made()
    empty = Split(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    tasks = permuted(Dataset("bare", data.train, empty, data.test, 4), 2)
    assert [len(task.valid) for task in tasks.tasks] == [0, 0]
    assert len(tasks.joined().valid) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_right_angles_turn_the_pixels(channels):
    data = made(features=channels * 25, shape=(channels, 5, 5))
    tasks = rotated(data, [0, 90, -90, 180])
    assert (tasks.name, tasks.heads) == ("rotated-made", "shared")
    assert [task.name for task in tasks.tasks] == ["made-rotated0", "made-rotated90", "made-rotated-90", "made-rotated180"]
    for task, turns in zip(tasks.tasks, (0, 1, -1, 2), strict=True):
        for label in SPLITS:
            before, after = getattr(data, label), getattr(task, label)
            expected = np.rot90(before.x.reshape(-1, channels, 5, 5), turns, axes=(2, 3)).reshape(before.x.shape)
            np.testing.assert_allclose(after.x, expected, rtol=1e-6)
            assert after.x.dtype == np.float32
            assert np.array_equal(after.y, before.y)


def test_between_pixels_a_plane_stays_a_plane():
    """Linear interpolation is exact for a linear function: f(r, c) = 2 r + 3 c at the place where the pixel was before."""
    side, angle = 11, 30.0
    row, column = np.meshgrid(np.arange(side) - 5.0, np.arange(side) - 5.0, indexing="ij")
    x = (2 * row + 3 * column).reshape(1, -1).astype(np.float32)
    part = Split(x, np.zeros(1, np.int64))
    found = rotated(Dataset("plane", part, part, part, 1, shape=(1, side, side)), [angle]).tasks[0].test.x.reshape(side, side)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # Counter-clockwise with rows downwards: what is now at (row, column) was at (cos r + sin c, -sin r + cos c).
    expected = 2 * (cos * row + sin * column) + 3 * (-sin * row + cos * column)
    inside = row**2 + column**2 <= 25
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_a_number_of_angles_divides_the_half_turn():
    data = made(features=9, shape=(1, 3, 3))
    assert [task.name for task in rotated(data, 4).tasks] == [f"made-rotated{angle}" for angle in (0, 45, 90, 135)]


@pytest.mark.parametrize("heads", ["own", "shared"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_splits_are_groups_of_classes(heads, count):
    data = made()
    tasks = split(data, count, heads)
    size = 4 // count
    assert (tasks.name, tasks.heads, len(tasks)) == ("split-made", heads, count)
    for index, task in enumerate(tasks.tasks):
        first = index * size
        assert task.name == f"made-classes{first}to{first + size - 1}"
        assert task.classes == (size if heads == "own" else 4)
        for label in SPLITS:
            before, after = getattr(data, label), getattr(task, label)
            chosen = [n for n, y in enumerate(before.y) if first <= y < first + size]
            assert np.array_equal(after.x, before.x[chosen])
            assert np.array_equal(after.y, before.y[chosen] - (first if heads == "own" else 0))


def test_joined_tasks_with_a_shared_head_keep_their_labels():
    tasks = permuted(made(), 2, seed=0)
    joined = tasks.joined()
    assert (joined.name, joined.classes, tasks.first_classes) == ("permuted-made-joined", 4, (0, 0))
    for label in SPLITS:
        parts = [getattr(task, label) for task in tasks.tasks]
        assert np.array_equal(getattr(joined, label).x, np.concatenate([part.x for part in parts]))
        assert np.array_equal(getattr(joined, label).y, np.concatenate([part.y for part in parts]))


def test_joined_tasks_with_own_heads_have_their_classes_side_by_side():
    three, four, two = made(classes=3), made(valid=0), made(classes=2)
    tasks = TaskSequence("mixed", (three, four, two), "own")
    joined = tasks.joined()
    assert (joined.classes, tasks.first_classes) == (9, (0, 3, 7))
    assert np.array_equal(joined.train.y, np.concatenate([three.train.y, four.train.y + 3, two.train.y + 7]))
    assert np.array_equal(joined.valid.y, np.concatenate([three.valid.y, two.valid.y + 7]))
    assert len(joined.valid.x) == 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small stand-ins for the four sets of a local folder; the first pixel of each is black, the second white."""
    (tmp_path / "images").mkdir()
    draw = np.random.default_rng(0)

    def arrays(count, shape):
        x = draw.integers(0, 256, (count, *shape)).astype(np.uint8)
        x.reshape(count, -1)[:, :2] = (0, 255)
        return x, (np.arange(count) % 10).astype(np.uint8)

    for file, shape in (("mnist", (28, 28)), ("fashion_mnist", (28, 28)), ("cifar10_10k", (32, 32, 3))):
        (x_train, y_train), (x_test, y_test) = arrays(40, shape), arrays(20, shape)
        np.savez(tmp_path / f"images/{file}.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    x, y = arrays(100, (28, 28))
    np.savez(tmp_path / "images/notmnist_10k.npz", x=x, y=y)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    return tmp_path / "images"


def test_several_data_sets_come_in_one_form(folder):
    tasks = five_datasets()
    assert (tasks.name, tasks.heads) == ("4-datasets", "own")
    assert [task.name for task in tasks.tasks] == ["cifar10-10k", "mnist", "fashion", "notmnist-10k"]
    for task, name in zip(tasks.tasks, ("cifar10", "mnist", "fashion", "notmnist"), strict=True):
        assert (task.shape, task.classes, len(task.valid)) == ((3, 32, 32), 10, 0)
        plain = load(name, valid=0.0)
        for label in ("train", "test"):
            before, after = getattr(plain, label), getattr(task, label).x.reshape(-1, 3, 32, 32)
            assert np.array_equal(getattr(task, label).y, before.y)
            if name == "cifar10":
                assert np.array_equal(after.reshape(len(after), -1), before.x)
                continue
            for channel in range(3):
                assert np.array_equal(after[:, channel, 2:30, 2:30], before.x.reshape(-1, 28, 28))
            after[:, :, 2:30, 2:30] = before.x[0, 0]  # the pixel that is black in every stand-in
            assert (after == before.x[0, 0]).all(), "padded with black"


def test_notmnist_is_split_nine_to_one_in_its_order(folder):
    data = load("notmnist", valid=0.0, scale="unit")
    with np.load(folder / "notmnist_10k.npz") as store:
        assert (data.name, data.shape, len(data.train), len(data.test)) == ("notmnist-10k", (1, 28, 28), 90, 10)
        np.testing.assert_allclose(data.test.x, store["x"][90:].reshape(10, 784) / 255, atol=1e-7)
        assert np.array_equal(data.train.y, store["y"][:90])


def test_the_whole_sequence_takes_svhn_from_torchvision(folder, monkeypatch):
    draw = np.random.default_rng(1)
    pixels = {split: draw.integers(0, 256, (40, 3, 32, 32)).astype(np.uint8) for split in ("train", "test")}

    class Fake:
        def __init__(self, root, split, download):
            self.data, self.labels = pixels[split], np.arange(40) % 10

    monkeypatch.setattr(torchvision.datasets, "SVHN", Fake)
    tasks = five_datasets(FIVE_DATASETS)
    assert (tasks.name, len(tasks)) == ("5-datasets", 5)
    assert tasks.tasks[2].name == "svhn"
    found = load("svhn", valid=0.0, scale="unit").test.x
    np.testing.assert_allclose(found, pixels["test"].reshape(40, -1) / 255, atol=1e-7)


def test_cifar100_has_a_hundred_classes_in_ten_tasks(monkeypatch):
    class Fake:
        def __init__(self, root, train, download):
            self.data, self.targets = np.zeros((200, 32, 32, 3), np.uint8), list(range(100)) * 2
            self.data[1::2] = 255

    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Fake)
    data = load("cifar100", valid=0.0)
    assert (data.classes, data.shape) == (100, (3, 32, 32))
    assert [task.classes for task in split(data, 10).tasks] == [10] * 10


def test_a_set_that_is_not_at_hand_says_what_to_do(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "SVHN", fail)
    with pytest.raises(RuntimeError, match=rf"SVHN.*no network.*{DATA_VARIABLE}.*images/svhn\.npz"):
        five_datasets(["svhn"])
    with pytest.raises(RuntimeError, match=rf"notmnist cannot be downloaded.*{DATA_VARIABLE}.*images/notmnist_10k\.npz"):
        five_datasets(["notmnist"])


@pytest.mark.parametrize(
    "act, kind, message",
    [
        (lambda: permuted(made(), 0), ValueError, "tasks is 0; it must be at least 1"),
        (lambda: permuted(made(), 2.0), TypeError, "tasks is 2.0; it must be an integer"),
        (lambda: permuted(made(), 2, seed=-1), ValueError, "seed is -1"),
        (lambda: permuted("digits"), TypeError, "data is 'digits'; pass a Dataset"),
        (lambda: rotated(made()), ValueError, "made holds 6 features (float32); only static images with a shape"),
        (lambda: rotated(made(steps=2)), ValueError, "made holds 2 steps of 6 features"),
        (lambda: rotated(made(shape=(1, 2, 3)), []), ValueError, "angles is empty"),
        (lambda: rotated(made(shape=(1, 2, 3)), [0, float("nan")]), ValueError, "angle is nan; it must be finite"),
        (lambda: rotated(made(shape=(1, 2, 3)), ["90"]), TypeError, "angle is '90'"),
        (lambda: rotated(made(shape=(1, 2, 3)), 0), ValueError, "angles is 0"),
        (lambda: split(made(), 3), ValueError, "tasks is 3; made has 4 classes, which divide evenly into [1, 2, 4] tasks"),
        (lambda: split(made(classes=20), 10), ValueError, "made-classes8to9.train is empty"),
        (lambda: split(made(), 2, "joint"), UnknownNameError, "unknown heads 'joint'"),
        (lambda: five_datasets(["svnh"]), UnknownNameError, "Did you mean 'svhn'?"),
        (lambda: five_datasets("mnist"), ValueError, "names is 'mnist'; give one or more of cifar10, mnist, svhn"),
        (lambda: five_datasets([]), ValueError, "names is []"),
        (lambda: TaskSequence("none", (), "own"), ValueError, "none has no tasks"),
        (lambda: TaskSequence("two", (made(), 3), "own"), TypeError, "two: tasks[1] is 3; pass a Dataset"),
        (
            lambda: TaskSequence("two", (made(), made(features=7)), "own"),
            ValueError,
            "two: tasks[1] has 7 features (float32), tasks[0] has 6 features (float32)",
        ),
        (lambda: TaskSequence("two", (made(), made(steps=2)), "own"), ValueError, "tasks[1] has 2 steps of 6 features"),
        (
            lambda: TaskSequence("two", (made(), made(classes=3)), "shared"),
            ValueError,
            'two: tasks[1] has 3 classes, tasks[0] has 4; a shared head has one number of classes. Use heads="own"',
        ),
    ],
)
def test_refusals(act, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        act()
