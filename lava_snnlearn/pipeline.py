"""The main job as one function: train, quantize, emulate on the whole test set, verify on Lava, report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from lava_snnlearn import distributed, methods, networks
from lava_snnlearn.checks import known_name
from lava_snnlearn.data import DATASETS, ENCODINGS, EVENT_DATASETS, Dataset, augmentation, load
from lava_snnlearn.data.batches import Augmentation, inputs
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.lava_presence import require_lava
from lava_snnlearn.methods.direct_engine import FeedbackMethod
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.norms import NORMS
from lava_snnlearn.neurons import LIF, RESETS
from lava_snnlearn.neurons.feedback import FeedbackLIF
from lava_snnlearn.training import History, Trainer, predictions
from lava_snnlearn.verification import BACKENDS, Report, verify

INPUTS = ("current", "graded", "latency", "rate", "spikes")
NETWORKS = ("nf_resnet", "preact_resnet", "vgg")
"""Networks that ``layers`` can name instead of listing layers."""
Layers = tuple[int, ...] | str
DEFAULT_LAYERS: dict[str, Layers] = {"digits": (128, 128), "mnist": (256, 256), "fashion": (256, 256)}
FEEDBACK_LAYERS: dict[str, Layers] = {"digits": (100,), "mnist": (400,), "fashion": (400,)}
ENERGY_LAYERS: dict[str, Layers] = {"digits": (128,)}
MAPS, FEEDBACK_MAPS, ROWS = "16C3s2-32C3s2-128", "64C5s2", (256,)
"""Layers for all other data: those that are images, these with feedback, and those that are not (or cannot be) maps."""
DEFAULT_EPOCHS = {"digits": 30, "mnist": 2, "fashion": 2}
BATCH_SIZE, ENERGY_BATCH_SIZE = 128, 20
CALIBRATION = 2000
"""Training samples that set the ranges of the integers."""
ALIGNED = 256
"""Test samples whose gradient is compared with the backpropagated one."""


@dataclass(frozen=True)
class Settings:
    """What to run; None takes the default of the method or the data set.

    ``input`` is "current" (the host computes the first layer's current), "graded" (8-bit graded spikes; the only one of energy
    networks, which are shown data of [0, 1]), "rate" or "latency" (binary spikes; the data are then scaled to [0, 1]), or
    "spikes" (event data only, with at most one event a pixel and frame).
    ``layers`` are sizes of dense layers, a text for :func:`~lava_snnlearn.networks.conv_net`, or one of
    :data:`NETWORKS` (then ``width`` scales its channels). ``frames`` says how events become frames, "time" or "count".
    ``options`` go to the method, e.g. {"update": "online"} or {"k": 2}. ``augment`` names image augmentations, e.g.
    "crop_flip". ``threads`` is part of the result: sums in another order round differently. Small networks are fastest with
    one. ``against`` names the backends that ``verify_samples`` test samples are compared with, as in
    :func:`~lava_snnlearn.verification.verify`; ("torch",) needs no Lava.
    """

    method: str = "ottt"
    data: str = "digits"
    options: tuple[tuple[str, Any], ...] = ()
    layers: Layers | None = None
    width: float = 1.0
    epochs: int | None = None
    steps: int | None = None
    leak: float | None = None
    reset: str = "subtract"
    norm: str | None = None
    input: str | None = None
    weight_bits: int = 8
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    verify_samples: int = 32
    against: tuple[str, ...] | None = None
    train_size: int | None = None
    augment: str | None = None
    frames: str = "time"
    threads: int = 1

    def __post_init__(self) -> None:
        known_name("method", self.method, methods.METHODS)
        known_name("data set", self.data, [*DATASETS, *EVENT_DATASETS])
        known_name("reset", self.reset, RESETS)
        for kind, name, valid in (("input", self.input, INPUTS), ("norm", self.norm, NORMS)):
            if name is not None:
                known_name(kind, name, valid)
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; training needs at least 1")
        if self.verify_samples < 1:
            raise ValueError(f"verify_samples is {self.verify_samples}; verify at least 1 sample")
        for backend in self.against or ():
            known_name("backend", backend, BACKENDS)
        if self.has_events and self.input in ENCODINGS:
            raise ValueError(
                f"input {self.input!r} is a code for images; {self.data} are events: use current, graded or spikes"
            )
        if self.input == "spikes" and not self.has_events:
            raise ValueError(f"input 'spikes' takes events; for {self.data} use current, graded, rate or latency")
        if not 2 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits is {self.weight_bits}; Loihi holds 2 to 8 bits a weight")

    @property
    def encoding(self) -> str:
        """Code of the network: the binary inputs are codes, the others take the data as they are."""
        return self.input if self.input is not None and self.input in ENCODINGS else "direct"

    def require_backends(self) -> None:
        """Raise LavaMissingError, before any work, if Lava is to be compared with and cannot be imported."""
        if self.against is None or "lava" in self.against:
            require_lava("--against torch verifies without Lava.")

    @property
    def has_events(self) -> bool:
        """Whether the data are events."""
        return self.data in EVENT_DATASETS

    def load(self, preset: methods.Preset) -> Dataset:
        """The data set: images in the scale that network and code need, events in as many frames as there are steps."""
        if not self.has_events:
            scale = "unit" if preset.energy or self.encoding != "direct" else "standard"
            return load(self.data, scale=scale, train_size=self.train_size)
        most: dict[str, Any] = {"max_count": 1} if self.input == "spikes" else {}
        steps = preset.steps if self.steps is None else self.steps
        return load(self.data, train_size=self.train_size, steps=steps, by=self.frames, **most)


AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Summary:
    """What a run gave: accuracies on the test set, verification, files. ``alignment``: of methods with feedback of their own,
    the cosine of their gradient and the backpropagated one, by weight."""

    folder: Path
    history: History
    network: FixedNetwork
    float_accuracy: float
    fixed_accuracy: float
    agreement: float
    alignment: dict[str, float]
    verification: Report
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether everything compared was equal."""
        return self.verification.ok

    def rows(self) -> list[list[str]]:
        """The accuracies on the test set, as text cells."""
        return [
            ["float (torch)", f"{self.float_accuracy:.4f}"],
            ["fixed point (emulator)", f"{self.fixed_accuracy:.4f}"],
            ["same prediction in both", f"{self.agreement:.4f}"],
        ]


