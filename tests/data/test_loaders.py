"""Loaders: contents, scales, stratified draws, splits that do not overlap, refusals. No test downloads anything."""

import os
from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import load
from lava_snnlearn.data.places import DATA_VARIABLE as VARIABLE

OWN_FOLDER = os.environ.get(VARIABLE)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder with small stand-ins for both image sets; each pixel row is different, so that samples can be told apart."""
    (tmp_path / "images").mkdir()
    for seed, file in enumerate(("mnist.npz", "fashion_mnist.npz")):
        draw = np.random.default_rng(seed)
        arrays = {"x_train": draw.integers(0, 256, (200, 28, 28)), "x_test": draw.integers(0, 256, (60, 28, 28))}
        arrays["x_train"].flat[:2] = (0, 255)
        labels = {"y_train": np.arange(200) % 10, "y_test": np.arange(60) % 10}
        np.savez(tmp_path / "images" / file, **{name: value.astype(np.uint8) for name, value in (arrays | labels).items()})
    draw = np.random.default_rng(2)
    colours = {"x_train": draw.integers(0, 256, (200, 32, 32, 3)), "x_test": draw.integers(0, 256, (60, 32, 32, 3))}
    colours["x_train"][..., 1] //= 2  # channels with statistics of their own
    np.savez(
        tmp_path / "images" / "cifar10_10k.npz", **{name: value.astype(np.uint8) for name, value in (colours | labels).items()}
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path / "images"


def rows(x):
    return [row.tobytes() for row in x]


def overlap(a, b):
    return set(rows(a)) & set(rows(b))


@pytest.mark.parametrize("name, file", [("mnist", "mnist.npz"), ("fashion", "fashion_mnist.npz")])
def test_image_sets_are_read_from_the_folder(images, name, file):
    data = load(name, valid=0.0, scale="unit")
    with np.load(images / file) as store:
        expected = store["x_train"].reshape(200, 784) / 255.0
        np.testing.assert_allclose(data.train.x, expected, rtol=0, atol=1e-7)
        assert np.array_equal(data.train.y, store["y_train"])
        np.testing.assert_allclose(data.test.x, store["x_test"].reshape(60, 784) / 255.0, rtol=0, atol=1e-7)
        assert np.array_equal(data.test.y, store["y_test"])
    assert (data.name, data.classes, data.features, data.image_shape) == (name, 10, 784, (28, 28))
    assert data.shape == (1, 28, 28)


def test_colours_come_channel_by_channel(images):
    data = load("cifar10", valid=0.0, scale="unit")
    with np.load(images / "cifar10_10k.npz") as store:
        for sample in (0, 59):
            for channel, row, column in ((0, 0, 0), (1, 0, 31), (2, 5, 7), (2, 31, 31)):
                flat = (channel * 32 + row) * 32 + column
                assert data.test.x[sample, flat] == np.float32(store["x_test"][sample, row, column, channel] / 255.0)
        assert np.array_equal(data.train.y, store["y_train"])
    assert (data.name, data.shape, data.image_shape) == ("cifar10-10k", (3, 32, 32), (32, 32))


def test_colours_are_standardised_each_by_the_training_pixels(images):
    data = load("cifar10", valid=0.0)
    with np.load(images / "cifar10_10k.npz") as store:
        for channel in range(3):
            pixels = store["x_train"][..., channel].astype(np.float64)
            expected = (store["x_test"][..., channel] - pixels.mean()) / pixels.std()
            found = data.test.x.reshape(60, 3, 1024)[:, channel]
            np.testing.assert_allclose(found, expected.reshape(60, 1024), rtol=0, atol=1e-5)


def test_a_downloaded_cifar_is_whole_and_keeps_its_name(images, monkeypatch):
    """torchvision gives CIFAR-10 as an array and a list, unlike MNIST."""
    import torchvision.datasets

    class Fake:
        def __init__(self, root, train, download):
            self.data = np.full((50 if train else 20, 32, 32, 3), 7, np.uint8)
            self.data[0] = 0
            self.targets = [number % 10 for number in range(len(self.data))]

    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    data = load("cifar10", valid=0.0, scale="unit")
    assert (data.name, len(data.train), len(data.test)) == ("cifar10", 50, 20)
    assert data.test.y.tolist() == [number % 10 for number in range(20)]
    assert data.train.x[1, 0] == np.float32(7 / 255)


@pytest.mark.parametrize("variable", ["set", "unset"])
def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch, variable):
    import torchvision.datasets

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
    if variable == "set":
        monkeypatch.setenv(VARIABLE, str(tmp_path))  # a folder without the files
    else:
        monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(RuntimeError, match=rf"MNIST.*no network.*{VARIABLE}.*images/mnist\.npz"):
        load("mnist")


@pytest.mark.parametrize("name, file", [("mnist", "mnist.npz"), ("fashion", "fashion_mnist.npz")])
def test_image_sets_have_their_sizes_and_are_standardised(images, monkeypatch, name, file):
    """The real files, if the environment names a folder that holds them; otherwise the stand-ins."""
    real = OWN_FOLDER is not None and os.path.isfile(os.path.join(OWN_FOLDER, "images", file))
    if real:
        monkeypatch.setenv(VARIABLE, OWN_FOLDER)
    train, test = (60000, 10000) if real else (200, 60)
    data = load(name, valid=0.0)
    assert (data.train.x.shape, data.test.x.shape) == ((train, 784), (test, 784))
    assert min(np.bincount(data.test.y)) > 0.08 * test
    assert abs(data.train.x.mean(dtype=np.float64)) < 1e-5
    assert data.train.x.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_digits_are_those_of_scikit_learn():
    data = load("digits", valid=0.0, scale="unit")
    x, y = load_digits(return_X_y=True)
    assert (len(data.train), len(data.valid), len(data.test)) == (1437, 0, 360)
    assert (data.features, data.classes, data.image_shape, data.shape) == (64, 10, (8, 8), (1, 8, 8))
    found = Counter(
        zip(rows(np.rint(np.concatenate([data.train.x, data.test.x]) * 16)), [*data.train.y, *data.test.y], strict=True)
    )
    assert found == Counter(zip(rows(x.astype(np.float32)), y, strict=True))


def test_unit_scale_is_the_unit_interval():
    data = load("digits", scale="unit")
    assert (float(data.train.x.min()), float(data.train.x.max())) == (0.0, 1.0)
    assert float(data.test.x.min()) >= 0.0
    assert float(data.test.x.max()) <= 1.0


def test_standard_scale_uses_the_training_pixels_only():
    data, raw = load("digits", valid=0.0), load("digits", valid=0.0, scale="unit")
    pixels = raw.train.x.astype(np.float64)
    for found, given in ((data.train.x, raw.train.x), (data.test.x, raw.test.x)):
        np.testing.assert_allclose(found, (given - pixels.mean()) / pixels.std(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["digits", "mnist"])
@pytest.mark.parametrize("valid", [0.1, 0.25, 0.5])
def test_validation_split_is_stratified_and_apart(images, name, valid):
    whole = load(name, valid=0.0)
    data = load(name, valid=valid)
    assert len(data.valid) == int(np.ceil(valid * len(whole.train)))
    assert Counter(rows(data.train.x) + rows(data.valid.x)) == Counter(rows(whole.train.x))
    assert np.array_equal(data.test.x, whole.test.x)
    if name == "mnist":  # digits holds no twins either, but that is scikit-learn's business
        assert not overlap(data.valid.x, data.train.x)
        assert not overlap(data.valid.x, data.test.x)
    for label, count in Counter(whole.train.y.tolist()).items():
        assert abs(int((data.valid.y == label).sum()) - valid * count) <= 1.5


def test_digits_test_split_is_stratified_and_never_changes():
    first = load("digits", seed=0)
    for other in (load("digits", seed=7, valid=0.3), load("digits", train_size=100, scale="standard")):
        assert np.array_equal(first.test.x, other.test.x)
        assert np.array_equal(first.test.y, other.test.y)
    _, y = load_digits(return_X_y=True)
    for label in range(10):
        assert abs(int((first.test.y == label).sum()) - 0.2 * int((y == label).sum())) <= 1


def test_draws_depend_on_the_seed_alone():
    first, again, other = load("digits", seed=1), load("digits", seed=1), load("digits", seed=2)
    assert np.array_equal(first.valid.x, again.valid.x)
    assert np.array_equal(first.train.y, again.train.y)
    assert not np.array_equal(first.valid.x, other.valid.x)


@pytest.mark.parametrize("size", [10, 100, 1427, 1437])
def test_train_size_is_stratified(size):
    whole, data = load("digits", valid=0.0), load("digits", valid=0.0, train_size=size)
    assert len(data.train) == size
    assert not Counter(rows(data.train.x)) - Counter(rows(whole.train.x))
    for label in range(10):
        share = int((whole.train.y == label).sum()) * size / len(whole.train)
        assert abs(int((data.train.y == label).sum()) - share) <= 1.5


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"valid": 1.0}, ["valid is 1.0", "[0, 1)"]),
        ({"valid": -0.1}, ["valid is -0.1"]),
        ({"valid": float("nan")}, ["valid is nan"]),
        ({"train_size": 9}, ["train_size is 9", "10 to 1437"]),
        ({"train_size": 1438}, ["train_size is 1438", "10 to 1437"]),
        ({"train_size": 1433}, ["train_size = 1433 of 1437", "one sample a class"]),
        ({"valid": 0.0001}, ["valid = 0.0001 of 1437", "one sample a class"]),
        ({"train_size": 10, "valid": 0.1}, ["valid = 0.1 of 10", "one sample a class"]),
    ],
)
def test_bad_options_are_refused(options, parts):
    with pytest.raises(ValueError) as refusal:
        load("digits", **options)
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("arguments, near", [(("digit",), "digits"), (("Fashion",), "fashion")])
def test_unknown_data_set_is_refused(arguments, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        load(*arguments)


def test_options_of_events_are_refused_for_images():
    with pytest.raises(TypeError, match=r"steps, by: options of event sets \(.*nmnist.*\); 'digits' holds images"):
        load("digits", steps=10, by="count")


def test_unknown_scale_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'standard'"):
        load("digits", scale="standart")
