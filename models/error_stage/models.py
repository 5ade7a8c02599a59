"""Fixed-point and floating-point model of ErrorStage."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_snnlearn.models.readout import FixedReadout, FloatReadout, ReadoutModel
from lava_snnlearn.processes.error_stage.process import ErrorStage


class _ErrorStageModel(ReadoutModel):
    """When the stage sums and when it sends."""

    error_phase: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def run_spk(self) -> None:
        """One step: receive; up to the error phase sum, in it send the error."""
        current, wanted = self.receive("a_in"), self.receive("y_in")
        phase = self.sample_phase()
        if phase == 0:
            for state in (self.z, self.e, self.target):
                state[:] = 0
        if phase <= self.error_phase[0]:
            self.take(current)
            self.target[:] = np.maximum(self.target, wanted)
        if phase == self.error_phase[0]:
            self.e[:] = self.error_of(self.z)
            self.e_out.send(self.e)
        else:
            self.e_out.send(np.zeros_like(self.e))


@implements(proc=ErrorStage, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyErrorStageFixed(_ErrorStageModel, FixedReadout):
    """The integers of the chip, shared with the simulator of on-chip learning."""


@implements(proc=ErrorStage, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyErrorStageFloat(_ErrorStageModel, FloatReadout):
    """The same in real numbers, in units of 1/128: nothing is rounded or clipped."""
