"""DelayConnection: synapses with a delay each, given as edges or as a matrix; a step costs its spikes, not the matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from lava.utils.weightutils import SignMode
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from lava_snnlearn.checks import finite, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.delays import Fanout, prepare
from lava_snnlearn.processes.parameters import plain_var, ranged, sample_times, single_var

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

_NAME = "DelayConnection"
_MESSAGE_BITS_MAX = 32
_SIGN_MODES = (SignMode.MIXED, SignMode.EXCITATORY, SignMode.INHIBITORY)
_DELAYS = f"Delays are 0..{limits.DELAY_MAX} steps: let relay neurons repeat spikes that have to wait longer."
_NEGATIVE_EXPONENT = (
    "A right shift would cut each arrival bucket on its own, so that sums would depend on how delays split them: use larger "
    "weights and scale the neurons' thresholds."
)


class DelayConnection(AbstractProcess):
    """Synapses ``target[i] <- source[i]`` with weight ``weights[weight_index[i]]`` and delay ``delays[delay_index[i]]``.

    A spike of step t arrives at step ``t + 1 + delay``; several synapses between the same two neurons add up::

        a_out[t, n] = sum over synapses i with target[i] = n of  weight_i * s_in[t - 1 - delay_i, source[i]]  << weight_exp

    What arrives is sent before anything is received, as by Lava's ``Dense``, so that it may close a loop. At the first step of
    each sample of ``reset_interval`` steps what is still under way is dropped.

    The ``fixed_pt`` model is equal to stock ``DelayDense`` and ``DelaySparse`` bit for bit: weights are clipped and cut as
    ``sign_mode`` and ``num_weight_bits`` say, sums wrap at int32. The ``floating_pt`` model is equal to theirs up to the order
    of summation; like them it takes weights as they are and ignores ``weight_exp``. Unlike stock, a step takes time for its
    spikes and their synapses only, and weights set between runs are cut as those of the constructor.

    Ports: InPort ``s_in`` [n_in], OutPort ``a_out`` [n_out]; int32 in the ``fixed_pt`` model, float in the ``floating_pt`` one.
    Vars: ``weights`` [W], ``delays`` [D], which may be set between runs and hold for spikes from then on (delays up to
    ``max_delay``; the model refuses others with LimitError); ``a_buff`` [max_delay + 1, n_out], what is under way: a ring, row
    ``t % (max_delay + 1)`` arrives at step t (from 1); ``reset_interval`` (1,).

    Source: axonal and synaptic delays of Loihi (Davies et al. 2018); per relation and neuron as in GRSNN (M. Xiao et al.,
    "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024), where ``weight_index`` and
    ``delay_index`` let all edges of a relation share an entry.

    Parameters
    ----------
    shape: (n_out, n_in).
    target, source: integers [S], in any order. S may be 0.
    weights: numbers [W] or one number, for all; integers for the ``fixed_pt`` model, which refuses floats.
    delays: integers [D] or one, 0..62.
    weight_index, delay_index: integers [S]; None: synapse i has entry i, or the only one.
    max_delay: largest delay that ``delays`` may be set to, 0..62; None: the largest of ``delays``.
    weight_exp: 0..7.
    num_message_bits: 0: anything but 0 is a spike; 1..32: values of spikes are payloads, their sign is kept.
    num_weight_bits: 1..8. sign_mode: ``SignMode.MIXED`` (even weights -256..254), EXCITATORY (0..255) or INHIBITORY.
    reset_interval: steps of a sample, at least 1; None: the whole run is one.

    Raises
    ------
    ValueError: a value out of range, or arrays whose shapes do not fit together.
    TypeError: indices, delays or numbers of bits that are no integers, weights that are no numbers, an unknown sign_mode.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int, int],
        target: ArrayLike,
        source: ArrayLike,
        weights: ArrayLike,
        delays: ArrayLike = 0,
        weight_index: ArrayLike | None = None,
        delay_index: ArrayLike | None = None,
        max_delay: int | None = None,
        weight_exp: int = 0,
        num_message_bits: int = 0,
        num_weight_bits: int = limits.WEIGHT_BITS,
        sign_mode: SignMode = SignMode.MIXED,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        n_out, n_in = _matrix_shape(shape)
        sources = _indices("source", source, n_in, None)
        targets = _indices("target", target, n_out, len(sources))
        table, waits = _weights(weights), _delays(delays)
        longest = _max_delay(max_delay, waits)
        bits = _bits(weight_exp, num_message_bits, num_weight_bits, sign_mode)
        _, _, interval = sample_times(_NAME, 0, None, reset_interval)
        entries = _entries("weight_index", weight_index, table, len(sources))
        waiting = _entries("delay_index", delay_index, waits, len(sources))
        prepare()
        super().__init__(
            fanout=Fanout.of(n_in, sources, targets, entries, waiting),
            real_weights=table.dtype.kind == "f",
            **bits,
            name=name,
            log_config=log_config,
        )
        self.s_in, self.a_out = InPort(shape=(n_in,)), OutPort(shape=(n_out,))
        self.weights, self.delays = plain_var(table), plain_var(waits)
        self.a_buff = Var(shape=(longest + 1, n_out), init=0)
        self.reset_interval = single_var(interval)

    @classmethod
    def dense(cls, weights: Any, delays: Any = 0, **options: Any) -> DelayConnection:
        """As stock ``DelayDense`` and ``DelaySparse``: a matrix of weights [n_out, n_in] and its delays.

        Args:
            weights: numpy array, or scipy sparse matrix, whose stored entries are the synapses. The Var ``weights`` holds them
                flat, row by row.
            delays: integers of the same shape, numpy or scipy sparse (0 where nothing is stored), or one integer for all.
            options: of the constructor.

        Raises:
            ValueError: no matrix, or shapes that differ. Others as the constructor.
        """
        if sparse.issparse(weights):
            entries = sparse.csr_matrix(weights)
            entries.sort_indices()
            rows = np.repeat(np.arange(entries.shape[0]), np.diff(entries.indptr))
            columns, values = entries.indices, entries.data
        else:
            entries = np.asarray(weights)
            if entries.ndim != 2:
                raise ValueError(f"{_NAME}: weights has shape {entries.shape}. Give a matrix [n_out, n_in].")
            (rows, columns), values = np.indices(entries.shape).reshape(2, -1), entries.reshape(-1)
        waits = _matrix_delays(delays, entries.shape, rows, columns)
        if not len(values):  # no synapse at all: one entry that none uses, as a Var has at least one
            values, waits = np.zeros(1, values.dtype), np.zeros(1, np.int64)
            options = {**options, "weight_index": rows, "delay_index": rows}
        return cls(shape=entries.shape, target=rows, source=columns, weights=values, delays=waits, **options)

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.delay_connection import case

        return case()


