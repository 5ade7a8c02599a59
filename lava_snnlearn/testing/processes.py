"""``check_process``: the whole proof of a Lava Process from one line, in the manner of scikit-learn's ``check_estimator``."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from numpy.typing import NDArray

from lava_snnlearn.lava_backend import InProcessModel, run_guarded
from lava_snnlearn.lava_backend.driver import find_model
from lava_snnlearn.lava_backend.housekeeping import remove_log_handlers, unregister
from lava_snnlearn.processes import Recorder, SampleSource

FIXED, FLOATING = "fixed_pt", "floating_pt"
TAGS = (FIXED, FLOATING)
_TIME_LIMIT = 30.0

Parameters = dict[str, Any]
Arrays = dict[str, NDArray]
Reference = Callable[[Parameters, Arrays, int], Mapping[str, NDArray]]


def _no_inputs(_rng: np.random.Generator, _parameters: Parameters, _steps: int) -> Arrays:
    return {}


@dataclass(frozen=True)
class ProcessCase:
    """How a process is to be checked.

    parameters: random valid constructor arguments from a numpy Generator; those of the fixed-point model.
    fixed, floating: references of the two models, written independently of them: from the parameters, the inputs and the number
        of steps to ``{name: array [steps, *shape]}``. A name is an OutPort (what it sends), a Var (its value after each step),
        or an attribute of the process to be read after the run (such as ``Recorder.spikes``). The fixed model has to be equal
        to its reference bit for bit, the floating-point model up to ``rtol``.
    inputs: random inputs, ``{InPort: array [steps, *shape]}``, from a Generator, the parameters and the number of steps.
    float_parameters: random arguments for the floating-point model; None means ``parameters``.
    refused: argument sets that the constructor has to refuse with ValueError or TypeError; each one replaces some of the valid
        arguments, and one of its names has to be in the message.
    reset: from parameters and a period P to the parameters of a process that starts afresh every P steps; None if it
        never does.
    steps, trials: length and number of the random runs with each model.
    """

    parameters: Callable[[np.random.Generator], Parameters]
    fixed: Reference
    floating: Reference
    inputs: Callable[[np.random.Generator, Parameters, int], Arrays] = _no_inputs
    float_parameters: Callable[[np.random.Generator], Parameters] | None = None
    refused: Sequence[Mapping[str, Any]] = ()
    reset: Callable[[Parameters, int], Parameters] | None = None
    steps: int = 24
    trials: int = 25
    rtol: float = 1e-9


def check_process(process_class: type[AbstractProcess], case: ProcessCase | None = None, seed: int = 0) -> None:
    """Check a Lava Process and its two ProcessModels against their case.

    Checked are: every Var is an array of shape (1,) or larger in both models; a plain ``Loihi2SimCfg(select_tag=...)`` finds
    both models; both are equal to their references in many random runs in this interpreter and in one guarded run each on
    Lava's runtime; bad arguments are refused; the state is reset where the case says so; no child process is left.

    Parameters
    ----------
    process_class: the Process.
    case: None means ``process_class.conformance_case()``.
    seed: of the random parameters and inputs.

    Raises
    ------
    AssertionError: names the check that failed, and how. All other errors that occur on the way become this one.
    """
    checked = process_class.conformance_case() if case is None else case
    before = set(multiprocessing.active_children())
    with _named(process_class, "found by a plain run configuration"):
        _check_discovery(process_class, checked, seed)
    with _named(process_class, "Vars are arrays"):
        _check_vars(process_class, checked, seed)
    for tag in TAGS:  # before the runs without a guard, so that a model that loops is noticed here
        with _named(process_class, f"{tag} model against its reference, on Lava's runtime"):
            _check_on_lava(process_class, checked, tag, seed)
    for tag in TAGS:
        with _named(process_class, f"{tag} model against its reference, driven in this interpreter"):
            _check_in_process(process_class, checked, tag, seed)
    with _named(process_class, "bad arguments are refused"):
        _check_refusals(process_class, checked, seed)
    if checked.reset is not None:
        with _named(process_class, "state is reset"):
            _check_reset(process_class, checked, checked.reset, seed)
    with _named(process_class, "no process is left"):
        left = set(multiprocessing.active_children()) - before
        _require(not left, f"still alive: {sorted(child.name for child in left)}")


@contextmanager
def _named(process_class: type, check: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        raise AssertionError(f"{process_class.__name__}: check '{check}' failed. {kind}{error}") from error


def _require(condition: bool, message: str) -> None:
    """An assert that python -O does not remove."""
    if not condition:
        raise AssertionError(message)


def _build(process_class: type[AbstractProcess], parameters: Parameters) -> AbstractProcess:
    """A process that Lava's global lists do not keep alive; it can be run all the same."""
    process = process_class(**parameters)
    remove_log_handlers([process])
    unregister([process])
    return process


def _draw(case: ProcessCase, tag: str, rng: np.random.Generator) -> tuple[Parameters, Arrays]:
    own = case.float_parameters if tag == FLOATING else None
    parameters = (own or case.parameters)(rng)
    return parameters, case.inputs(rng, parameters, case.steps)


def _check_discovery(process_class: type[AbstractProcess], case: ProcessCase, seed: int) -> None:
    for tag in TAGS:
        process = _build(process_class, _draw(case, tag, np.random.default_rng(seed))[0])
        model = find_model(process, tag)
        _require(tag in model.tags, f"Loihi2SimCfg(select_tag={tag!r}) chose {model.__name__}, which is not tagged so.")


