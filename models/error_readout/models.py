"""Fixed-point and floating-point model of ErrorReadout."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import local_learning
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, decay
from lava_snnlearn.models.neuron import GatedModel
from lava_snnlearn.models.readout import FixedReadout, FloatReadout, ReadoutModel
from lava_snnlearn.processes.error_readout.process import ErrorReadout
from lava_snnlearn.processes.recorder.process import SharedRecord


class _ErrorReadoutModel(ReadoutModel, GatedModel):
    """When the readout is active; the arithmetic is the models' own."""

    _dtype: ClassVar[type[np.generic]]
    output: np.ndarray
    dv: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._outputs: SharedRecord = proc_params["outputs"]

    def run_spk(self) -> None:
        """One step: receive; integrate and send the error if active."""
        current, wanted = self.receive("a_in"), self.receive("y_in")
        phase = self.sample_phase()
        if phase == 0:
            for state in (self.output, self.z, self.target):
                state[:] = 0
        self.target[:] = np.maximum(self.target, wanted)
        if self.is_active(phase):
            self._integrate(current)
            self.take(current)
            self.e[:] = self.error_of(self.output)
        else:
            self.e[:] = 0
            current = np.zeros_like(current)
        self.e_out.send(self.e)
        self.o_out.send(current)
        self._outputs.keep(self.output, self._dtype)

    def _integrate(self, current: NDArray) -> None:
        """Advance ``output`` by a step."""
        raise NotImplementedError


@implements(proc=ErrorReadout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyErrorReadoutFixed(_ErrorReadoutModel, FixedReadout):
    """The integers of the chip: kernels shared with the simulator of on-chip learning."""

    _dtype = np.int32
    o_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    output: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _integrate(self, current: NDArray) -> None:
        self.fitting("output", decay(self.output, self.dv) + current)
        local_learning.step_integrate(self.output, current, int(self.dv[0]))


@implements(proc=ErrorReadout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyErrorReadoutFloat(_ErrorReadoutModel, FloatReadout):
    """The same in real numbers, in the same units."""

    _dtype = np.float64
    o_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    output: np.ndarray = LavaPyType(np.ndarray, float)

    def _integrate(self, current: NDArray) -> None:
        self.output[:] = (1 - self.dv[0] / DECAY_ONE) * self.output + current
