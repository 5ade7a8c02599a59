"""ErrorStage: sums what a readout receives, and sends its error once a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var

from lava_snnlearn.checks import at_least
from lava_snnlearn.processes.parameters import ranged, row_shape, single_var
from lava_snnlearn.processes.readout import error_vars

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

PERIOD_MAX = (1 << 31) - 1


class ErrorStage(AbstractProcess):
    """The readout's end: potentials ``z`` of the classes, summed over a sample, and their error, sent in one step.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... In the phases up to ``error_phase``::

        z <- z + a_in                                  target <- max(target, y_in)

    and in that phase, after receiving, ``e_out = e`` is sent, in units of 1/128 (an error of 1.0 is 128), -128..127::

        kind "softmax":  p = (128 w) // sum(w),  w = table[min((max(z) - z) >> shift, 255)];    e = p - 128 target
        kind "mse":      e = round(z / 2**shift) - 128 target

    In all other steps e_out is zero. So it is where no target came (inference). At phase 0 ``z``, ``e`` and ``target`` are set
    to zero before anything else. The target is held: it may come in any step up to the error phase.

    Ports: InPorts ``a_in``, ``y_in`` (one-hot, 0 or 1), OutPort ``e_out``, of shape ``shape``; int32 in the ``fixed_pt`` model,
    float in the ``floating_pt`` model. Vars: ``z, e, target`` of shape ``shape``; ``table`` (256,); ``table_step`` and the
    other parameters (1,).
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.plasticity`. The ``floating_pt`` model computes in real numbers,
    without table (``w = exp(-table_step (max(z) - z) / 2**shift)``), rounding and clipping.

    Source: SPIDE (arXiv 2302.00232), which takes the gradient of the loss on the readout as the current of its backward phase;
    the integers are this library's.

    Parameters
    ----------
    shape: (classes,).
    error_phase: phase in which the error is sent, 0 or more. reset_interval: steps of a sample, more than error_phase.
    kind: "softmax" (cross-entropy) or "mse" (squared error).
    shift: 0..30. softmax: entries of the table are 2**shift units of z apart. mse: an output of 1.0 is 128 << shift.
    table_step: softmax only: difference of logits from entry to entry, more than 0.

    Raises
    ------
    ValueError: a value out of range, or an unknown kind.
    TypeError: a phase or shift that is no integer, a step that is no number.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int],
        error_phase: int,
        reset_interval: int,
        kind: str = "softmax",
        shift: int = 0,
        table_step: float = 1 / 16,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = row_shape("ErrorStage", shape, "classes", "classes")
        phase = at_least(0, "ErrorStage: error_phase", error_phase)
        inside = f"The error_phase, {phase}, has to lie in it."
        period = ranged("ErrorStage", "reset_interval", reset_interval, phase + 1, PERIOD_MAX, inside)
        own = error_vars("ErrorStage", kind, shift, table_step)
        super().__init__(shape=shape, kind=kind, name=name, log_config=log_config)
        self.a_in, self.y_in, self.e_out = InPort(shape=shape), InPort(shape=shape), OutPort(shape=shape)
        self.z, self.e, self.target = (Var(shape=shape, init=0) for _ in range(3))
        self.table, self.table_step, self.shift = own["table"], own["table_step"], own["shift"]
        self.error_phase, self.reset_interval = single_var(phase), single_var(period)

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.error_stage import case

        return case()
