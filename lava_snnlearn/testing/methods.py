"""``check_method``: the whole proof of a training method from one line, in the manner of scikit-learn's ``check_estimator``."""

from __future__ import annotations

import copy
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn.checks import LavaMissingError
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.fixed_point.twin import is_aligned
from lava_snnlearn.lava_presence import require_lava
from lava_snnlearn.methods.base import Loss, Method, StepResult
from lava_snnlearn.methods.bptt import BPTT
from lava_snnlearn.networks.energy import energy_net
from lava_snnlearn.networks.feedback import feedback_net
from lava_snnlearn.networks.mlp import mlp
from lava_snnlearn.networks.network import Network
from lava_snnlearn.testing.problems import CHAIN_PROBLEMS, ENGINES
from lava_snnlearn.training import History, Trainer
from lava_snnlearn.verification import verify

TOLERANCE = 1e-12
_FEATURES, _HIDDEN, _CLASSES, _BATCH = 6, 12, 3, 8


def check_method(method: Method, *, quick: bool = True) -> None:
    """Check a training method: its gradients, its manners, its learning, and what becomes of the network on the chip.

    All of :data:`CHECKS` are run, in this order, in one thread: the result is sound and every parameter gets a finite
    gradient, which is added to what is there; outputs are those of the network's own forward (in training mode not for a
    method with a true attribute ``perturbs``); with one time step the gradient is BPTT's; a method with an attribute
    ``engine`` equals the closed forms of that engine; a dataclass with a field ``chunk`` has the same result for every chunk
    of time; bad batches are refused; parameters and training mode are left alone; the optimiser's turn comes as often as
    declared; same seed, same bits; the loss falls; a run that was interrupted and resumed ends with the same bits as one that
    was not; the trained network is converted, emulated and verified (where there is no Lava: against torch alone).

    Parameters
    ----------
    method: any object that fulfils :class:`lava_snnlearn.methods.base.Method`. A method whose ``engine`` is none of
        ``lava_snnlearn.testing.problems.ENGINES`` and not None (such as "rate") is not compared with BPTT.
    quick: one seed; otherwise three.

    Raises
    ------
    AssertionError: names the check that failed, and how. All other errors that occur on the way become this one.
    """
    with _one_thread():
        for seed in (0,) if quick else (0, 1, 2):
            for check in CHECKS:
                _run(check, method, seed)


def _run(check: Callable[[Method, int], None], method: Method, seed: int) -> None:
    state = torch.get_rng_state()
    try:
        check(method, seed)
    except Exception as error:
        name = check.__name__.removeprefix("_check_")
        raise AssertionError(f"{method!r} fails check {name!r} (seed {seed}): {type(error).__name__}: {error}") from error
    finally:
        torch.set_rng_state(state)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The networks here are too small for more: a second thread only waits for the first, or for a busy core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _network(method: Method, seed: int, *, steps: int | None = None, norm: str | None = None) -> Any:
    """A small network with the method's published settings, float64, in training mode."""
    torch.manual_seed(seed)
    preset = method.preset
    sizes, total = [_FEATURES, _HIDDEN, _HIDDEN, _CLASSES], preset.steps if steps is None else steps
    if preset.energy:
        # One hidden layer: what the nudge moves shrinks from layer to layer, and 20 epochs of three batches are few.
        return energy_net([_FEATURES, _HIDDEN, _CLASSES], steps=total).double()
    options: dict[str, Any] = {"neuron": preset.neuron, "norm": preset.norm if norm is None else norm, "steps": total}
    if preset.feedback:
        return feedback_net(_FEATURES, sizes[1:-1], _CLASSES, **options).double()
    return mlp(sizes, **options).double()


