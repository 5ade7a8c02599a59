"""Fixed-point and floating-point model of HLOPLateral."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import limits, local_learning
from lava_snnlearn.models.neuron import GatedModel, KernelModel
from lava_snnlearn.processes.hlop_lateral.process import HLOPLateral
from lava_snnlearn.processes.recorder.process import SharedRecord


class _HLOPLateralModel(GatedModel):
    """What happens in which phase; the arithmetic is the models' own."""

    _dtype: ClassVar[type[np.generic]]
    subspace: np.ndarray
    velocity: np.ndarray
    sums: np.ndarray
    old: np.ndarray = LavaPyType(np.ndarray, np.int64)
    multiplier: np.ndarray = LavaPyType(np.ndarray, np.int64)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    average: np.ndarray = LavaPyType(np.ndarray, np.int64)
    sample: np.ndarray = LavaPyType(np.ndarray, np.int64)
    learn_phase: np.ndarray = LavaPyType(np.ndarray, np.int64)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._subspaces: SharedRecord = proc_params["subspaces"]

    def run_spk(self) -> None:
        """One step: receive, send what is left, and learn in its time."""
        phase = self.sample_phase()
        trace = self._trace()
        old, rows = int(self.old[0]), len(self.subspace)
        self.r_out.send(self._rest(trace, old))
        if not self.learning[0]:
            return
        if old < rows and self.is_active(phase):
            self._hear(trace, old)
        if phase == self.learn_phase[0]:
            self.sample += 1
            if self.sample[0] % self.average[0] == 0:
                self._turn(old)
            self._subspaces.keep(self.subspace, self._dtype)

    def _trace(self) -> NDArray:
        """What arrives."""
        raise NotImplementedError

    def _rest(self, trace: NDArray, old: int) -> NDArray:
        raise NotImplementedError

    def _hear(self, trace: NDArray, old: int) -> None:
        raise NotImplementedError

    def _turn(self, old: int) -> None:
        """Move the rows from ``old`` on."""
        raise NotImplementedError


@implements(proc=HLOPLateral, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyHLOPLateralFixed(_HLOPLateralModel, KernelModel):
    """The integers shared with the simulator of on-chip learning."""

    _dtype = np.int32
    x_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    r_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    subspace: np.ndarray = LavaPyType(np.ndarray, np.int16)
    velocity: np.ndarray = LavaPyType(np.ndarray, np.int32)
    sums: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def _trace(self) -> NDArray:
        return self.held("x_in", limits.GRADED_MAX, "Traces have 7 bits: choose a smaller impulse.")

    def _scratch(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Room for the responses and what they send back."""
        rows, n = self.subspace.shape
        return np.empty(rows, np.int32), np.empty(n, np.int32)

    def _rest(self, trace: NDArray, old: int) -> NDArray:
        rest = np.empty_like(trace)
        local_learning.step_residual(self.subspace, old, trace, *self._scratch(), rest)
        return rest

    def _hear(self, trace: NDArray, old: int) -> None:
        local_learning.step_hear(self.subspace, old, len(self.subspace), trace, *self._scratch(), self.sums)

    def _turn(self, old: int) -> None:
        rate = int(self.multiplier[0]), int(self.shift[0])
        local_learning.step_turn(self.subspace, self.velocity, self.sums, old, len(self.subspace), *rate)


@implements(proc=HLOPLateral, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHLOPLateralFloat(_HLOPLateralModel):
    """The same in real numbers, of the same units: nothing is rounded or clipped."""

    _dtype = np.float64
    x_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    r_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    subspace: np.ndarray = LavaPyType(np.ndarray, float)
    velocity: np.ndarray = LavaPyType(np.ndarray, float)
    sums: np.ndarray = LavaPyType(np.ndarray, float)

    def _trace(self) -> NDArray:
        return self.receive("x_in")

    def _responses(self, trace: NDArray, rows: NDArray) -> tuple[NDArray, NDArray]:
        """What these rows answer, and what is left of the trace."""
        response = rows @ trace / (1 << local_learning.SUBSPACE_BITS)
        return response, trace - response @ rows / (1 << local_learning.SUBSPACE_BITS)

    def _rest(self, trace: NDArray, old: int) -> NDArray:
        return self._responses(trace, self.subspace[:old])[1]

    def _hear(self, trace: NDArray, old: int) -> None:
        response, rest = self._responses(trace, self.subspace)
        self.sums[old:] += np.multiply.outer(response[old:], rest) * (1 << local_learning.PROJECTION_BITS)

    def _turn(self, old: int) -> None:
        velocity, sums = self.velocity[old:], self.sums[old:]
        velocity += sums * (self.multiplier[0] / 2.0 ** self.shift[0]) - velocity / (1 << local_learning.MOMENTUM_BITS)
        self.subspace[old:] += velocity / (1 << local_learning.VELOCITY_BITS)
        sums[:] = 0
