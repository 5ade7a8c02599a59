"""The host's stage: how data reach the chip, chosen from calibration data.

"current": the host computes the current of every population that hears the data, in integers. "graded": the data become 8-bit
payloads, and offset and step of that code are folded into the maps that read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.data.encoders import encode
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.graph import INPUT
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS, HOST_WEIGHT_MAX, HostInput
from lava_snnlearn.fixed_point.lowering import Link, Stage
from lava_snnlearn.fixed_point.scales import exponent_below, spiking_scale, threshold_scale
from lava_snnlearn.networks.network import Network

CALIBRATION_MARGIN = 1.5
"""Input currents may exceed those of the calibration data by this factor."""
CALIBRATION_SAMPLES = 512
"""So many calibration samples are simulated to find the readout's sums, and are coded at a time."""
CURRENT_THRESHOLDS = 16
"""Without calibration data, input currents may reach this many thresholds."""


@dataclass(frozen=True)
class HostMap:
    """A population's part of the host's product, in real units.

    ``link``: map of the data. ``bias`` float64 [n]. ``scale``: one real unit of current is 2^scale weight units, each of them
    2^shift units of the host.
    """

    target: str
    link: Link
    bias: NDArray[np.float64]
    scale: int
    shift: int

    def integers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The host's weight and bias; weights beyond 16 bits are held at the ends of their range."""
        weight = np.rint(self.link.weight * 2.0 ** (self.shift + self.scale - DATA_FRACTION_BITS))
        bias = np.rint(self.bias * 2.0 ** (self.shift + self.scale))
        return np.clip(weight, -HOST_WEIGHT_MAX, HOST_WEIGHT_MAX).astype(np.int64), bias.astype(np.int64)


def current_host(maps: Sequence[HostMap], encoding: str) -> HostInput:
    """The host stage that computes the currents of these populations, in this order."""
    weights, biases = zip(*(part.integers() for part in maps), strict=True)
    return HostInput(
        "current",
        sum(len(part.bias) for part in maps),
        targets=tuple(part.target for part in maps),
        encoding=encoding,
        weight=np.concatenate(weights),
        bias=np.concatenate(biases),
        shift=maps[0].shift,
        geometry=maps[0].link.geometry,
    )


@dataclass(frozen=True)
class Entry:
    """How the data come in: the host stage, the stages as they are then, and scales that the input imposes on some of them.

    ``largest``: largest value that the input sends over a connection. ``maps``: what the host computes (form "current").
    """

    host: HostInput
    stages: list[Stage]
    ceilings: dict[str, int]
    largest: int = 1
    maps: tuple[HostMap, ...] = ()


def coded(network: Network, sample: NDArray[np.floating]) -> Iterator[NDArray[np.float64]]:
    """Calibration data as the chip sees them, [..., features], some samples at a time.

    A code changes the range (a rate of 0.1 is a spike of 1.0 now and then), and a coded data set is T times as large.
    """
    is_coded = sample.ndim == 2 and network.encoding != "direct"
    for at in range(0, sample.shape[-2], CALIBRATION_SAMPLES):
        part = np.ascontiguousarray(sample[..., at : at + CALIBRATION_SAMPLES, :])
        if is_coded:
            part = encode(torch.from_numpy(part), network.steps, network.encoding, seed=0).numpy()
        yield part.astype(np.float64)


def _data_link(stage: Stage) -> Link | None:
    return next((link for link in stage.links if link.source == INPUT), None)


def _without_data(stage: Stage) -> tuple[Link, ...]:
    return tuple(link for link in stage.links if link.source != INPUT)


def spikes_entry(network: Network, stages: Sequence[Stage]) -> Entry:
    """Binary spikes over connections."""
    return Entry(HostInput("spikes", network.inputs, encoding=network.encoding), list(stages), {})


