"""Fixed-point and floating-point model of EPNeuron."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import NUDGE_ONE, bias_current, graded_step
from lava_snnlearn.models.neuron import FixedModel, TimedModel
from lava_snnlearn.processes.ep_neuron.process import EPNeuron


class _EPModel(TimedModel):
    """Phases, target and messages; the state itself is the models' own."""

    v: np.ndarray
    a: np.ndarray
    target: np.ndarray
    events: np.ndarray = LavaPyType(np.ndarray, np.int32)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int32)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    top: np.ndarray = LavaPyType(np.ndarray, np.int64)
    beta: np.ndarray = LavaPyType(np.ndarray, np.int64)
    t_nudge: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._changes: bool = proc_params["changes"]

    def run_spk(self) -> None:
        """One step, in the order of the Process's docstring."""
        arrived, wanted = self.receive("a_in"), self.receive("y_in")
        phase = self.sample_phase()
        if phase == 0:
            for state in (self.v, self.a, self.target, self.events):
                state[:] = 0
        self.target[:] = np.maximum(self.target, wanted)
        message = np.zeros_like(self.v)
        if self.is_active(phase):
            self.a[:] = self.a + arrived if self._changes else arrived
            state = self._state(int(self.beta[0]) if phase >= self.t_nudge[0] else 0)
            message[:] = state - self.v if self._changes else state
            self.v[:] = state
            self.events += message != 0
        self.s_out.send(message)

    def _state(self, beta: int) -> NDArray:
        """The new state, nudged by beta / 256."""
        raise NotImplementedError


@implements(proc=EPNeuron, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyEPNeuronFixed(_EPModel, FixedModel):
    """The integers of the chip: the emulator's own arithmetic."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    a: np.ndarray = LavaPyType(np.ndarray, np.int64)
    target: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _state(self, beta: int) -> NDArray[np.int64]:
        bias = bias_current(self.bias_mant, self.bias_exp)
        return graded_step(self.v, self.a, bias=bias, shift=self.shift, top=self.top, beta=beta, target=self.target)


@implements(proc=EPNeuron, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyEPNeuronFloat(_EPModel):
    """The same in real numbers: nothing is rounded."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    a: np.ndarray = LavaPyType(np.ndarray, float)
    target: np.ndarray = LavaPyType(np.ndarray, float)

    def _state(self, beta: int) -> NDArray[np.float64]:
        total = self.a + self.bias_mant * 2.0**self.bias_exp
        free = np.clip(total / 2.0 ** self.shift[0], 0, self.top[0])
        return free + beta / NUDGE_ONE * (self.target - self.v)