def _matrix_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"{_NAME}: shape is {shape}; it must be (n_out, n_in)")
    n_out, n_in = (ranged(_NAME, "shape", n, 1, (1 << 31) - 1, "Give (n_out, n_in), at least one neuron each.") for n in shape)
    return n_out, n_in


def _indices(name: str, value: ArrayLike, count: int, length: int | None) -> NDArray[np.int64]:
    """Integers [S] of 0..count - 1."""
    array = np.asarray(value)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"{_NAME}: {name} has shape {array.shape} and type {array.dtype}. Give integers [S], one per synapse.")
    if length is not None and len(array) != length:
        raise ValueError(f"{_NAME}: {name} has {len(array)} entries, and source {length}. Give one per synapse.")
    if array.size:
        within(f"{_NAME}: {name}", array, 0, count - 1, f"There are {count}, counted from 0.")
    return array.astype(np.int64)


def _entries(name: str, value: ArrayLike | None, table: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Which entry of a table each synapse has."""
    if value is not None:
        return _indices(name, value, len(table), length)
    if len(table) not in (1, length):
        raise ValueError(
            f"{_NAME}: there are {len(table)} entries for {length} synapses. Give one each, or say by {name} who has which."
        )
    return np.arange(length) if len(table) == length else np.zeros(length, np.int64)


def _row(name: str, value: ArrayLike, kinds: str, what: str) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in kinds:
        raise TypeError(f"{_NAME}: {name} is of type {array.dtype}. Give {what}.")
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{_NAME}: {name} has shape {array.shape}. Give a number or a table [entries], at least one.")
    return array.reshape(-1)


def _weights(value: ArrayLike) -> NDArray[Any]:
    array = _row("weights", value, "iuf", "integers, or floats for the floating_pt model")
    finite(f"{_NAME}: weights", array)
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    within(f"{_NAME}: weights", array, -limits.CHANNEL_MAX, limits.CHANNEL_MAX, "Lava carries int32; the chip has 8 bits.")
    return array.astype(np.int64)


def _delays(value: ArrayLike) -> NDArray[np.int64]:
    array = _row("delays", value, "iu", "integers, numbers of steps: round them first")
    within(f"{_NAME}: delays", array, 0, limits.DELAY_MAX, _DELAYS)
    return array.astype(np.int64)


def _max_delay(value: int | None, delays: NDArray[np.int64]) -> int:
    largest = int(delays.max())
    if value is None:
        return largest
    return ranged(_NAME, "max_delay", value, largest, limits.DELAY_MAX, f"The largest of delays is {largest}. {_DELAYS}")


def _bits(weight_exp: int, num_message_bits: int, num_weight_bits: int, sign_mode: SignMode) -> dict[str, Any]:
    """What says how numbers are read, checked, by parameter name."""
    if sign_mode not in _SIGN_MODES:
        raise TypeError(f"{_NAME}: sign_mode is {sign_mode!r}. Give SignMode.MIXED, EXCITATORY or INHIBITORY.")
    top = limits.EXPONENT_MAX
    return {
        "weight_exp": ranged(_NAME, "weight_exp", weight_exp, 0, top, _NEGATIVE_EXPONENT),
        "num_message_bits": ranged(
            _NAME, "num_message_bits", num_message_bits, 0, _MESSAGE_BITS_MAX, "0 stands for binary spikes."
        ),
        "num_weight_bits": ranged(
            _NAME, "num_weight_bits", num_weight_bits, 1, limits.WEIGHT_BITS, "The chip's weights have at most 8 bits."
        ),
        "sign_mode": sign_mode,
    }


def _matrix_delays(
    delays: Any, shape: tuple[int, int], rows: NDArray[np.integer], columns: NDArray[np.integer]
) -> NDArray[Any]:
    """Delays of the synapses at these places of a matrix, or the only one."""
    if not sparse.issparse(delays) and np.ndim(delays) == 0:
        return np.asarray(delays)
    matrix = sparse.csr_matrix(delays) if sparse.issparse(delays) else np.asarray(delays)
    if matrix.shape != shape:
        raise ValueError(f"{_NAME}: delays has shape {matrix.shape}, and weights {shape}. Give one per weight, or one number.")
    return np.asarray(matrix[rows, columns]).reshape(-1)
