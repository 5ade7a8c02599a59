"""Fixed-point and floating-point model of ErrorStage."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.fixed_point import limits, plasticity
from lava_snnlearn.models.neuron import IntegerModel, SampleModel
from lava_snnlearn.processes.error_stage.process import ErrorStage


class _ErrorStageModel(SampleModel):
    """When the stage sums and when it sends; the error itself is the models' own."""

    z: np.ndarray
    e: np.ndarray
    target: np.ndarray
    table: np.ndarray = LavaPyType(np.ndarray, np.int64)
    table_step: np.ndarray = LavaPyType(np.ndarray, float)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    error_phase: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._kind: str = proc_params["kind"]

    def run_spk(self) -> None:
        """One step: receive; up to the error phase sum, in it send the error."""
        current, wanted = self.receive("a_in"), self.receive("y_in")
        phase = self.sample_phase()
        if phase == 0:
            for state in (self.z, self.e, self.target):
                state[:] = 0
        if phase <= self.error_phase[0]:
            self.z[:] = self._sum(current)
            self.target[:] = np.maximum(self.target, wanted)
        if phase == self.error_phase[0]:
            self.e[:] = self._error()
            self.e_out.send(self.e)
        else:
            self.e_out.send(np.zeros_like(self.e))

    def _sum(self, current: NDArray) -> NDArray:
        raise NotImplementedError

    def _error(self) -> NDArray:
        raise NotImplementedError


@implements(proc=ErrorStage, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyErrorStageFixed(_ErrorStageModel, IntegerModel):
    """The integers of the chip, shared with the simulator of on-chip learning."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    z: np.ndarray = LavaPyType(np.ndarray, np.int32)
    e: np.ndarray = LavaPyType(np.ndarray, np.int32)
    target: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _sum(self, current: NDArray) -> NDArray:
        total = self.z + current.astype(np.int64)
        remedy = "Potentials are held as int32: choose a smaller scale of the readout's weights."
        within("ErrorStage: z", total, -limits.CHANNEL_MAX, limits.CHANNEL_MAX, remedy)
        return total

    def _error(self) -> NDArray:
        return plasticity.error(self._kind, self.z, self.target, self.table, int(self.shift[0]))


@implements(proc=ErrorStage, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyErrorStageFloat(_ErrorStageModel):
    """The same in real numbers, in units of 1/128: nothing is rounded or clipped."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    z: np.ndarray = LavaPyType(np.ndarray, float)
    e: np.ndarray = LavaPyType(np.ndarray, float)
    target: np.ndarray = LavaPyType(np.ndarray, float)

    def _sum(self, current: NDArray) -> NDArray:
        return self.z + current

    def _error(self) -> NDArray:
        if not self.target.any():
            return np.zeros_like(self.z)
        scaled = self.z / 2.0 ** self.shift[0]
        if self._kind == "mse":
            return scaled - plasticity.ERROR_ONE * self.target
        weight = np.exp(self.table_step[0] * (scaled - scaled.max()))
        return plasticity.ERROR_ONE * (weight / weight.sum() - self.target)