class Stages:
    """Tells at the end of each stage of a run what it gave, and keeps how long it took."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._tell, self._clock = tell, time.perf_counter()

    def done(self, name: str, text: str) -> None:
        """This stage is done."""
        now = time.perf_counter()
        self.seconds[name], self._clock = now - self._clock, now
        if distributed.is_first():
            self._tell(text)


def run(
    settings: Settings, folder: Path, *, resume: bool = False, overwrite: bool = False, tell: Callable[[str], None] = print
) -> Summary | None:
    """Train, quantize, emulate, verify and report into ``folder``.

    Processes that ``torchrun`` started train together; process 0 alone does the rest, and the others return None.

    Args:
        settings: what to run.
        folder: gets config.json, metrics.csv, checkpoint.h5, weights.h5, network.h5, summary.json, report.html and PNGs.
        resume: continue an earlier run in this folder; overwrite: start anew there.
        tell: called with a line of text at each stage.

    Raises:
        FileExistsError, OSError, ValueError, LavaRunError: as in Trainer, quantize and run_lava.
    """
    from lava_snnlearn.run_report import write

    settings.require_backends()
    stages = Stages(tell)
    torch.set_num_threads(settings.threads)
    method = methods.get(settings.method, **dict(settings.options))
    if hasattr(method, "begin_task"):
        raise ValueError(f"{method.name} learns sequences of tasks; run it by lava_snnlearn.continual.pipeline")
    if method.preset.energy:
        _refuse_for_energy(settings, method)
    data = settings.load(method.preset)
    torch.manual_seed(settings.seed)
    settings = completed(settings, method, data)
    network = build_network(settings, method, data)
    trainer = _trainer(settings, network, method, data, folder)
    stages.done("load", f"{method}\n{counts(data)}")
    history = trainer.resume() if resume else trainer.fit(overwrite=overwrite)
    if not distributed.is_first():
        return None
    floats = predictions(network, data.test)
    float_accuracy = float((floats == data.test.y).mean())
    stages.done("train", f"trained {settings.epochs} epochs: test accuracy {float_accuracy:.4f} (float)")

    form = settings.input if settings.encoding == "direct" else "spikes"
    chip = quantize(network, weight_bits=settings.weight_bits, input=form, calibration=time_first(data.train.x[:CALIBRATION]))
    chip.save(folder / "network.h5")
    stages.done("quantize", f"quantized to {settings.weight_bits} bits: {folder / 'network.h5'}")
    answer = emulate(chip, time_first(data.test.x), record="outputs")
    fixed_accuracy = float((answer.predictions == data.test.y).mean())
    agreement = float((answer.predictions == floats).mean())
    clipped = sum(answer.saturated.values())
    stages.done("emulate", f"emulated: test accuracy {fixed_accuracy:.4f} (fixed point), {clipped} membranes clipped")
    proof = verify(chip, time_first(data.test.x[: settings.verify_samples]), against=settings.against)
    stages.done("verify", str(proof))
    cosines = _alignment(network, method, data)
    summary = Summary(folder, history, chip, float_accuracy, fixed_accuracy, agreement, cosines, proof, stages.seconds)
    write(settings, data, method, summary, answer)
    stages.done("report", f"report: {folder / 'report.html'}")
    return summary


def counts(data: Dataset) -> str:
    """One line about a data set."""
    return f"{data.name}: {len(data.train)} training, {len(data.valid)} validation, {len(data.test)} test samples"


def time_first(x: np.ndarray) -> np.ndarray:
    """Samples as emulator and quantize take them: static ones as they are, sequences [T, B, n] in float32."""
    found: np.ndarray = inputs(x, torch.device("cpu"), torch.float32).numpy()
    return found


def _refuse_for_energy(settings: Settings, method: methods.Method) -> None:
    """Raise ValueError, before any work, for what an energy network does not have."""
    unfit = {
        "data": settings.has_events,
        "input": settings.input not in (None, "graded"),
        "layers": isinstance(settings.layers, str),
        "width": settings.width != 1,
        "leak": settings.leak is not None,
        "norm": settings.norm not in (None, "none"),
        "reset": settings.reset != "subtract",
    }
    found = [f"{name} {getattr(settings, name)!r}" for name, wrong in unfit.items() if wrong]
    if found:
        raise ValueError(
            f"{', '.join(found)}: does not apply to {method.name}, whose energy networks settle on static images, sent as "
            "graded spikes, in dense layers without leak, reset and norm; leave it out"
        )


def completed(settings: AnySettings, method: methods.Method, data: Dataset) -> AnySettings:
    """The settings with the defaults of method and data set filled in, so that a report shows what was run."""
    preset = method.preset
    known: dict[str, Layers] = FEEDBACK_LAYERS if preset.feedback else ENERGY_LAYERS if preset.energy else DEFAULT_LAYERS
    maps: Layers = FEEDBACK_MAPS if preset.feedback else ROWS if preset.energy else MAPS
    defaults: dict[str, Any] = {
        "layers": known.get(settings.data, ROWS if data.shape is None or min(data.shape[1:]) < 8 else maps),
        "epochs": DEFAULT_EPOCHS.get(settings.data, 10),
        "steps": preset.steps,
        "batch_size": ENERGY_BATCH_SIZE if preset.energy else BATCH_SIZE,
        "learning_rate": preset.learning_rate,
        "input": "graded" if preset.energy else "current",
    }
    if not preset.energy:
        defaults["norm"] = preset.norm
        if not preset.neuron.trains_threshold:
            defaults["leak"] = preset.neuron.leak
    return dataclasses.replace(settings, **{key: value for key, value in defaults.items() if getattr(settings, key) is None})


def _neuron(settings: Settings, method: methods.Method) -> LIF:
    changes: dict[str, Any] = {"reset": settings.reset}
    if settings.leak is not None:
        if method.preset.neuron.trains_threshold:
            raise ValueError(f"{method.name} has neurons of its own, whose leak is not set here; leave the leak out")
        changes["leak"] = settings.leak
    return dataclasses.replace(method.preset.neuron, **changes)


def build_network(settings: Settings, method: methods.Method, data: Dataset) -> Classifier:
    """The network of completed settings, with weights from torch's generator."""
    layers = settings.layers
    if method.preset.energy:
        assert isinstance(layers, tuple)  # text was refused
        assert settings.steps is not None
        return networks.energy_net([data.features, *layers, data.classes], steps=settings.steps)
    neuron = _neuron(settings, method)
    options: dict[str, Any] = {"norm": settings.norm, "steps": settings.steps, "encoding": settings.encoding}
    assert layers is not None  # completed() has filled it in
    if isinstance(neuron, FeedbackLIF):
        source = data.features if data.shape is None else data.shape
        return networks.feedback_net(source, layers, data.classes, neuron, width=settings.width, **options)
    if not isinstance(layers, str):
        return networks.mlp([data.features, *layers, data.classes], neuron, **options)
    if data.shape is None:
        raise ValueError(f"layers {layers!r} need images, but {data.name} has plain features; give sizes, e.g. 256,256")
    if layers not in NETWORKS:
        return networks.conv_net(data.shape, layers, data.classes, neuron, width=settings.width, **options)
    if layers == "vgg":
        return networks.vgg(data.shape, data.classes, neuron, width=settings.width, **options)
    channels = max(1, round(64 * settings.width))
    if layers == "nf_resnet":
        if options.pop("norm") != "sws":
            raise ValueError("nf_resnet has standardised weights and no other norm; give norm sws")
        return networks.nf_resnet(data.shape, data.classes, neuron, width=channels, **options)
    return networks.preact_resnet(data.shape, data.classes, neuron, width=channels, **options)


