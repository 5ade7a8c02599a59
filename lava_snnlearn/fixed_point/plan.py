"""From a network to what its integers are made of: stages, input, scales, bias exponents; and from there to a FixedNetwork.

:func:`make_plan` makes all choices that depend on real-valued weights and calibration data, :func:`assemble` rounds. They are
apart because quantisation-aware training changes the weights in between (see :mod:`~lava_snnlearn.fixed_point.qat`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, finite, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_SHIFT, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import FORMS
from lava_snnlearn.fixed_point.inputs import CALIBRATION_SAMPLES, Entry, current_entry, graded_entry, spikes_entry
from lava_snnlearn.fixed_point.lowering import Link, Stage, lower
from lava_snnlearn.fixed_point.scales import beyond_range, integers, readout_scale, spiking_scale
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.fused import leaky_sum


@dataclass(frozen=True)
class Plan:
    """A network on its way to integers: real-valued stages, and all that was chosen for them.

    Args:
        entry: the host's part and the stages.
        weight_bits: bits a weight.
        steps: T.
        scales: per stage, k: one real unit is 2^k weight units.
        exponents: per stage, that of the bias.
    """

    entry: Entry
    weight_bits: int
    steps: int
    scales: Mapping[str, int]
    exponents: Mapping[str, int]


def make_plan(network: Network, weight_bits: int, input: str | None, calibration: ArrayLike | None) -> Plan:
    """All choices for a network; arguments and errors are those of :func:`~lava_snnlearn.fixed_point.quantize.quantize`."""
    within(
        "weight_bits",
        whole_number("weight_bits", weight_bits),
        2,
        limits.WEIGHT_BITS,
        "Loihi holds up to 8 bits a weight (sign included).",
    )
    usual = "current" if network.encoding == "direct" else "spikes"
    form = known_name("input form", usual if input is None else input, FORMS)
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        finite(f"network parameter {name}", value.detach().cpu().numpy())
    sample = _calibration(network, calibration)
    stages = lower(network)
    if form == "spikes":
        entry = spikes_entry(network, stages)
    else:
        entry = (current_entry if form == "current" else graded_entry)(network, stages, sample, weight_bits)
    scales = {stage.name: _scale(network, stage, entry, sample, weight_bits) for stage in entry.stages}
    exponents = {stage.name: bias_exponent(stage, scales[stage.name]) for stage in entry.stages}
    return Plan(entry, weight_bits, network.steps, scales, exponents)


def _scale(network: Network, stage: Stage, entry: Entry, sample: NDArray[np.floating] | None, weight_bits: int) -> int:
    if stage.name in entry.ceilings:
        return entry.ceilings[stage.name]
    if stage.neuron is None:
        return readout_scale(stage, weight_bits, network.steps, _readout_peak(network, sample))
    hears_data = any(link.source == INPUT for link in stage.links)
    return spiking_scale(stage, weight_bits, entry.largest if hears_data else 1)


def bias_exponent(stage: Stage, scale: int) -> int:
    """The least exponent at which the bias fits; whole weight units where > must be as good as >=."""
    largest = float(np.abs(stage.bias * 2.0**scale * MEMBRANE_UNIT).max())
    exponent = max(0, math.ceil(math.log2(max(largest, 1.0) / limits.BIAS_MANTISSA_MAX)))
    if stage.neuron is not None and stage.neuron.reset == "zero" and decay_constant(stage) == 0:
        # Stock LIF fires at strict >. Without leak all potentials are whole weight units (the bias is made one), so
        # that > vth - 1 is >= vth. With leak, > differs from >= only by 1/64 unit.
        return max(exponent, MEMBRANE_SHIFT)
    return exponent


def decay_constant(stage: Stage) -> int:
    """dv: the stage's leak in 1/4096."""
    return round(DECAY_ONE * (stage.leak if stage.neuron is None else stage.neuron.leak))


def assemble(plan: Plan) -> FixedNetwork:
    """Round the stages, and give every population its place in time.

    Raises:
        LimitError: a delay that the chip cannot hold; feedback that arrives too late.
    """
    entry, bits = plan.entry, plan.weight_bits
    starts = _starts(entry.stages)
    populations: list[Population] = []
    connections: list[Connection] = []
    notes: list[str] = []
    for stage in entry.stages:
        scale = plan.scales[stage.name]
        if stage.name in entry.ceilings:
            notes.append(f"{stage.name}: input current in units of 2^-{scale}")
        populations.append(population_of(stage, scale, plan.exponents[stage.name], starts[stage.name]))
        errors = []
        for link in stage.links:
            rounded = integers(link.weight, scale, bits)
            root = np.sqrt(np.mean(link.weight**2)) or 1.0
            errors.append(float(np.sqrt(np.mean((rounded / 2.0**scale - link.weight) ** 2)) / root))
            # A source may start earlier than one step before its target: the spikes then wait in the synapse.
            waiting = starts[stage.name] - starts.get(link.source, 0) + link.lag - 1
            delay = waiting if link.delay is None else waiting + link.delay
            _check_delay(stage.name, link, waiting)
            connections.append(Connection(link.source, stage.name, rounded, 0, delay, link.geometry))
        if errors:
            error = ", ".join(f"{error:.2%}" for error in errors)
            notes.append(f"{stage.name}: {bits}-bit weights in units of 2^-{scale}, relative rms error {error}")
        if held := sum(beyond_range(link.weight, scale, bits) for link in stage.links):
            notes.append(f"{stage.name}: {held} weights lie beyond the range of {bits} bits and are held at its ends")
    return FixedNetwork(tuple(populations), tuple(connections), entry.host, plan.steps, "readout", tuple(notes))