def _check_vars(process_class: type[AbstractProcess], case: ProcessCase, seed: int) -> None:
    for tag in TAGS:
        process = _build(process_class, _draw(case, tag, np.random.default_rng(seed))[0])
        model = find_model(process, tag)
        for var in process.vars.members:
            is_array = min(var.shape, default=0) > 0
            _require(is_array, f"Var {var.name} has shape {var.shape}; use (1,) for a single value.")
            kind = getattr(model, var.name).cls
            scalar = f"{model.__name__} declares Var {var.name} as {kind.__name__}, for which Lava's Var.get may hang."
            _require(issubclass(kind, np.ndarray), f"{scalar} Use np.ndarray.")


def _check_in_process(process_class: type[AbstractProcess], case: ProcessCase, tag: str, seed: int) -> None:
    for trial in range(case.trials):
        parameters, inputs = _draw(case, tag, np.random.default_rng([seed, trial]))
        expected = _reference(case, tag)(parameters, inputs, case.steps)
        found = _drive(_build(process_class, parameters), tag, inputs, case.steps, list(expected))
        _compare(found, expected, case, tag, parameters)


def _check_on_lava(process_class: type[AbstractProcess], case: ProcessCase, tag: str, seed: int) -> None:
    parameters, inputs = _draw(case, tag, np.random.default_rng(seed))
    expected = _reference(case, tag)(parameters, inputs, case.steps)
    process = _build(process_class, parameters)
    for port, rows in inputs.items():
        SampleSource(data=rows).s_out.connect(getattr(process, port))
    recorders: dict[str, Callable[[], NDArray]] = {}
    for name in expected:
        recorders[name] = _record(process, name, case.steps)
    run_guarded(process, case.steps, Loihi2SimCfg(select_tag=tag), time_limit=_TIME_LIMIT)
    _compare({name: read() for name, read in recorders.items()}, expected, case, tag, parameters)


def _check_refusals(process_class: type[AbstractProcess], case: ProcessCase, seed: int) -> None:
    for bad in case.refused:
        parameters = {**case.parameters(np.random.default_rng(seed)), **bad}
        try:
            _build(process_class, parameters)
        except (ValueError, TypeError) as error:
            named = any(name in str(error) for name in bad)
            _require(named, f"the refusal of {dict(bad)} does not name the argument: {error}")
        else:
            raise AssertionError(f"the constructor accepted {dict(bad)}; it has to raise ValueError or TypeError.")


def _check_reset(
    process_class: type[AbstractProcess], case: ProcessCase, reset: Callable[[Parameters, int], Parameters], seed: int
) -> None:
    """Two equal samples give equal results; and, so that this proves something, do not without the reset between them."""
    period = case.steps
    shown = False
    for trial in range(case.trials):
        parameters, sample = _draw(case, FIXED, np.random.default_rng([seed, trial]))
        names = list(case.fixed(parameters, sample, period))
        inputs = {port: np.concatenate([rows, rows]) for port, rows in sample.items()}
        for interval in (period, 2 * period):
            process = _build(process_class, reset(parameters, interval))
            found = _drive(process, FIXED, inputs, 2 * period, names)
            unequal = [name for name, rows in found.items() if not np.array_equal(rows[:period], rows[period:])]
            shown = shown or bool(unequal)
            message = f"{unequal} differ between two equal samples of {period} steps. Parameters: {reset(parameters, interval)}"
            _require(interval > period or not unequal, message)
    _require(shown, "two samples are equal even without a reset, so this proves nothing: give the case stronger inputs.")


def _reference(case: ProcessCase, tag: str) -> Reference:
    return case.fixed if tag == FIXED else case.floating


def _drive(process: AbstractProcess, tag: str, inputs: Arrays, steps: int, names: Sequence[str]) -> Arrays:
    model = InProcessModel(process, tag)
    ports = {port.name for port in process.out_ports.members}
    variables = {var.name for var in process.vars.members}
    rows: dict[str, list[NDArray]] = {name: [] for name in names if name in ports | variables}
    for step in range(steps):
        sent = model.step(**{port: values[step] for port, values in inputs.items()})
        for name in rows:
            rows[name].append(sent[name] if name in ports else model.read(name))
    return {name: np.array(rows[name]) if name in rows else getattr(process, name) for name in names}


def _record(process: AbstractProcess, name: str, steps: int) -> Callable[[], NDArray]:
    """Connect a recorder to a port or Var; returns how to read the result after the run."""
    if name in {port.name for port in process.out_ports.members}:
        sink = Recorder(shape=getattr(process, name).shape, steps=steps)
        getattr(process, name).connect(sink.s_in)
        return lambda: sink.spikes
    if name in {var.name for var in process.vars.members}:
        sink = Recorder(shape=getattr(process, name).shape, steps=steps)
        sink.v_ref.connect_var(getattr(process, name))
        return lambda: sink.membranes
    return lambda: getattr(process, name)


def _compare(found: Arrays, expected: Mapping[str, NDArray], case: ProcessCase, tag: str, parameters: Parameters) -> None:
    for name, wanted in expected.items():
        rows = found[name]
        _require(rows.shape == wanted.shape, f"{name} has shape {rows.shape}, the reference {wanted.shape}.")
        tolerance = case.rtol if tag == FLOATING else 0.0
        unequal = np.argwhere(~np.isclose(rows, wanted, rtol=tolerance, atol=tolerance))
        if len(unequal):
            first = tuple(int(i) for i in unequal[0])
            raise AssertionError(
                f"{name} differs in {len(unequal)} of {rows.size} values, first in step {first[0]} (from 0) at index "
                f"{first[1:]}: model {rows[first]}, reference {wanted[first]}. Parameters: {parameters}"
            )