def _trainer(settings: Settings, network: Classifier, method: methods.Method, data: Dataset, folder: Path) -> Trainer:
    assert settings.epochs is not None  # completed() has filled them in
    assert settings.batch_size is not None
    return Trainer(
        network,
        method,
        data,
        epochs=settings.epochs,
        seed=settings.seed,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        run_dir=folder,
        augment=image_augmentation(settings.augment, data),
    )


def image_augmentation(names: str | None, data: Dataset) -> Augmentation | None:
    """The augmentations of ``Settings.augment``.

    Raises:
        ValueError: data that are no images, an unknown name.
    """
    if names is None:
        return None
    if data.shape is None:
        raise ValueError(f"augment {names!r} needs images, but {data.name} has plain features")
    return augmentation(names, data.shape)


def _alignment(network: Classifier, method: methods.Method, data: Dataset) -> dict[str, float]:
    """Of methods whose errors go through feedback of their own: cosine with the backpropagated gradient, without noise."""
    if not isinstance(method, FeedbackMethod):
        return {}
    assert isinstance(network, networks.Network)
    # Test samples: on those that were learnt, the backpropagated gradient vanishes in the end.
    x = torch.from_numpy(time_first(data.test.x[:ALIGNED]))
    return methods.alignment(network.eval(), method, x, torch.from_numpy(data.test.y[:ALIGNED]))
