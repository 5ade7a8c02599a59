"""From a trained torch network to Loihi's integers.

Norms, weight standardisation and the 2.74 gain are folded into weights and biases. Each population gets one power-of-two
membrane scale 2^k (weight units per real unit): the largest for which its incoming weights fit into their bits, its
threshold leaves room for the membrane, and its bias fits into mantissa and exponent. A power of two keeps every integer a
dyadic real number, so that the quantised network can be computed exactly in floating point as well (see ``twin``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, finite, known_name, whole_number, within
from lava_snnlearn.data.encoders import encode
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_SHIFT, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS, FORMS, HOST_WEIGHT_MAX, HostInput
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import LIF

HEADROOM = 16
"""The membrane can hold this many thresholds before it is clipped."""
CALIBRATION_MARGIN = 1.5
"""Input currents may exceed those of the calibration data by this factor."""
READOUT_MARGIN = 4
"""The readout's membrane holds this multiple of the largest sum that calibration data reach."""
CALIBRATION_SAMPLES = 512
"""So many calibration samples are simulated to find that sum, and are coded at a time."""
CURRENT_THRESHOLDS = 16
"""Without calibration data, input currents may reach this many thresholds."""
_BIAS_LIMIT = limits.BIAS_MANTISSA_MAX << limits.BIAS_EXPONENT_MAX