def _batch(method: Method, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(_BATCH, _FEATURES, generator=generator, dtype=torch.float64)
    return torch.sigmoid(x) if method.preset.energy else x, torch.arange(_BATCH) % _CLASSES


def _gradients(method: Method, network: Network, x: Tensor, y: Tensor, seed: int) -> StepResult:
    torch.manual_seed(seed)
    return method.gradients(network, x, y)


def _grads(network: Network) -> dict[str, Tensor]:
    found = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"parameter {name} got no gradient"
        found[name] = parameter.grad.clone()
    return found


def _assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    for name, wanted in expected.items():
        error = float((found[name] - wanted).abs().max())
        limit = TOLERANCE * max(1.0, float(wanted.abs().max()))
        assert error <= limit, f"{what}: the gradient of {name} is off by {error:.3g} (allowed {limit:.3g})"


def _check_result(method: Method, seed: int) -> None:
    network, (x, y) = _network(method, seed), _batch(method, seed)
    result = _gradients(method, network, x, y, seed)
    assert isinstance(result.loss, float), f"loss is a {type(result.loss).__name__}, not a float"
    assert math.isfinite(result.loss), f"loss is {result.loss}"
    assert tuple(result.outputs.shape) == (_BATCH, _CLASSES), f"outputs have shape {tuple(result.outputs.shape)}"
    assert not result.outputs.requires_grad, "outputs are not detached"
    assert 0 <= result.spike_rate <= 1, f"spike_rate is {result.spike_rate}, outside of [0, 1]"
    for name, gradient in _grads(network).items():
        assert bool(torch.isfinite(gradient).all()), f"the gradient of {name} is not finite"
        # A bias in front of a norm has none, nor has the threshold of neurons whose clamp no mean input passes.
        may_be_zero = name.endswith(("bias", "threshold"))
        assert may_be_zero or bool((gradient != 0).any()), f"the gradient of {name} is zero everywhere"


def _check_gradients_add_up(method: Method, seed: int) -> None:
    network, (x, y) = _network(method, seed), _batch(method, seed)
    second = copy.deepcopy(network)
    _gradients(method, network, x, y, seed)
    once = _grads(network)
    before = {name: torch.full_like(parameter, 0.25) for name, parameter in second.named_parameters()}
    for name, parameter in second.named_parameters():
        parameter.grad = before[name].clone()
    _gradients(method, second, x, y, seed)
    _assert_close(_grads(second), {name: once[name] + before[name] for name in once}, "added to what .grad held before")


def _check_outputs_are_the_forward(method: Method, seed: int) -> None:
    for training in (False,) if getattr(method, "perturbs", False) else (True, False):
        network, (x, y) = _network(method, seed).train(training), _batch(method, seed)
        with torch.no_grad():
            twin = copy.deepcopy(network)
            expected = twin(x) if method.preset.energy else twin.readout.collect(twin(x))
        found = _gradients(method, network, x, y, seed).outputs
        error = float((found - expected).abs().max())
        limit = TOLERANCE * max(1.0, float(expected.abs().max()))
        assert error <= limit, (
            f"outputs differ from network.readout.collect(network(x)) by {error:.3g} (allowed {limit:.3g}; training={training})"
        )


def _check_one_step_is_bptt(method: Method, seed: int) -> None:
    if getattr(method, "engine", None) not in (None, *ENGINES):
        return
    loss = getattr(method, "loss", None)
    baseline = BPTT(loss=loss if isinstance(loss, Loss) else Loss())
    # Without norm and with the method's own: with one step, even batch norm over time is that of a single step.
    for norm in ("none", None):
        network, (x, y) = _network(method, seed, steps=1, norm=norm), _batch(method, seed)
        other = copy.deepcopy(network)
        try:
            _gradients(method, network, x, y, seed)
        except ValueError:
            return  # some methods need more than one step (SLTT-K with K > 1), and may say so
        _gradients(baseline, other, x, y, seed)
        _assert_close(_grads(network), _grads(other), f"one time step against BPTT, norm {norm or method.preset.norm!r}")


def _check_closed_forms(method: Method, seed: int) -> None:
    engine = getattr(method, "engine", None)
    if engine not in ENGINES:
        return
    loss = getattr(method, "loss", None)
    assert isinstance(loss, Loss), (
        f"a method with engine {engine!r} needs its loss as an attribute, a lava_snnlearn.methods.Loss"
    )
    for problem in CHAIN_PROBLEMS:
        network = problem.network()
        _gradients(method, network, problem.x, problem.y, seed)
        expected = {name: torch.from_numpy(value) for name, value in problem.gradients(engine, loss).items()}
        _assert_close(_grads(network), expected, f"closed form of engine {engine!r}, {problem.name}")


def _check_chunks_do_not_matter(method: Method, seed: int) -> None:
    steps = method.preset.steps
    chunked = {chunk: _with_chunk(method, chunk) for chunk in (1, 2, steps)}
    # What needs batch norm over time takes all steps at once, so that a chunk says nothing there.
    norm = "bn_step" if method.preset.norm == "bn_time" else None
    frame, y = _batch(method, seed)
    frames = torch.randn(steps, *frame.shape, generator=torch.Generator().manual_seed(seed), dtype=frame.dtype)
    for what, x in (("a static frame", frame), ("new frames", frames)):
        first: tuple[StepResult, dict[str, Tensor]] | None = None
        for chunk, variant in chunked.items():
            if variant is None:
                continue
            network = _network(method, seed, norm=norm)
            result = _gradients(variant, network, x, y, seed)
            first = (result, _grads(network)) if first is None else first
            where = f"chunk={chunk} against chunk=1, {what}"
            _assert_close(_grads(network), first[1], where)
            error = max(abs(result.loss - first[0].loss), float((result.outputs - first[0].outputs).abs().max()))
            limit = TOLERANCE * max(1.0, float(result.outputs.abs().max()))
            assert error <= limit, f"{where}: loss or outputs are off by {error:.3g}"


def _with_chunk(method: Any, chunk: int) -> Method | None:
    """The method with another chunk; None where it has none, or none beside its other options."""
    if not (dataclasses.is_dataclass(method) and hasattr(method, "chunk")):
        return None
    try:
        changed: Method = dataclasses.replace(method, chunk=chunk)  # type: ignore[assignment, type-var]
    except ValueError:
        return None
    return changed


def _check_bad_batches_are_refused(method: Method, seed: int) -> None:
    x, y = _batch(method, seed)
    steps = method.preset.steps
    not_finite = x.clone()
    not_finite[0, 0] = float("nan")
    bad: dict[str, tuple[Tensor, Tensor]] = {
        "an empty batch": (x[:0], y[:0]),
        "a label above the last class": (x, torch.full_like(y, _CLASSES)),
        "a negative label": (x, y - 1),
        "labels that are not int64": (x, y.double()),
        "fewer labels than samples": (x, y[:-1]),
        "NaN in the input": (not_finite, y),
        "infinity in the input": (x / 0.0, y),
        "a wrong width": (x[:, :-1], y),
        "a wrong number of steps": (x.expand(steps + 1, *x.shape), y),
        "integer input": (x.long(), y),
    }
    for what, (inputs, labels) in bad.items():
        network = _network(method, seed)
        try:
            _gradients(method, network, inputs, labels, seed)
        except ValueError as error:
            if not str(error):
                raise AssertionError(f"{what} is refused without a message") from error
        except Exception as error:
            raise AssertionError(f"{what} raises {type(error).__name__} ({error}) instead of ValueError") from error
        else:
            raise AssertionError(f"{what} is accepted; it has to raise ValueError")
        assert all(p.grad is None for p in network.parameters()), f"{what} is refused, but only after gradients were filled"


def _check_parameters_and_mode_are_left_alone(method: Method, seed: int) -> None:
    for training in (True, False):
        network, (x, y) = _network(method, seed).train(training), _batch(method, seed)
        before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        _gradients(method, network, x, y, seed)
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter, before[name]), f"parameter {name} was changed although no optimiser stepped"
        wrong = [name or "the network" for name, module in network.named_modules() if module.training is not training]
        assert not wrong, f"training mode of {wrong[0]} was changed from {training} to {not training}"