def population_of(stage: Stage, scale: int, exponent: int, t_start: int = 0) -> Population:
    """A stage's neurons in integers."""
    neuron = stage.neuron
    fields: dict[str, Any] = {"dv": decay_constant(stage)}
    if neuron is None:
        fields["kind"] = "accumulator"
    else:
        threshold = round(stage.threshold * 2.0**scale)
        fields |= {"vth": threshold, "v_init": round(stage.start * 2.0**scale * MEMBRANE_UNIT)}
        if neuron.reset == "zero":
            # See bias_exponent for the -1.
            fields |= {"kind": "lif", "vth": threshold - 1 if fields["dv"] == 0 else threshold}
    shape = stage.shape if len(stage.shape) == 3 else None
    mantissa = bias_mantissa(stage.bias, scale, exponent)
    return Population(
        stage.name, stage.size, bias_mant=mantissa, bias_exp=exponent, t_start=t_start, scale_bits=scale, shape=shape, **fields
    )


def bias_mantissa(bias: NDArray[np.float64], scale: int, exponent: int) -> NDArray[np.int64]:
    """A bias in real units as mantissas, held at the ends of their range."""
    wanted = np.rint(bias * 2.0**scale * MEMBRANE_UNIT / 2.0**exponent)
    return np.clip(wanted, limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX).astype(np.int64)


def _starts(stages: Sequence[Stage]) -> dict[str, int]:
    """First active step of each stage: one behind the latest that it hears without a lag; the input sends at step 0."""
    starts: dict[str, int] = {}
    for stage in stages:
        # A lag reaches back in time, to a source that may come later in the network.
        heard = [starts.get(link.source, 0) for link in stage.links if not link.lag]
        starts[stage.name] = 1 + max(heard) if heard else 0
    return starts


def _check_delay(target: str, link: Link, waiting: int) -> None:
    """``waiting``: steps that spikes wait in the synapse for their target's step, learned delays apart."""
    own = (0, 0) if link.delay is None else (int(link.delay.min()), int(link.delay.max()))
    if waiting + own[0] < 0:
        late = -waiting - own[0]
        raise LimitError(
            f"feedback from {link.source} to {target} takes {link.lag} step(s) in the network, but on the chip every layer "
            f"takes one, and the spikes arrive {late} step(s) too late. Train with feedback_delay of at least "
            f"{link.lag + late} (pipelined timing)."
        )
    if waiting + own[1] > limits.DELAY_MAX:
        learned = f" ({own[1]} of them learned)" if own[1] else ""
        remedy = "a smaller max_delay, or " if own[1] else ""
        raise LimitError(
            f"the connection from {link.source} to {target} needs a delay of {waiting + own[1]} steps{learned}, more than "
            f"{limits.DELAY_MAX}; use {remedy}fewer layers between them"
        )


def _calibration(network: Network, calibration: ArrayLike | None) -> NDArray[np.floating] | None:
    if calibration is None:
        return None
    data = np.asarray(calibration)
    if data.dtype.kind != "f" or data.ndim not in (2, 3) or data.shape[-1] != network.inputs or data.size == 0:
        raise ValueError(
            f"calibration data have shape {data.shape} and dtype {data.dtype}; expected floats [N, {network.inputs}] or "
            f"[T, N, {network.inputs}], at least one sample"
        )
    finite("calibration data", data)
    return data


@torch.no_grad()
def _readout_peak(network: Network, sample: NDArray[np.floating] | None) -> float | None:
    """Largest magnitude of the readout's running sum over calibration data."""
    if sample is None:
        return None
    weight = network.readout.weight
    some = torch.from_numpy(np.ascontiguousarray(sample[..., :CALIBRATION_SAMPLES, :]))
    was_training = network.training
    try:
        outputs = network.eval()(some.to(weight.device, weight.dtype))
    finally:
        network.train(was_training)
    return float(leaky_sum(outputs, 1 - network.readout.leak).abs().max())
