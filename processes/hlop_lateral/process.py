"""HLOPLateral: the lateral circuit that learns the subspace of a trace and takes that of older tasks out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import flag
from lava_snnlearn.fixed_point import local_learning
from lava_snnlearn.processes.parameters import PERIOD_MAX, SAMPLE_MAX, integer_array, plain_var, ranged, single_var
from lava_snnlearn.processes.plastic import RANGES
from lava_snnlearn.processes.recorder.process import SharedRecord

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

SIZE_MAX = 1 << 21
"""Largest rows * n: with traces of 9 bits, what is sent back then fits into 32 bits whatever the subspace holds."""


class HLOPLateral(AbstractProcess):
    """Subspace neurons ``y = H x`` with recurrent inhibition ``-H^T y``: sends what is left of a trace, and learns H.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... In each step, with ``F`` the first ``old``
    rows of ``H`` and H' the others (``H`` counts in 2**-14)::

        r_out = x - F^T F x                                                           (clipped to +-127)
        if learning and t_start <= phase < t_stop:   sums <- sums + y (x - H^T y)^T   (rows of H' only; y in 2**-6, of all rows)

    In phase ``learn_phase``, after that, if learning: ``sample <- sample + 1``, and if ``average`` divides it::

        V <- V - V / 8 + multiplier * sums / 2**shift,   H' <- H' + V / 2**8,   sums <- 0

    All divisions round to nearest; y and x - H^T y are rounded too. The two parts of the sum are the Hebbian and the
    anti-Hebbian part of Oja's subspace rule: the rows of H' come to span the principal directions that F leaves over. Sums go
    on from sample to sample. The rows of F never change: after a task raise ``old`` and append rows (in a new process). With
    old = 0 the trace passes, clipped; with old = rows nothing is left to learn.

    Ports: InPort ``x_in`` [n], traces of -255..255; OutPort ``r_out`` [n], in the same step; int32 in the ``fixed_pt`` model,
    float in the ``floating_pt`` model. Vars: ``subspace, velocity, sums`` [rows, n]; ``sample`` and the parameters (1,).
    ``learning`` is 0 or 1 and may be set between samples.
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.local_learning` and refuses larger traces (LimitError). The
    ``floating_pt`` model computes the same in real numbers, of the same units, without rounding and clipping.

    Source: HLOP (Xiao et al., ICLR 2024): projection by lateral connections, Hebbian and anti-Hebbian learning of the
    subspace, momentum; the integers (7/8 for the momentum of 0.9) are this library's.

    Parameters
    ----------
    subspace: integers [rows, n], 1.0 is 2**14, of +-32767; rows * n at most 2**21.
    learn_phase: phase of the update, 0 or more. reset_interval: steps of a sample, more than learn_phase.
    old: rows that are frozen and that traces are projected by, 0..rows.
    multiplier, shift: learning rate, 0..32767 and 0..40.
    average: samples per update, 1 or more. sample: samples learned from before this run, 0 or more.
    t_start, t_stop: the circuit hears in the phases from t_start to before t_stop, at most learn_phase + 1 (None).
    velocity, sums: integers [rows, n] where a run goes on, of 30 bits and of +-2**46; None is zeros.
    learning: whether the circuit hears and learns.
    records: keep the subspace after each of the first so many samples learned from for :attr:`learned`.

    Raises
    ------
    ValueError: a value out of range, or arrays whose shapes do not fit. TypeError: one that is no integer (learning: no bool).
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        subspace: ArrayLike,
        learn_phase: int,
        reset_interval: int,
        old: int = 0,
        multiplier: int = 0,
        shift: int = 0,
        average: int = 1,
        sample: int = 0,
        t_start: int = 0,
        t_stop: int | None = None,
        velocity: ArrayLike | None = None,
        sums: ArrayLike | None = None,
        learning: bool = True,
        records: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        basis = _matrix("subspace", subspace, local_learning.SUBSPACE_MAX, "A subspace has 16 bits, 1.0 is 2**14.")
        if basis.size > SIZE_MAX:
            raise ValueError(
                f"HLOPLateral: subspace has shape {basis.shape}, {basis.size} entries; the limit is {SIZE_MAX}. "
                "Use fewer rows, or project a smaller layer."
            )
        flag("HLOPLateral: learning", learning)
        phase = ranged("HLOPLateral", "learn_phase", learn_phase, *RANGES["learn_phase"])
        start = ranged("HLOPLateral", "t_start", t_start, 0, phase, f"It has to come before the update in phase {phase}.")
        stop = phase + 1 if t_stop is None else t_stop
        ranges = {
            "reset_interval": (reset_interval, phase + 1, PERIOD_MAX, f"The phase of the update, {phase}, has to lie in it."),
            "old": (old, 0, len(basis), f"It counts rows of the subspace, which has {len(basis)}."),
            "multiplier": (multiplier, *RANGES["multiplier"]),
            "shift": (shift, *RANGES["shift"]),
            "average": (average, 1, SAMPLE_MAX, "It counts samples per update."),
            "sample": (sample, *RANGES["sample"]),
            "t_stop": (stop, start + 1, phase + 1, f"It has to lie behind t_start = {start} and not behind the update."),
        }
        numbers = {key: ranged("HLOPLateral", key, *given) for key, given in ranges.items()}
        moving = _like(basis, "velocity", velocity, local_learning.VELOCITY_MAX)
        heard = _like(basis, "sums", sums, local_learning.SUMS_MAX)
        kept = ranged("HLOPLateral", "records", records, 0, SAMPLE_MAX, "It counts samples.")
        self._subspaces = SharedRecord(kept, basis.shape)
        local_learning.prepare()
        super().__init__(subspaces=self._subspaces, name=name, log_config=log_config)
        n = basis.shape[1]
        self.x_in, self.r_out = InPort(shape=(n,)), OutPort(shape=(n,))
        self.subspace, self.velocity, self.sums = plain_var(basis), plain_var(moving), plain_var(heard)
        self.learn_phase, self.t_start, self.learning = single_var(phase), single_var(start), single_var(int(learning))
        for key, number in numbers.items():
            setattr(self, key, single_var(number))

    @property
    def learned(self) -> NDArray:
        """``subspace`` after each recorded sample: [samples so far, rows, n], int32 or float64; at any time."""
        return self._subspaces.read()

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.hlop_lateral import case

        return case()


def _matrix(name: str, value: ArrayLike, limit: int, remedy: str) -> NDArray[np.int64]:
    return integer_array("HLOPLateral", name, value, ("rows", "n"), limit, remedy)


def _like(basis: NDArray, name: str, value: ArrayLike | None, limit: int) -> NDArray[np.int64]:
    """The state of a run that goes on, or zeros."""
    if value is None:
        return np.zeros(basis.shape, np.int64)
    array = _matrix(name, value, limit, "Give what an earlier run left, or None.")
    if array.shape != basis.shape:
        raise ValueError(f"HLOPLateral: {name} has shape {array.shape}, and subspace {basis.shape}. Give one entry each.")
    return array
