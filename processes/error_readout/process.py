"""ErrorReadout: a leaky readout that sends its error in every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.local_learning import prepare
from lava_snnlearn.processes.parameters import SAMPLE_MAX, ranged, row_shape, sample_times, single_var
from lava_snnlearn.processes.readout import error_vars
from lava_snnlearn.processes.recorder.process import SharedRecord

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


class ErrorReadout(AbstractProcess):
    """The readout's end for online learning: potentials of the classes that leak, and their error in every active step.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... In the active phases, ``t_start`` to before
    ``t_stop``, in chip units (``>> 12`` rounds towards zero)::

        output <- (output * (4096 - dv) >> 12) + a_in              z <- z + a_in
        e_out = e, of output, in units of 1/128, -128..127         o_out = a_in

        kind "softmax":  p = (128 w) // sum(w),  w = table[min((max(output) - output) >> shift, 255)];    e = p - 128 target
        kind "mse":      e = round(output / 2**shift) - 128 target

    In all other phases ``e``, e_out and o_out are zero, and so is the error where no target came (inference). The target is
    held: ``target <- max(target, y_in)`` in every phase, before the error. At phase 0 ``output, z, e`` and ``target`` are set
    to zero before anything else. ``z`` is the evidence of the whole sample, of which the largest entry is the answer.

    ``o_out`` is this step's sum alone, so that what ``OPZOFeedback`` correlates with noise holds nothing of earlier steps.

    Ports: InPorts ``a_in``, ``y_in`` (one-hot, 0 or 1), OutPorts ``e_out``, ``o_out``, of shape ``shape``; int32 in the
    ``fixed_pt`` model, float in the ``floating_pt`` model. Vars: ``output, z, e, target`` of shape ``shape``; ``table`` (256,);
    ``dv, table_step, shift, t_start, t_stop, reset_interval`` (1,).
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.local_learning` and refuses potentials beyond int32 (LimitError).
    The ``floating_pt`` model computes in real numbers, without table (as ``ErrorStage``), rounding and clipping.

    Source: OTTT (Xiao et al., NeurIPS 2022), eqs. 6-8: the loss of each time step, on a readout that does not spike; the
    integers are this library's.

    Parameters
    ----------
    shape: (classes,).
    kind: "softmax" (cross-entropy) or "mse" (squared error).
    shift: 0..30. softmax: entries of the table are 2**shift units of output apart. mse: an output of 1.0 is 128 << shift.
    table_step: softmax only: difference of logits from entry to entry, more than 0.
    dv: leak of the readout, 0 (sums) to 4096 (no memory) in units of 1/4096.
    t_start: first active phase, 0 or more. t_stop: first phase that is idle again (> t_start); None: never.
    reset_interval: steps of a sample (> t_start); None means that the whole run is one sample.
    records: keep ``output`` after each of the first so many steps for :attr:`outputs`.

    Raises
    ------
    ValueError: a value out of range, or an unknown kind.
    TypeError: a time, leak or shift that is no integer, a table_step that is no number.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int],
        kind: str = "softmax",
        shift: int = 0,
        table_step: float = 1 / 16,
        dv: int = 0,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        records: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = row_shape("ErrorReadout", shape, "classes", "classes")
        own = error_vars("ErrorReadout", kind, shift, table_step)
        leak = ranged("ErrorReadout", "dv", dv, 0, limits.DECAY_MAX, "The leak is dv/4096.")
        times = sample_times("ErrorReadout", t_start, t_stop, reset_interval)
        kept = ranged("ErrorReadout", "records", records, 0, SAMPLE_MAX, "It counts steps.")
        self._outputs = SharedRecord(kept, shape)
        prepare()
        super().__init__(shape=shape, kind=kind, outputs=self._outputs, name=name, log_config=log_config)
        self.a_in, self.y_in = InPort(shape=shape), InPort(shape=shape)
        self.e_out, self.o_out = OutPort(shape=shape), OutPort(shape=shape)
        self.output, self.z, self.e, self.target = (Var(shape=shape, init=0) for _ in range(4))
        self.table, self.table_step, self.shift = own["table"], own["table_step"], own["shift"]
        self.dv = single_var(leak)
        self.t_start, self.t_stop, self.reset_interval = (single_var(time) for time in times)

    @property
    def outputs(self) -> NDArray:
        """``output`` after each recorded step: [steps so far, classes], int32 or float64; at any time."""
        return self._outputs.read()

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.error_readout import case

        return case()
