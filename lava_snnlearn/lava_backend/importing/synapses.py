"""The synapses of Lava's connection processes as Connections of a FixedNetwork.

Lava cuts weights to what its sign mode holds in the first step; imported weights are those that it then computes with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from lava.proc.conv.utils import make_tuple
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights
from numpy.typing import NDArray
from scipy import sparse

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.lava_backend.graph import SIGN_MODES
from lava_snnlearn.lava_backend.importing.neurons import integers, one_integer
from lava_snnlearn.lava_backend.importing.wiring import LavaImportError, described
from lava_snnlearn.processes.delay_connection.process import DelayConnection

_MODES = {mode: name for name, mode in SIGN_MODES.items()}


@dataclass(frozen=True)
class SynapsePart:
    """Synapses that one Connection holds, in the flat order of Lava's ports; of a convolution the kernel as torch has it.

    weight: int64 [n_out, n_in] or [C_out, C_in / groups, kh, kw]. delay: a number or [n_out, n_in].
    """

    weight: NDArray[np.int64]
    exponent: int
    binary: bool
    sign_mode: str = "mixed"
    delay: Any = 0
    geometry: ConvShape | None = None
    label: str = ""


def synapse_parts(process: AbstractProcess) -> list[SynapsePart]:
    """The Connections that together do what this process does.

    Raises:
        LavaImportError: fractions, something under way at the start, or sums that Lava rounds delay by delay. LimitError:
        weights that no sign mode holds.
    """
    buffer = process.a_buf if isinstance(process, Conv) else process.a_buff
    if np.any(buffer.init):
        raise LavaImportError(f"{described(process)} starts with sums under way; set its buffer to 0")
    return [part for whole in SYNAPSES[type(process)](process) for part in _held(process, whole)]


def _dense(process: Any) -> list[SynapsePart]:
    weight, mode = _cut(process, integers(process, "weights", matrix_of(process.weights.init)))
    delay: Any = 0
    exponent = int(process.proc_params.get("weight_exp", 0))
    if isinstance(process, (DelayDense, DelaySparse)):
        delay = integers(process, "delays", matrix_of(process.delays.init))
        # Synapses of weight 0 carry nothing, and their delays would only lengthen the buffers.
        delay = np.where(weight == 0, 0, delay)
        if exponent < 0 and delay.any():
            weight, exponent = _shortened(process, weight, exponent), 0
    return [SynapsePart(weight, exponent, _binary(process), mode, delay)]


def _delay_connection(process: Any) -> list[SynapsePart]:
    fanout, options = process.proc_params["fanout"], process.proc_params
    shape = process.a_out.shape[0], process.s_in.shape[0]
    weights, mode = _cut(process, integers(process, "weights", process.weights.init))
    delays = integers(process, "delays", process.delays.init)
    source = np.repeat(np.arange(shape[1]), np.diff(fanout.first))
    weight, delay = weights[fanout.weight_index], delays[fanout.delay_index]
    parts: list[SynapsePart] = []
    left = np.flatnonzero(weight)
    # Several synapses may join the same two neurons: each part takes one of them.
    while len(left) or not parts:
        _, now = np.unique(fanout.target[left].astype(np.int64) * shape[1] + source[left], return_index=True)
        chosen = left[now]
        matrix, waits = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        matrix[fanout.target[chosen], source[chosen]] = weight[chosen]
        waits[fanout.target[chosen], source[chosen]] = delay[chosen]
        label = f"layer{len(parts)}" if parts else ""
        parts.append(SynapsePart(matrix, options["weight_exp"], options["num_message_bits"] == 0, mode, waits, label=label))
        left = np.delete(left, now)
    return parts


def _conv(process: Any) -> list[SynapsePart]:
    weight = integers(process, "weight", process.weight.init)
    stride, padding, dilation = (make_tuple(process.proc_params[key]) for key in ("stride", "padding", "dilation"))
    groups = one_integer(process, "groups")
    width, height, channels = (int(n) for n in process.input_shape)
    geometry = ConvShape((channels, height, width), stride[::-1], padding[::-1], dilation[::-1], groups)
    # Lava's convolution turns the kernel round, torch's does not; it takes the weights as they are and ignores weight_exp.
    kernel = weight.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]
    largest = geometry.largest_number(kernel.shape)
    if largest > limits.CONV_GEOMETRY_MAX:
        raise LimitError(
            f"{described(process)}: kernel, stride, padding, dilation or groups of {largest}; Lava keeps them as int8, up to "
            f"{limits.CONV_GEOMETRY_MAX}"
        )
    return [SynapsePart(kernel, 0, _binary(process), geometry=geometry)]


SYNAPSES: dict[type[AbstractProcess], Callable[[Any], list[SynapsePart]]] = {
    Dense: _dense,
    Sparse: _dense,
    DelayDense: _dense,
    DelaySparse: _dense,
    Conv: _conv,
    DelayConnection: _delay_connection,
}
"""The connections that can be imported, and how."""


def matrix_of(value: Any) -> NDArray[Any]:
    """Weights or delays as an array, however they are stored."""
    return value.toarray() if sparse.issparse(value) else np.asarray(value)


def _binary(process: Any) -> bool:
    return one_integer(process, "num_message_bits") == 0


def _cut(process: Any, weight: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """The weights that Lava computes with, and their sign mode."""
    mode = process.proc_params.get("sign_mode") or determine_sign_mode(weight)
    bits = int(process.proc_params.get("num_weight_bits", limits.WEIGHT_BITS))
    clipped = clip_weights(weight, mode, num_bits=limits.WEIGHT_BITS)
    return truncate_weights(clipped, mode, bits).astype(np.int64), _MODES[mode]


def _shortened(process: AbstractProcess, weight: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    """Weights after a shift to the right that loses nothing.

    Lava shifts what arrives after each delay by itself, and so rounds it by itself, which no Connection does.
    """
    kept = weight >> -exponent
    rest = weight != kept << -exponent
    if rest.any():
        raise LavaImportError(
            f"{described(process)} has delays, weight_exp {exponent} and the weight {weight[rest][0]}: Lava rounds what "
            f"arrives after each delay by itself. Use weights that are multiples of {1 << -exponent}, a weight_exp of at least "
            "0, or no delays"
        )
    return kept


def _held(process: AbstractProcess, part: SynapsePart) -> list[SynapsePart]:
    """The part in a form that a Connection takes: odd weights of both signs are doubled and halved again, or parted by sign."""
    weight = part.weight
    if part.sign_mode != "mixed" or not (weight & 1).any():
        return [part]
    low, high = limits.WEIGHT_MIN, limits.WEIGHT_MAX
    still = not np.any(part.delay) and part.exponent > limits.RIGHT_SHIFT_MIN
    if still and 2 * weight.min() >= low and 2 * weight.max() <= high:
        return [replace(part, weight=2 * weight, exponent=part.exponent - 1)]
    if np.abs(weight).max() > limits.UNSIGNED_WEIGHT_MAX or part.exponent < 0:
        raise LimitError(
            f"{described(process)}: weights from {weight.min()} to {weight.max()}, odd ones "
            f"among them, with the exponent {part.exponent}; a connection holds 8 bits, even weights of both signs or all of "
            "one sign"
        )
    halves = {"excitatory": np.maximum(weight, 0), "inhibitory": np.minimum(weight, 0)}
    label = f"{part.label}_" if part.label else ""
    return [replace(part, weight=half, sign_mode=mode, label=label + mode) for mode, half in halves.items()]
