"""Random networks in chip integers, drawn so that rare cases are common: saturation, ties at the threshold, negative bias."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import FORMS, HostInput


@dataclass(frozen=True)
class RandomCase:
    """A network and its integer input [T, B, n]."""

    network: FixedNetwork
    x: NDArray[np.int64]


def random_case(
    seed: int, *, reset: str = "subtract", depth: int | None = None, delays: bool = False, recurrent: bool = False
) -> RandomCase:
    """Draw a network and input.

    Two regimes alternate by chance. "Fine": small weights, small even thresholds, mostly no leak, so that membranes hit the
    threshold exactly. "Coarse": large weights with exponents, so that membranes run into the 24-bit limit.

    Args:
        seed: same seed, same case.
        reset: "subtract" (SoftResetLIF) or "zero" (stock LIF).
        depth: number of spiking populations, 1..3; None draws it.
        delays: draw synaptic delays (reset "subtract" only).
        recurrent: connect the first population to itself (reset "subtract" only).
    """
    draw = np.random.default_rng(seed)
    layers = int(draw.integers(1, 4)) if depth is None else depth
    form = str(draw.choice(FORMS))
    fine = bool(draw.integers(2))
    steps, batch = int(draw.integers(2, 9)), int(draw.integers(1, 4))
    sizes = [int(n) for n in draw.integers(1, 9, layers + 1)]
    inputs = sizes[0] if form == "current" else int(draw.integers(1, 9))
    shift = 0 if form == "current" else 1
    populations = [_population(draw, f"p{i}", sizes[i], i + shift, reset, fine) for i in range(layers)]
    populations.append(
        Population("out", sizes[-1], "accumulator", t_start=layers + shift, bias_mant=int(draw.integers(-50, 50)))
    )
    chain = [*([INPUT] if form != "current" else []), *(p.name for p in populations)]
    widths = {INPUT: inputs} | {p.name: p.size for p in populations}
    connections = [_connection(draw, a, b, (widths[b], widths[a]), fine, delays) for a, b in pairwise(chain)]
    if recurrent:
        connections.append(_connection(draw, "p0", "p0", (sizes[0], sizes[0]), fine, delays))
    host = HostInput(form, inputs, target="p0" if form == "current" else "")
    return RandomCase(
        FixedNetwork(tuple(populations), tuple(connections), host, steps, "out"),
        _input(draw, form, fine, (steps, batch, inputs)),
    )


def _population(draw: np.random.Generator, name: str, size: int, t_start: int, reset: str, fine: bool) -> Population:
    vth = 2 * int(draw.integers(1, 20)) if fine else int(draw.integers(1, limits.THRESHOLD_MAX + 1))
    dv = int(draw.choice([0, 0, 2048, 4096])) if fine else int(draw.integers(0, limits.DECAY_MAX + 1))
    exponent = 6 if fine else int(draw.integers(0, limits.BIAS_EXPONENT_MAX + 1))
    mantissa = (
        draw.integers(-4, 5, size) if fine else draw.integers(limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX + 1, size)
    )
    if reset == "zero":
        return Population(name, size, "lif", vth=vth, dv=dv, bias_mant=mantissa, bias_exp=exponent, t_start=t_start)
    delta = vth if draw.integers(2) else int(draw.integers(0, vth + 1))
    v_init = int(draw.integers(-64 * vth, 64 * vth)) if draw.integers(2) else 0
    return Population(
        name, size, vth=vth, delta=delta, dv=dv, bias_mant=mantissa, bias_exp=exponent, v_init=v_init, t_start=t_start
    )


def _connection(
    draw: np.random.Generator, source: str, target: str, shape: tuple[int, int], fine: bool, delays: bool
) -> Connection:
    weight = 2 * (draw.integers(-4, 6, shape) if fine else draw.integers(-128, 128, shape))
    # One less than the chip takes: with graded input, stock LIF could not be sent such sums (Lava's int32 channel).
    exponent = 0 if fine else int(draw.integers(0, limits.EXPONENT_MAX))
    delay = draw.integers(0, int(draw.integers(1, 8)), shape) if delays else 0
    return Connection(source, target, weight, exponent, delay)


def _input(draw: np.random.Generator, form: str, fine: bool, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    if form == "current":
        top = 20 if fine else limits.CURRENT_MAX
        return draw.integers(-top, top + 1, shape)
    top = 1 if form == "spikes" else 3 if fine else limits.GRADED_MAX
    return draw.integers(0, top + 1, shape)
