"""From a trained torch network to Loihi's integers.

:mod:`~lava_snnlearn.fixed_point.lowering` turns the network into populations and linear maps, :mod:`~lava_snnlearn.fixed_point.inputs`
chooses how the data come in, :mod:`~lava_snnlearn.fixed_point.scales` how large the integers are; here they are rounded and put
together, and every population gets its place in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from lava_snnlearn.fixed_point.lowering import Stage, lower
from lava_snnlearn.fixed_point.scales import integers, readout_scale, spiking_scale
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.fused import leaky_sum


def quantize(
    network: Network, *, weight_bits: int = 8, input: str | None = None, calibration: ArrayLike | None = None
) -> FixedNetwork:
    """Convert a trained network to fixed point.

    Args:
        network: trained; taken in eval mode (running statistics of batch norm). It is not changed.
        weight_bits: 2..8 bits a weight, sign included (multiples of 2^(9 - weight_bits)).
        input: form of the chip's input: "current" (the host computes the current that the data make), "graded" (8-bit graded
            spikes) or "spikes" (binary). None: "current" for the direct code, "spikes" for rate and latency codes.
        calibration: typical data [N, features] or [T, N, features], e.g. the training samples. Sets the range of graded
            input (required there), the scale of input currents, and that of the readout (which without it is coarse in
            long or wide networks, so that it cannot clip).

    Returns:
        FixedNetwork; ``notes`` tell the scales chosen and the weight error made.

    Raises:
        LimitError: weight_bits out of range, or a weight, threshold, bias or delay that the chip cannot hold; feedback that
            arrives too late because every layer takes a step on the chip.
        ValueError: NaN or infinity in the network or the calibration data, graded input without calibration.
        UnknownNameError: unknown input form.
    """
    if not isinstance(network, Network):
        raise TypeError(f"quantize takes a Network, got {type(network).__name__}; see lava_snnlearn.networks")
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
    return _assemble(network, entry, sample, weight_bits)


def _assemble(network: Network, entry: Entry, sample: NDArray[np.floating] | None, weight_bits: int) -> FixedNetwork:
    starts = _starts(entry.stages)
    populations: list[Population] = []
    connections: list[Connection] = []
    notes: list[str] = []
    for stage in entry.stages:
        if stage.name in entry.ceilings:
            scale = entry.ceilings[stage.name]
            notes.append(f"{stage.name}: input current in units of 2^-{scale}")
        elif stage.neuron is None:
            scale = readout_scale(stage, weight_bits, network.steps, _readout_peak(network, sample))
        else:
            hears_data = any(link.source == INPUT for link in stage.links)
            scale = spiking_scale(stage, weight_bits, entry.largest if hears_data else 1)
        populations.append(_population(stage, scale, starts[stage.name]))
        errors = []
        for link in stage.links:
            rounded = integers(link.weight, scale, weight_bits)
            root = np.sqrt(np.mean(link.weight**2)) or 1.0
            errors.append(float(np.sqrt(np.mean((rounded / 2.0**scale - link.weight) ** 2)) / root))
            # A source may start earlier than one step before its target: the spikes then wait in the synapse.
            delay = starts[stage.name] - starts.get(link.source, 0) + link.lag - 1
            _check_delay(stage.name, link.source, link.lag, delay)
            connections.append(Connection(link.source, stage.name, rounded, 0, delay, link.geometry))
        if errors:
            error = ", ".join(f"{error:.2%}" for error in errors)
            notes.append(f"{stage.name}: {weight_bits}-bit weights in units of 2^-{scale}, relative rms error {error}")
    return FixedNetwork(tuple(populations), tuple(connections), entry.host, network.steps, "readout", tuple(notes))


def _starts(stages: Sequence[Stage]) -> dict[str, int]:
    """First active step of each stage: one behind the latest that it hears without a lag; the input sends at step 0."""
    starts: dict[str, int] = {}
    for stage in stages:
        # A lag reaches back in time, to a source that may come later in the network.
        heard = [starts.get(link.source, 0) for link in stage.links if not link.lag]
        starts[stage.name] = 1 + max(heard) if heard else 0
    return starts


def _check_delay(target: str, source: str, lag: int, delay: int) -> None:
    if delay < 0:
        raise LimitError(
            f"feedback from {source} to {target} takes {lag} step(s) in the network, but on the chip every layer takes one, and the "
            f"spikes arrive {-delay} step(s) too late. Train with feedback_delay of at least {lag - delay} (pipelined timing)."
        )
    if delay > limits.DELAY_MAX:
        raise LimitError(
            f"the connection from {source} to {target} needs a delay of {delay} steps, more than {limits.DELAY_MAX}; use fewer layers "
            "between them"
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


def _population(stage: Stage, scale: int, t_start: int) -> Population:
    wanted = stage.bias * 2.0**scale * MEMBRANE_UNIT
    exponent = max(0, math.ceil(math.log2(max(float(np.abs(wanted).max()), 1.0) / limits.BIAS_MANTISSA_MAX)))
    neuron = stage.neuron
    fields: dict[str, Any] = {}
    if neuron is None:
        fields = {"kind": "accumulator", "dv": round(DECAY_ONE * stage.leak)}
    else:
        threshold = round(stage.threshold * 2.0**scale)
        start = round(stage.start * 2.0**scale * MEMBRANE_UNIT)
        fields = {"vth": threshold, "dv": round(DECAY_ONE * neuron.leak), "v_init": start}
        if neuron.reset == "zero":
            fields["kind"] = "lif"
            if fields["dv"] == 0:
                # Stock LIF fires at strict >. Without leak all potentials are whole weight units (the bias is made one), so
                # that > vth - 1 is >= vth. With leak, > differs from >= only by 1/64 unit.
                fields["vth"] = threshold - 1
                exponent = max(exponent, MEMBRANE_SHIFT)
    mantissa = np.rint(wanted / 2.0**exponent).astype(np.int64)
    shape = stage.shape if len(stage.shape) == 3 else None
    return Population(
        stage.name,
        stage.size,
        bias_mant=mantissa,
        bias_exp=exponent,
        t_start=t_start,
        scale_bits=scale,
        shape=shape,
        **fields,
    )
