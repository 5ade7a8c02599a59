"""Fixed-point and floating-point model of CoupledIF."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import bias_current, coupled_step
from lava_snnlearn.models.neuron import FixedModel, FloatModel, TimedModel
from lava_snnlearn.processes.coupled_if.process import CoupledIF


class _CoupledModel(TimedModel):
    """When the half is reset, active and idle; what it does when active is the models' own."""

    v: np.ndarray
    g: np.ndarray
    mask: np.ndarray = LavaPyType(np.ndarray, np.int32)
    polarity: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        """One step, in the order of the Process's docstring."""
        current, injected, partner = self.receive("a_in"), self.receive("g_in"), self.receive("c_in")
        phase = self.sample_phase()
        if phase == 0:
            self.v[:] = 0
            self.g[:] = 0
        self.g += injected
        spikes: NDArray = np.zeros(self.v.shape, dtype=np.int32)
        if self.is_active(phase):
            corrected = (partner != 0) & (phase > self.t_start[0])
            spikes = self.mask * self._update(self.polarity * (current + self.g), corrected)
        self.s_out.send(self.polarity * spikes)

    def _update(self, current: NDArray, partner: NDArray[np.bool_]) -> NDArray:
        """Advance ``v`` by an active step; return where the threshold was met, bool of the shape of ``v``."""
        raise NotImplementedError


@implements(proc=CoupledIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCoupledIFFixed(_CoupledModel, FixedModel):
    """The integers of the chip."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    g_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    c_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    g: np.ndarray = LavaPyType(np.ndarray, np.int64)  # a sum over a sample of what int32 carries
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32)
    delta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _update(self, current: NDArray, partner: NDArray[np.bool_]) -> NDArray:
        bias = self.polarity * bias_current(self.bias_mant, self.bias_exp)
        delta = self.mask * self.delta
        step = coupled_step(self.v, current, partner, dv=self.dv, bias=bias, vth=self.vth, delta=delta)
        self.v[:] = step.membrane
        return step.spike


@implements(proc=CoupledIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyCoupledIFFloat(_CoupledModel, FloatModel):
    """The same dynamics in real numbers: nothing is rounded or clipped. ``v`` is in 1/64 weight units, or in real units."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    g_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    c_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    g: np.ndarray = LavaPyType(np.ndarray, float)
    vth: np.ndarray = LavaPyType(np.ndarray, float)
    delta: np.ndarray = LavaPyType(np.ndarray, float)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, float)

    def _update(self, current: NDArray, partner: NDArray[np.bool_]) -> NDArray:
        delta = self.mask * (self.membrane_unit * self.delta)
        bias = self.polarity * (self.bias_mant * 2.0**self.bias_exp)
        charged = self.charged(self.v + partner * delta, current, bias)
        spikes = charged >= self.membrane_unit * self.vth
        self.v[:] = charged - spikes * delta
        return spikes