def quantize(
    network: Network, *, weight_bits: int = 8, input: str | None = None, calibration: ArrayLike | None = None
) -> FixedNetwork:
    """Convert a trained network to fixed point.

    Args:
        network: trained; taken in eval mode (running statistics of batch norm). It is not changed.
        weight_bits: 2..8 bits a weight, sign included (multiples of 2^(9 - weight_bits)).
        input: form of the chip's input: "current" (the host computes the first layer's current), "graded" (8-bit graded
            spikes) or "spikes" (binary). None: "current" for the direct code, "spikes" for rate and latency codes.
        calibration: typical data [N, features] or [T, N, features], e.g. the training samples. Sets the range of graded
            input (required there), the scale of input currents, and that of the readout (which without it is coarse in
            long or wide networks, so that it cannot clip).

    Returns:
        FixedNetwork; ``notes`` tell the scales chosen and the weight error made.

    Raises:
        LimitError: weight_bits out of range, or a weight, threshold or bias that no scale can hold.
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
    folded = [layer.folded() for layer in [*network.spiking_layers, network.readout]]
    affine = [(weight.cpu().numpy(), bias.cpu().numpy()) for weight, bias in folded]
    neurons: list[LIF | None] = [*(layer.neuron for layer in network.spiking_layers), None]
    names = [*(f"layer{index + 1}" for index in range(len(affine) - 1)), "readout"]
    first_start = 0 if form == "current" else 1

    host, largest_input = HostInput("spikes", network.inputs, encoding=network.encoding), 1
    if form == "graded":
        host, affine[0], largest_input = _graded(network, sample, *affine[0], weight_bits)
    populations: list[Population] = []
    connections: list[Connection] = []
    notes: list[str] = []
    for index, (name, neuron, (weight, bias)) in enumerate(zip(names, neurons, affine, strict=True)):
        if index == 0 and form == "current":
            assert neuron is not None
            host, scale = _current(network, name, neuron, weight, bias, sample)
            populations.append(_population(name, neuron, np.zeros(len(bias)), scale, first_start))
            notes.append(f"{name}: input current in units of 2^-{scale}")
            continue
        if neuron is None:
            peak = _readout_peak(network, sample)
            scale = _readout_scale(weight, bias, weight_bits, network.steps, peak)
        else:
            scale = _scale(name, neuron, weight, bias, weight_bits, largest_input if index == 0 else 1)
        integers = _integers(weight, scale, weight_bits)
        error = float(np.sqrt(np.mean((integers / 2.0**scale - weight) ** 2)) / (np.sqrt(np.mean(weight**2)) or 1.0))
        populations.append(_population(name, neuron, bias, scale, first_start + index))
        connections.append(Connection(names[index - 1] if index else INPUT, name, integers))
        notes.append(f"{name}: {weight_bits}-bit weights in units of 2^-{scale}, relative rms error {error:.2%}")
    return FixedNetwork(tuple(populations), tuple(connections), host, network.steps, "readout", tuple(notes))


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


def _coded(network: Network, sample: NDArray[np.floating]) -> Iterator[NDArray[np.float64]]:
    """Calibration data as the chip sees them, [..., features], some samples at a time.

    A code changes the range (a rate of 0.1 is a spike of 1.0 now and then), and a coded data set is T times as large.
    """
    coded = sample.ndim == 2 and network.encoding != "direct"
    for at in range(0, sample.shape[-2], CALIBRATION_SAMPLES):
        part = np.ascontiguousarray(sample[..., at : at + CALIBRATION_SAMPLES, :])
        if coded:
            part = encode(torch.from_numpy(part), network.steps, network.encoding, seed=0).numpy()
        yield part.astype(np.float64)


def _integers(weight: NDArray[np.float64], scale: int, weight_bits: int) -> NDArray[np.int64]:
    """Weights in weight units, on the grid of ``weight_bits``."""
    grid = 1 << (limits.WEIGHT_BITS + 1 - weight_bits)
    return (grid * np.rint(weight * 2.0**scale / grid)).astype(np.int64)


def _exponent_below(limit: float, largest: float) -> int:
    """Largest k with largest * 2^k <= limit; a large number where there is nothing to hold."""
    return math.floor(math.log2(limit / largest)) if largest > 0 else 64


def _weight_scale(weight: NDArray[np.float64], bias: NDArray[np.float64], weight_bits: int) -> int:
    """Largest membrane scale k that holds weights and bias."""
    top = limits.WEIGHT_MAX + 2 - (1 << (limits.WEIGHT_BITS + 1 - weight_bits))
    by_bias = _exponent_below(_BIAS_LIMIT / MEMBRANE_UNIT, float(np.abs(bias).max()))
    return min(_exponent_below(top, float(np.abs(weight).max())), by_bias)


def _scale(
    name: str, neuron: LIF, weight: NDArray[np.float64], bias: NDArray[np.float64], weight_bits: int, largest_input: int
) -> int:
    """Membrane scale k of a spiking population: the largest that holds weights, threshold and bias."""
    by_threshold = _exponent_below(limits.THRESHOLD_MAX / HEADROOM, neuron.threshold)
    scale = min(_weight_scale(weight, bias, weight_bits), by_threshold)
    if neuron.reset == "zero":
        # Stock LIF's 24-bit current register wraps: too much excitation would turn into inhibition.
        scale = min(scale, _exponent_below(limits.THRESHOLD_MAX / largest_input / 2, float(np.abs(weight).sum(1).max())))
    if round(neuron.threshold * 2.0**scale) < 1:
        raise LimitError(
            f"{name}: weights up to {np.abs(weight).max():.4g} and biases up to {np.abs(bias).max():.4g} are too large beside "
            f"the threshold {neuron.threshold:g}: at the scale that holds them, the threshold rounds to 0. "
            "Train with smaller weights."
        )
    return scale


def _readout_scale(
    weight: NDArray[np.float64], bias: NDArray[np.float64], weight_bits: int, steps: int, peak: float | None
) -> int:
    """Membrane scale of the readout, which adds up over all steps.

    Without calibration it never clips, however many spikes arrive; that costs precision in long or wide networks. ``peak`` is
    the largest sum that calibration data reach: then the scale holds a multiple of it, and clipping is counted as everywhere.
    """
    widest = _weight_scale(weight, bias, weight_bits)
    safe = next(
        (
            k
            for k in range(widest, -limits.SCALE_MAX, -1)
            if steps * _largest_step(weight, bias, k, weight_bits) <= MEMBRANE_MAX
        ),
        None,
    )
    if peak is None:
        if safe is None:
            raise LimitError(
                f"readout: no scale keeps its 24-bit membrane from overflowing in {steps} steps, whatever spikes arrive. "
                "Use fewer steps, or pass calibration data, which tell what does arrive."
            )
        return safe
    calibrated = min(widest, _exponent_below(limits.THRESHOLD_MAX / READOUT_MARGIN, peak))
    return calibrated if safe is None else max(safe, calibrated)


@torch.no_grad()
def _readout_peak(network: Network, sample: NDArray[np.floating] | None) -> float | None:
    """Largest magnitude of the readout's running sum over calibration data."""
    if sample is None:
        return None
    weight = network.readout.weight
    some = torch.from_numpy(np.ascontiguousarray(sample[..., :CALIBRATION_SAMPLES, :]))
    was_training = network.training
    try:
        sums = network.eval()(some.to(weight.device, weight.dtype)).cumsum(0)
    finally:
        network.train(was_training)
    return float(sums.abs().max())


def _largest_step(weight: NDArray[np.float64], bias: NDArray[np.float64], scale: int, weight_bits: int) -> int:
    """Most that one step can add to a membrane, in membrane units: all inputs spike, and the bias is rounded up."""
    sums = np.abs(_integers(weight, scale, weight_bits)).sum(1) * MEMBRANE_UNIT
    coarsest = 1 << limits.BIAS_EXPONENT_MAX if bias.any() else 0
    return int((sums + np.ceil(np.abs(bias) * 2.0**scale * MEMBRANE_UNIT) + coarsest).max())


