"""Sequences of frames and augmentations through the Trainer."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn import training
from lava_snnlearn.data import Dataset, Split, augmentation
from lava_snnlearn.methods import BPTT, SLTT
from lava_snnlearn.networks import mlp
from lava_snnlearn.training import Trainer, accuracy, predictions

STEPS, SHAPE, CLASSES = 5, (2, 3, 4), 3


def make_data(dtype: Any = np.uint8, *, samples: int = 48, steps: int = STEPS, shape: Any = SHAPE) -> Dataset:
    """Each class has two pixels that fire more often, one early and one late."""
    draw = np.random.default_rng(0)

    def split(number: int) -> Split:
        y = np.arange(number) % CLASSES
        rates = np.full((number, steps, 24), 0.3)
        rates[np.arange(number), : steps // 2, y] = 4
        rates[np.arange(number), steps // 2 :, y + 12] = 4
        return Split(draw.poisson(rates).astype(dtype), y.astype(np.int64))

    return Dataset("bursts", split(samples), split(12), split(30), CLASSES, shape=shape)


def make_network(dtype: torch.dtype = torch.float32, steps: int = STEPS) -> Any:
    torch.manual_seed(0)
    return mlp([24, 20, CLASSES], norm="sws", steps=steps).to(dtype)


def make_trainer(folder: Path | None = None, method: Any = None, data: Dataset | None = None, **changes: Any) -> Trainer:
    settings = {"epochs": 3, "batch_size": 16, "seed": 1, "checkpoint_batches": 1, "progress": False} | changes
    chosen = SLTT() if method is None else method
    return Trainer(make_network(), chosen, make_data() if data is None else data, run_dir=folder, **settings)


class Watched:
    """Training batches as the method sees them."""

    name, optimiser_every, preset = "watched", "batch", BPTT().preset

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __repr__(self) -> str:
        return "Watched()"

    def gradients(self, network: Any, x: Tensor, y: Tensor, on_step: Any = None) -> Any:
        self.seen.append((x.clone(), y.clone()))
        return BPTT().gradients(network, x, y, on_step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_batches_are_time_first_in_the_dtype_of_the_network(kind: Any, dtype: torch.dtype) -> None:
    data, watched = make_data(kind), Watched()
    Trainer(make_network(dtype), watched, data, epochs=1, batch_size=16, progress=False).fit()
    assert len(watched.seen) == 3
    samples = {sample.tobytes(): label for sample, label in zip(data.train.x, data.train.y, strict=True)}
    for x, y in watched.seen:
        assert (x.shape, x.dtype) == ((STEPS, 16, 24), dtype)
        assert x.is_contiguous()
        for number in range(16):
            assert samples.pop(x[:, number].numpy().astype(kind).tobytes()) == int(y[number])
    assert not samples


def test_both_kinds_of_sequences_train_to_the_same_bits(assert_same_weights: Any) -> None:
    counts, floats = make_trainer(), make_trainer(data=make_data(np.float32))
    counts.fit()
    floats.fit()
    assert_same_weights(counts.network, floats.network)


@pytest.mark.parametrize("method", [SLTT(), BPTT()])
def test_sequences_are_learnt(method: Any) -> None:
    trainer = make_trainer(method=method, epochs=12)
    assert accuracy(trainer.network, trainer.data.test) < 0.8
    trainer.fit()
    assert accuracy(trainer.network, trainer.data.test) > 0.9


@pytest.mark.parametrize("at_once", [1, STEPS * 24 * 7, 1 << 25])
def test_predictions_of_sequences_in_batches(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    data, network = make_data(), make_network(torch.float64)
    x = torch.from_numpy(data.test.x.astype(np.float64)).transpose(0, 1)
    expected = network.predict(x).numpy()
    sizes: list[int] = []
    predict = network.predict
    network.predict = lambda batch: sizes.append(batch.shape[1]) or predict(batch)
    monkeypatch.setattr(training, "_VALUES_AT_ONCE", at_once)
    assert np.array_equal(predictions(network, data.test), expected)
    assert sizes == {1: [1] * 30, STEPS * 24 * 7: [7, 7, 7, 7, 2]}.get(at_once, [30])
    assert len(set(expected.tolist())) > 1


def test_sequences_of_another_length_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'bursts' has sequences of 5 steps, the network simulates 4\. Build.*steps=5.*steps=4"
    ):
        Trainer(make_network(steps=4), SLTT(), make_data())


class Marked:
    """Multiplies each sample by a number that is drawn for it, and remembers what it got."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x * torch.rand(x.shape[1], dtype=x.dtype).view(1, -1, *[1] * (x.dim() - 2))