def _check_optimiser_has_its_turn(method: Method, seed: int) -> None:
    network, (x, y) = _network(method, seed), _batch(method, seed)
    every = method.optimiser_every
    assert every in ("batch", "step"), f"optimiser_every is {every!r}; it has to be 'batch' or 'step'"
    calls = 0

    def on_step() -> None:
        nonlocal calls
        calls += 1

    torch.manual_seed(seed)
    method.gradients(network, x, y, on_step)
    expected = network.steps if every == "step" else 0
    assert calls == expected, f"on_step was called {calls} times, expected {expected} (optimiser_every = {every!r})"


def _check_same_seed_same_bits(method: Method, seed: int) -> None:
    x, y = _batch(method, seed)
    results = []
    for _ in range(2):
        network = _network(method, seed)
        result = _gradients(method, network, x, y, seed)
        results.append((result, _grads(network)))
    (first, first_grads), (second, second_grads) = results
    assert first.loss == second.loss, "two runs with the same seed give different losses"
    assert torch.equal(first.outputs, second.outputs), "two runs with the same seed give different outputs"
    for name, gradient in first_grads.items():
        assert torch.equal(gradient, second_grads[name]), f"two runs with the same seed give different gradients of {name}"


def _task(method: Method, seed: int) -> Dataset:
    """Three well separated clouds."""
    generator = np.random.default_rng(seed)
    centres = 2.0 * np.kron(np.eye(_CLASSES), np.ones(_FEATURES // _CLASSES))

    def split(samples: int) -> Split:
        y = np.arange(samples) % _CLASSES
        x = centres[y] - centres.mean() + 0.3 * generator.standard_normal((samples, _FEATURES))
        x = 1 / (1 + np.exp(-x)) if method.preset.energy else x
        return Split(x.astype(np.float32), y.astype(np.int64))

    return Dataset("three clouds", split(48), split(12), split(24), classes=_CLASSES)


def _trainer(method: Method, seed: int, epochs: int, folder: Path | None = None) -> Trainer:
    options: dict[str, Any] = {} if folder is None else {"run_dir": folder, "checkpoint_batches": 1}
    network = _network(method, seed).float()
    return Trainer(network, method, _task(method, seed), epochs=epochs, seed=seed, batch_size=16, progress=False, **options)


def _check_loss_falls(method: Method, seed: int) -> None:
    losses = [row.train_loss for row in _trainer(method, seed, epochs=20).fit().epochs]
    assert losses[-1] < 0.7 * losses[0], f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g} in 20 epochs on three clouds"


class _Interruption(Exception):
    """Stands for a killed process."""


class _Interrupted:
    """The method, but breaking off at the n-th batch."""

    def __init__(self, method: Method, batch: int) -> None:
        self._method, self._left = method, batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def __repr__(self) -> str:
        return repr(self._method)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        self._left -= 1
        if self._left < 0:
            raise _Interruption
        return self._method.gradients(network, x, y, on_step)


def _check_resumed_run_has_the_same_bits(method: Method, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = _trainer(method, seed, 3, Path(folder) / "whole")
        expected = whole.fit()
        broken = Path(folder) / "broken"
        interrupted: Any = _Interrupted(method, batch=4)  # in the middle of the second of three epochs
        try:
            _trainer(interrupted, seed, 3, broken).fit()
        except _Interruption:
            pass
        else:
            raise AssertionError("the Trainer asked the method for fewer than 5 gradients in 3 epochs of 3 batches")
        resumed = _trainer(method, seed, 3, broken)
        found = resumed.resume()
    assert _rows(found) == _rows(expected), "the metrics of the resumed run differ from those of an uninterrupted one"
    weights = whole.network.state_dict()
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, weights[name]), f"{name} of the resumed run differs from that of an uninterrupted one"


def _rows(history: History) -> list[tuple[float, ...]]:
    return [
        (row.epoch, row.train_loss, row.train_accuracy, row.valid_accuracy, row.spike_rate, row.learning_rate)
        for row in history.epochs
    ]


def _check_converts(method: Method, seed: int) -> None:
    trainer = _trainer(method, seed, epochs=20)
    trainer.fit()
    train, test = trainer.data.train, trainer.data.test
    chip = quantize(trainer.network, calibration=train.x)
    wanted = trainer.network.predict(torch.from_numpy(test.x)).numpy()
    agreement = float((emulate(chip, test.x).predictions == wanted).mean())
    assert agreement >= 0.9, (
        f"after conversion to 8 bits, {agreement:.0%} of the predictions are the same (at least 90 % expected)"
    )


def _check_verifies(method: Method, seed: int) -> None:
    trainer = _trainer(method, seed, epochs=3)
    trainer.fit()
    chip = quantize(trainer.network, calibration=trainer.data.train.x)
    try:
        require_lava()
        against = None
    except LavaMissingError:
        if not is_aligned(chip):
            raise
        against = ("torch",)
    report = verify(chip, trainer.data.test.x[:2], against=against)
    assert report.ok, f"the converted network is not what runs on the chip:\n{report}"


CHECKS: tuple[Callable[[Method, int], None], ...] = (
    _check_result,
    _check_gradients_add_up,
    _check_outputs_are_the_forward,
    _check_one_step_is_bptt,
    _check_closed_forms,
    _check_chunks_do_not_matter,
    _check_bad_batches_are_refused,
    _check_parameters_and_mode_are_left_alone,
    _check_optimiser_has_its_turn,
    _check_same_seed_same_bits,
    _check_loss_falls,
    _check_resumed_run_has_the_same_bits,
    _check_converts,
    _check_verifies,
)
"""All checks, in the order in which they run."""
