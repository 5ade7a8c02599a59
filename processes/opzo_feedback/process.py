"""OPZOFeedback: direct feedback from the readout's error to a hidden layer, whose matrix learns from noise and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import flag
from lava_snnlearn.fixed_point import limits, local_learning
from lava_snnlearn.processes.parameters import (
    PERIOD_MAX,
    SEED_MAX,
    integer_array,
    plain_var,
    ranged,
    single_var,
)
from lava_snnlearn.processes.recorder.process import SharedRecord

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

SHIFT_MIN, SHIFT_MAX = -12, 40
"""Of the signal: with entries of 28 bits, errors of 9 and up to 2**14 classes, sums stay below 2**63."""


class OPZOFeedback(AbstractProcess):
    """Sends ``M e`` to a hidden layer, for errors ``e`` of the readout; ``M`` is the running mean of noise times output.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... With ``z`` the layer's noise and ``z'`` that
    of ``delay`` phases ago (zeros before the sample's beginning), of which the output ``o`` is the answer::

        if learning and z' is not all zero:
            o' = o - mean / 2**8,  mean <- mean + (2**8 o - mean) / 2**baseline       (o' = o if baseline is 0)
            count <- count + 1,  bits = min(floor(log2(count)), momentum)
            M <- M + (2**12 z' o'^T - M) / 2**bits
        g_out[t+1] = M e[t] / 2**shift                                               (+-127; shift < 0: multiplied)

    All divisions round to nearest; ``o`` and ``o'`` are clipped to 16 bits. Because ``bits`` grows from 0 to ``momentum``, M is
    a mean of what was heard from the first update on, and needs no correction for where it started. An entry of 1.0 is 2**12.
    Without ``learning`` a given matrix stays what it is: direct feedback alignment. At phase 0 the noise of the sample before
    and what is under way are set to zero.

    Ports: InPorts ``z_in`` [n] (-1, 0, 1), ``o_in`` [classes] (the readout's input, zeros outside of its steps), ``e_in``
    [classes] (of -255..255); OutPort ``g_out`` [n]. int32 in the ``fixed_pt`` model, float in the ``floating_pt`` model.
    Vars: ``matrix`` [n, classes], ``mean`` [classes], ``count`` (1,), ``buffer`` [n], what is sent next, and the other
    parameters but ``delay`` (1,). ``learning`` is 0 or 1 and may be set between samples.
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.local_learning` and refuses larger signals (LimitError). The
    ``floating_pt`` model computes the same in real numbers, of the same units, without rounding and clipping.

    Source: OPZO (Xiao et al., arXiv 2407.12516), the momentum feedback connections ``M <- lambda M + (1 - lambda) z o^T``,
    with lambda = 1 - 2**-bits; DFA (Nokland, NeurIPS 2016) without learning. The integers are this library's.

    Parameters
    ----------
    matrix: integers [n, classes], of +-(32767 << 12).
    reset_interval: steps of a sample.
    delay: steps from the noise to the output that answers it, 0..62.
    momentum: largest shift of the running mean, 0..20. count: updates made before this run, 0 or more.
    shift: of the signal, -12..40.
    learning: whether the matrix learns.
    baseline: shift of the running mean of the output, 0..20; 0 subtracts none. mean: integers [classes], its value now in units
        of 2**-8, of +-(32767 << 8); None is zeros.
    records: keep the matrix after each of the first so many steps for :attr:`learned`.

    Raises
    ------
    ValueError: a value out of range, or arrays whose shapes do not fit. TypeError: one that is no integer (learning: no bool).
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        matrix: ArrayLike,
        reset_interval: int,
        delay: int = 0,
        momentum: int = 10,
        count: int = 0,
        shift: int = 0,
        learning: bool = True,
        baseline: int = 0,
        mean: ArrayLike | None = None,
        records: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        largest = local_learning.OUTPUT_MAX << local_learning.FEEDBACK_BITS
        entries = integer_array(
            "OPZOFeedback",
            "matrix",
            matrix,
            ("n", "classes"),
            largest,
            "Outputs have 16 bits and no entry is above 2**12 of them.",
        )
        n, classes = entries.shape
        flag("OPZOFeedback: learning", learning)
        speed = "A mean moves by 2**-shift of what is missing; 20 is slower than a million updates."
        ranges = {
            "delay": (delay, 0, limits.DELAY_MAX, "It is the number of layers that the noise passes before the readout."),
            "momentum": (momentum, 0, local_learning.MOMENTUM_MAX, speed),
            "count": (count, 0, SEED_MAX, "It counts updates from 0."),
            "shift": (shift, SHIFT_MIN, SHIFT_MAX, "Scale the errors or the matrix."),
            "baseline": (baseline, 0, local_learning.MOMENTUM_MAX, speed),
            "reset_interval": (reset_interval, 1, PERIOD_MAX, "It is the length of a sample."),
        }
        numbers = {key: ranged("OPZOFeedback", key, *given) for key, given in ranges.items()}
        start = _mean(mean, classes)
        kept = ranged("OPZOFeedback", "records", records, 0, SEED_MAX, "It counts steps.")
        self._matrices = SharedRecord(kept, entries.shape)
        local_learning.prepare()
        line = numbers.pop("delay")
        super().__init__(delay=line, size=n, matrices=self._matrices, name=name, log_config=log_config)
        self.z_in, self.o_in, self.e_in = InPort(shape=(n,)), InPort(shape=(classes,)), InPort(shape=(classes,))
        self.g_out = OutPort(shape=(n,))
        self.matrix, self.mean = plain_var(entries), plain_var(start)
        self.buffer = Var(shape=(n,), init=0)
        for key, number in numbers.items():
            setattr(self, key, single_var(number))
        self.learning = single_var(int(learning))

    @property
    def learned(self) -> NDArray:
        """``matrix`` after each recorded step: [steps so far, n, classes], int32 or float64; at any time."""
        return self._matrices.read()

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.opzo_feedback import case

        return case()


def _mean(mean: ArrayLike | None, classes: int) -> NDArray[np.int64]:
    if mean is None:
        return np.zeros(classes, np.int64)
    limit = local_learning.OUTPUT_MAX << local_learning.MEAN_BITS
    start = integer_array("OPZOFeedback", "mean", mean, ("classes",), limit, "Outputs have 16 bits: scale the readout down.")
    if len(start) != classes:
        raise ValueError(f"OPZOFeedback: mean has {len(start)} entries, and matrix {classes} columns. Give one per class.")
    return start