def _population(name: str, neuron: LIF | None, bias: NDArray[np.float64], scale: int, t_start: int) -> Population:
    wanted = bias * 2.0**scale * MEMBRANE_UNIT
    exponent = max(0, math.ceil(math.log2(max(float(np.abs(wanted).max()), 1.0) / limits.BIAS_MANTISSA_MAX)))
    fields: dict[str, Any] = {}
    if neuron is None:
        fields = {"kind": "accumulator"}
    else:
        threshold = round(neuron.threshold * 2.0**scale)
        fields = {"vth": threshold, "dv": round(DECAY_ONE * neuron.leak)}
        if neuron.reset == "zero":
            fields["kind"] = "lif"
            if fields["dv"] == 0:
                # Stock LIF fires at strict >. Without leak all potentials are whole weight units (the bias is made one), so
                # that > vth - 1 is >= vth. With leak, > differs from >= only by 1/64 unit.
                fields["vth"] = threshold - 1
                exponent = max(exponent, MEMBRANE_SHIFT)
    mantissa = np.rint(wanted / 2.0**exponent).astype(np.int64)
    return Population(name, len(bias), bias_mant=mantissa, bias_exp=exponent, t_start=t_start, scale_bits=scale, **fields)


def _current(
    network: Network,
    name: str,
    neuron: LIF,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    sample: NDArray[np.floating] | None,
) -> tuple[HostInput, int]:
    """Host stage that computes the first layer's current in integers, and the scale of its population."""
    largest = CURRENT_THRESHOLDS * neuron.threshold
    if sample is not None:
        largest = CALIBRATION_MARGIN * max(float(np.abs(part @ weight.T + bias).max()) for part in _coded(network, sample))
    scale = min(
        _exponent_below(limits.CURRENT_MAX, largest), _exponent_below(limits.THRESHOLD_MAX / HEADROOM, neuron.threshold)
    )
    if round(neuron.threshold * 2.0**scale) < 1:
        raise LimitError(f"{name}: input currents up to {largest:.4g} are too large beside the threshold {neuron.threshold:g}")
    weight_bits = _exponent_below(HOST_WEIGHT_MAX, float(np.abs(weight).max()))
    # The shift must not turn negative: weights far below one threshold need no more bits than the current keeps.
    # Nor may it pass 40, which only a scale below 1 could make it do.
    weight_bits = max(min(weight_bits, 30 + min(scale, 0)), scale - DATA_FRACTION_BITS + 1)
    unit = 2.0 ** (weight_bits + DATA_FRACTION_BITS)
    host = HostInput(
        "current",
        len(bias),
        targets=(name,),
        encoding=network.encoding,
        weight=np.rint(weight * 2.0**weight_bits).astype(np.int64),
        bias=np.rint(bias * unit).astype(np.int64),
        shift=weight_bits + DATA_FRACTION_BITS - scale,
    )
    return host, scale


def _graded(
    network: Network,
    sample: NDArray[np.floating] | None,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    weight_bits: int,
) -> tuple[HostInput, tuple[NDArray[np.float64], NDArray[np.float64]], int]:
    """Host stage for graded spikes: x = offset + step * payload, folded into the first layer's weight and bias.

    Returns the host stage, the folded weight and bias, and the largest payload.

    The membrane has room for about 13 bits of weight x payload. Among payload ranges of 3 to 8 bits, the one is taken
    whose rounding errors of payload and weight are smallest together.
    """
    if sample is None:
        raise ValueError("graded input needs `calibration` data, which set the range of the 8-bit payload")
    ranges = [(float(part.min()), float(part.max())) for part in _coded(network, sample)]
    low, high = min(bottom for bottom, _ in ranges), max(top for _, top in ranges)
    neuron = network.spiking_layers[0].neuron
    grid, largest = 1 << (limits.WEIGHT_BITS + 1 - weight_bits), float(np.abs(weight).max())
    options: list[tuple[float, float, tuple[NDArray[np.float64], NDArray[np.float64]], int]] = []
    for levels in (limits.GRADED_MAX >> shift for shift in range(6)):
        step = (high - low) / levels or 1.0
        folded = (weight * step, bias + weight.sum(1) * low)
        try:
            scale = _scale("layer1", neuron, *folded, weight_bits, levels)
        except LimitError:
            # Only the finest payload has to fit: the coarser ones enlarge the folded weights.
            if not options:
                raise
            break
        error = (1 / levels) ** 2 + (grid / (largest * step * 2.0**scale or 1.0)) ** 2
        options.append((error, step, folded, levels))
    _, step, folded, levels = min(options, key=lambda option: option[0])
    return HostInput("graded", network.inputs, encoding=network.encoding, offset=low, step=step), folded, levels