def current_entry(network: Network, stages: Sequence[Stage], sample: NDArray[np.floating] | None, weight_bits: int) -> Entry:
    """The host computes the data's part of the currents, biases included.

    Raises:
        LimitError: currents too large beside a threshold, or populations that hear the data through different maps or with
            delays.
    """
    heard = [(stage, link) for stage in stages if (link := _data_link(stage)) is not None]
    if len({link.geometry for _, link in heard}) > 1 or any(stage.neuron is None for stage, _ in heard):
        raise LimitError(
            "input of the form 'current' goes through one linear map into spiking populations; this network reads the data in "
            "several ways. Use input='graded' or 'spikes'."
        )
    delayed = next(((stage.name, link.delay) for stage, link in heard if link.delay is not None), None)
    if delayed is not None:
        raise LimitError(
            f"{delayed[0]} hears the data with delays of up to {delayed[1].max()} steps, but an input of the form 'current' "
            "has no synapses to wait in. Use input='spikes' (events, or the codes 'rate' and 'latency')."
        )
    scales = [_current_scale(network, stage, link, sample, weight_bits) for stage, link in heard]
    weight_room = [exponent_below(HOST_WEIGHT_MAX, float(np.abs(link.weight).max())) for _, link in heard]
    # One shift for all targets: 2^shift host units are one weight unit of each. It must not turn zero (weights far below one
    # threshold need no more bits than the current keeps), nor pass 40, which only a scale below 1 could make it do.
    shift = DATA_FRACTION_BITS + min(
        max(min(room, 30 + min(scale, 0)), scale - DATA_FRACTION_BITS + 1) - scale
        for room, scale in zip(weight_room, scales, strict=True)
    )
    maps = tuple(
        HostMap(stage.name, link, stage.bias, scale, shift) for (stage, link), scale in zip(heard, scales, strict=True)
    )
    ceilings = {stage.name: scale for (stage, _), scale in zip(heard, scales, strict=True)}
    rest = [
        replace(stage, links=_without_data(stage), bias=np.zeros(stage.size)) if stage.name in ceilings else stage
        for stage in stages
    ]
    return Entry(current_host(maps, network.encoding), rest, ceilings, maps=maps)


def _current_scale(network: Network, stage: Stage, link: Link, sample: NDArray[np.floating] | None, weight_bits: int) -> int:
    """Scale of a population whose current the host computes."""
    largest = CURRENT_THRESHOLDS * stage.threshold
    if sample is not None:
        bias = torch.from_numpy(stage.bias)
        largest = CALIBRATION_MARGIN * max(
            float((link.apply(torch.from_numpy(part).flatten(0, -2)) + bias).abs().max()) for part in coded(network, sample)
        )
    scale = min(exponent_below(limits.CURRENT_MAX, largest), threshold_scale(stage))
    if others := _without_data(stage):
        scale = min(scale, spiking_scale(replace(stage, links=others), weight_bits, 1))
    if round(stage.threshold * 2.0**scale) < 1:
        raise LimitError(
            f"{stage.name}: input currents up to {largest:.4g} are too large beside the threshold {stage.threshold:g}"
        )
    return scale


def graded_entry(network: Network, stages: Sequence[Stage], sample: NDArray[np.floating] | None, weight_bits: int) -> Entry:
    """Graded spikes: x = offset + step * payload, folded into weights and biases of what reads the data.

    The membrane has room for about 13 bits of weight x payload. Among payload ranges of 3 to 8 bits, the one is taken
    whose rounding errors of payload and weight are smallest together.

    Raises:
        ValueError: no calibration data. LimitError: weights that no scale can hold.
    """
    if sample is None:
        raise ValueError("graded input needs `calibration` data, which set the range of the 8-bit payload")
    ranges = [(float(part.min()), float(part.max())) for part in coded(network, sample)]
    low, high = min(bottom for bottom, _ in ranges), max(top for _, top in ranges)
    grid = 1 << (limits.WEIGHT_BITS + 1 - weight_bits)
    options: list[tuple[float, float, list[Stage], int]] = []
    for levels in (limits.GRADED_MAX >> shift for shift in range(6)):
        step = (high - low) / levels or 1.0
        folded = [_folded(stage, low, step) for stage in stages]
        error = 0.0
        try:
            for stage in folded:
                link = _data_link(stage)
                if link is not None and stage.neuron is not None:
                    scale = spiking_scale(stage, weight_bits, levels)
                    largest = float(np.abs(link.weight).max())
                    error += (1 / levels) ** 2 + (grid / (largest * 2.0**scale or 1.0)) ** 2
        except LimitError:
            # Only the finest payload has to fit: the coarser ones enlarge the folded weights.
            if not options:
                raise
            break
        options.append((error, step, folded, levels))
    _, step, folded, levels = min(options, key=lambda option: option[0])
    host = HostInput("graded", network.inputs, encoding=network.encoding, offset=low, step=step)
    return Entry(host, folded, {}, levels)


def _folded(stage: Stage, low: float, step: float) -> Stage:
    """The stage with offset and step of the payload in its map of the data. Padding is payload 0, not the offset."""
    link = _data_link(stage)
    if link is None:
        return stage
    if link.delay is not None and low:
        raise LimitError(
            f"{stage.name} hears the data with delays, before which it hears nothing; in graded payloads, which begin at "
            f"{low:.4g} here, 0 is not nothing. Use data whose smallest value is 0, or input='spikes'."
        )
    sources = link.weight.shape[1] if link.geometry is None else link.geometry.sources
    offset = link.apply(torch.full((1, sources), low, dtype=torch.float64))[0].numpy()
    return replace(stage, links=(replace(link, weight=link.weight * step), *_without_data(stage)), bias=stage.bias + offset)