@pytest.mark.parametrize("shape, expected", [(SHAPE, (STEPS, 16, *SHAPE)), (None, (STEPS, 16, 24))])
def test_augmentations_see_frames_where_the_shape_is_known(shape: Any, expected: tuple[int, ...]) -> None:
    marked, watched, data = Marked(), Watched(), make_data(shape=shape)
    make_trainer(method=watched, data=data, augment=marked, epochs=1).fit()
    assert marked.shapes == [expected] * 3
    # Changed for training, and only there: the validation split is as before.
    whole = {sample.tobytes() for sample in data.train.x.astype(np.float32)}
    assert not any(x[:, 0].numpy().tobytes() in whole for x, _ in watched.seen)


def test_images_are_augmented(runs: ModuleType) -> None:
    watched = Watched()
    data = runs.make_data()
    data = Dataset("images", data.train, data.valid, data.test, 3, shape=(1, 2, 3))
    flip = augmentation("flip", (1, 2, 3), probability=1.0)
    Trainer(runs.make_network(), watched, data, epochs=1, batch_size=40, augment=flip, progress=False).fit()
    ((x, _),) = watched.seen
    assert np.array_equal(x.numpy().reshape(40, 2, 3), data.train.x.reshape(40, 2, 3)[:, :, ::-1])


@pytest.mark.parametrize("batches", [1, 4, 8])
def test_resume_with_augmentation_gives_the_same_bits(
    interrupt: Any, assert_same_weights: Any, rows: Any, tmp_path: Path, batches: int
) -> None:
    change = augmentation("crop_flip_cutout", SHAPE, padding=1)
    whole, plain = make_trainer(augment=change), make_trainer()
    expected = whole.fit()
    plain.fit()
    assert not torch.equal(whole.network.readout.weight, plain.network.readout.weight)
    interrupt(make_trainer(tmp_path, augment=change), batches)
    resumed = make_trainer(tmp_path, augment=augmentation("crop_flip_cutout", SHAPE, padding=1))
    assert rows(resumed.resume()) == rows(expected)
    assert_same_weights(resumed.network, whole.network)


def test_resume_with_another_augmentation_is_refused(interrupt: Any, tmp_path: Path) -> None:
    interrupt(make_trainer(tmp_path, augment=augmentation("crop", SHAPE, padding=1)), 2)
    for other in (None, augmentation("flip", SHAPE), augmentation("crop", SHAPE, padding=2)):
        with pytest.raises(ValueError, match="was made with augment = 'PerSample"):
            make_trainer(tmp_path, augment=other).resume()


def test_functions_are_known_by_their_names(interrupt: Any, tmp_path: Path) -> None:
    """A function has another address in each process."""

    def make(factor: float) -> Any:
        def twice(x: Tensor) -> Tensor:
            return factor * x

        return twice

    one, other = make(2.0), make(2.0)
    assert repr(one) != repr(other)
    interrupt(make_trainer(tmp_path, augment=one), 2)
    assert len(make_trainer(tmp_path, augment=other).resume().epochs) == 3


def test_the_settings_of_sequences_differ_from_those_of_flat_data() -> None:
    data = make_data()
    flat = Split(data.train.x.reshape(48, 1, -1), data.train.y)
    one = Dataset("bursts", flat, Split(flat.x[:12], flat.y[:12]), flat, CLASSES)
    same = [Split(part.x.reshape(len(part), STEPS, 24), part.y) for part in (one.train, one.valid, one.test)]
    digests = [
        Trainer(network, SLTT(), chosen).config()["data_sha256"]
        for network, chosen in ((mlp([120, 4, 3], steps=1), one), (make_network(), Dataset("bursts", *same, CLASSES)))
    ]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("augment", ["flip", 3, torch.nn.Identity])
def test_augmentations_that_cannot_be_called_are_refused(augment: Any) -> None:
    with pytest.raises(TypeError, match=r"augment is .*; pass a function of a batch, e\.g\. snn\.data\.augmentation"):
        make_trainer(augment=augment)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda x: x[1:],
            r"augment returned shape \(4, 16, 2, 3, 4\) and torch.float32 for a batch of shape \(5, 16, 2, 3, 4\)",
        ),
        (lambda x: x.double(), "augment returned shape .* and torch.float64"),
        (lambda x: None, "augment returned None for a batch of shape"),
    ],
)
def test_what_an_augmentation_returns_is_checked(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(augment=change).fit()
