"""Random networks in chip integers, drawn so that rare cases are common: saturation, ties at the threshold, negative bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.convolution import ConvShape
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
    host = HostInput(form, inputs, targets=("p0",) if form == "current" else ())
    return RandomCase(
        FixedNetwork(tuple(populations), tuple(connections), host, steps, "out"),
        _input(draw, form, fine, (steps, batch, inputs)),
    )


def random_image_case(seed: int, *, reset: str = "subtract", depth: int | None = None, delays: bool = False) -> RandomCase:
    """Draw a network of images: convolutions and full connections from each population to the next, some skipping others.

    All connections are aligned by their delays (what was sent in step t is heard in step t), and an input current goes into two
    populations where there are two. Regimes as in :func:`random_case`.

    Args:
        seed, reset: as in :func:`random_case`.
        depth: number of spiking populations, 1..3; None draws it.
        delays: draw the delays instead, so that the graph is not aligned (reset "subtract" only).
    """
    draw = np.random.default_rng(seed)
    layers = int(draw.integers(1, 4)) if depth is None else depth
    form = str(draw.choice(FORMS))
    fine = bool(draw.integers(2))
    steps, batch = int(draw.integers(2, 6)), int(draw.integers(1, 4))
    names = [*([INPUT] if form != "current" else []), *(f"p{i}" for i in range(layers)), "out"]
    images = {names[0]: _image(draw)}
    connections: list[Connection] = []
    for j, target in enumerate(names[1:], start=1):
        sources = [names[j - 1], *(name for name in names[: j - 1] if draw.integers(2))]
        for source in sources:
            # The place in the row is the step at which a population starts.
            delay = int(draw.integers(0, 4)) if delays else j - names.index(source) - 1
            largest = limits.GRADED_MAX if source == INPUT and form == "graded" else 1
            connections.append(_image_connection(draw, source, target, images, fine, delay, largest))
    populations = [
        _population(draw, name, math.prod(images[name]), at, reset, fine, images[name])
        for at, name in enumerate(names)
        if name not in (INPUT, "out")
    ]
    size = math.prod(images["out"])
    populations.append(Population("out", size, "accumulator", t_start=len(names) - 1, shape=images["out"]))
    targets = ("p0", "p1")[:layers] if form == "current" else ()
    inputs = sum(math.prod(images[name]) for name in targets or (INPUT,))
    host = HostInput(form, inputs, targets=targets)
    return RandomCase(
        FixedNetwork(tuple(populations), tuple(connections), host, steps, "out"),
        _input(draw, form, fine, (steps, batch, inputs)),
    )


def _population(
    draw: np.random.Generator,
    name: str,
    size: int,
    t_start: int,
    reset: str,
    fine: bool,
    shape: tuple[int, int, int] | None = None,
) -> Population:
    vth = 2 * int(draw.integers(1, 20)) if fine else int(draw.integers(1, limits.THRESHOLD_MAX + 1))
    dv = int(draw.choice([0, 0, 2048, 4096])) if fine else int(draw.integers(0, limits.DECAY_MAX + 1))
    exponent = 6 if fine else int(draw.integers(0, limits.BIAS_EXPONENT_MAX + 1))
    mantissa = (
        draw.integers(-4, 5, size) if fine else draw.integers(limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX + 1, size)
    )
    common: dict[str, Any] = {
        "vth": vth,
        "dv": dv,
        "bias_mant": mantissa,
        "bias_exp": exponent,
        "t_start": t_start,
        "shape": shape,
    }
    if reset == "zero":
        return Population(name, size, "lif", **common)
    delta = vth if draw.integers(2) else int(draw.integers(0, vth + 1))
    v_init = int(draw.integers(-64 * vth, 64 * vth)) if draw.integers(2) else 0
    return Population(name, size, delta=delta, v_init=v_init, **common)


def _connection(
    draw: np.random.Generator, source: str, target: str, shape: tuple[int, int], fine: bool, delays: bool
) -> Connection:
    weight = _weight(draw, shape, fine)
    # One less than the chip takes: with graded input, stock LIF could not be sent such sums (Lava's int32 channel).
    exponent = 0 if fine else int(draw.integers(0, limits.EXPONENT_MAX))
    delay = draw.integers(0, int(draw.integers(1, 8)), shape) if delays else 0
    return Connection(source, target, weight, exponent, delay)


def _weight(draw: np.random.Generator, shape: tuple[int, ...], fine: bool) -> NDArray[np.int64]:
    return 2 * (draw.integers(-4, 6, shape) if fine else draw.integers(-128, 128, shape))


def _image(draw: np.random.Generator) -> tuple[int, int, int]:
    channels, height, width = (int(n) for n in (draw.choice([1, 2, 3, 4]), *draw.integers(2, 6, 2)))
    return channels, height, width


def _image_connection(
    draw: np.random.Generator,
    source: str,
    target: str,
    images: dict[str, tuple[int, int, int]],
    fine: bool,
    delay: int,
    largest_input: int,
) -> Connection:
    """A convolution or a full connection; notes the target's image if it has none yet."""
    found = _convolution(draw, images[source], images.get(target)) if draw.integers(4) else None
    if found is None:
        images.setdefault(target, _image(draw))
        geometry = None
        shape: tuple[int, ...] = math.prod(images[target]), math.prod(images[source])
    else:
        geometry, shape = found
        images.setdefault(target, geometry.output_shape(shape))
    weight = _weight(draw, shape, fine)
    # The sums of up to four connections together must fit into Lava's int32 channel for stock LIF.
    bound = Connection(source, target, weight, geometry=geometry).bound(largest_input)
    room = int(math.log2(limits.WRAP_FREE_MAX / 5 / max(bound, 1)))
    exponent = 0 if fine else int(draw.integers(0, max(0, min(room, limits.EXPONENT_MAX)) + 1))
    return Connection(source, target, weight, exponent, delay, geometry)


def _convolution(
    draw: np.random.Generator, image: tuple[int, int, int], wanted: tuple[int, int, int] | None
) -> tuple[ConvShape, tuple[int, ...]] | None:
    """A geometry from ``image``, to an image of the shape ``wanted`` if that is given, and the shape of its kernel."""
    for _ in range(40):
        groups = int(draw.choice([n for n in (1, 1, 2, 3, 4) if image[0] % n == 0]))
        channels = groups * int(draw.integers(1, 4 // groups + 1)) if wanted is None else wanted[0]
        kernel = (channels, image[0] // groups, *(int(n) for n in draw.integers(1, 4, 2)))
        stride, padding, dilation = ((int(a), int(b)) for a, b in draw.integers((1, 0, 1), (4, 3, 3), (2, 3)).T)
        geometry = ConvShape(image, stride, padding, dilation, groups)
        places = [axis.outputs(taps) for axis, taps in zip(geometry.axes, kernel[2:], strict=True)]
        if channels % groups == 0 and min(places) > 0 and wanted in (None, (channels, *places)):
            return geometry, kernel
    return None


def _input(draw: np.random.Generator, form: str, fine: bool, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    if form == "current":
        top = 20 if fine else limits.CURRENT_MAX
        return draw.integers(-top, top + 1, shape)
    top = 1 if form == "spikes" else 3 if fine else limits.GRADED_MAX
    return draw.integers(0, top + 1, shape)
