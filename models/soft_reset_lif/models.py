"""Fixed-point and floating-point model of SoftResetLIF."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import bias_current, soft_reset_step
from lava_snnlearn.models.neuron import FixedModel, FloatModel, TimedModel
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF


class _SoftResetModel(TimedModel):
    """When the neuron is reset, active and idle; what it does when active is the models' own."""

    v: np.ndarray
    v_init: np.ndarray

    def run_spk(self) -> None:
        """One step: receive, reset at the start of a sample, update if active, send."""
        current = self.receive("a_in")
        phase = self.sample_phase()
        if phase == 0:
            self.v[:] = self.v_init
        spikes = self._update(current) if self.is_active(phase) else np.zeros(self.v.shape, dtype=bool)
        self.s_out.send(spikes)

    def _update(self, current: NDArray) -> NDArray:
        """Advance ``v`` by an active step; return the spikes, bool of the shape of ``v``."""
        raise NotImplementedError


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySoftResetLIFFixed(_SoftResetModel, FixedModel):
    """The integers of the chip: the emulator's own arithmetic."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32)
    delta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    v_init: np.ndarray = LavaPyType(np.ndarray, np.int32)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _update(self, current: NDArray) -> NDArray:
        bias = bias_current(self.bias_mant, self.bias_exp)
        step = soft_reset_step(self.v, current, dv=self.dv, bias=bias, vth=self.vth, delta=self.delta)
        self.v[:] = step.membrane
        return step.spike


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySoftResetLIFFloat(_SoftResetModel, FloatModel):
    """The same dynamics in real numbers: nothing is rounded or clipped. ``v`` is in 1/64 weight units, or in real units."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    vth: np.ndarray = LavaPyType(np.ndarray, float)
    delta: np.ndarray = LavaPyType(np.ndarray, float)
    v_init: np.ndarray = LavaPyType(np.ndarray, float)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, float)

    def _update(self, current: NDArray) -> NDArray:
        charged = self.charged(self.v, current, self.bias_mant * 2.0**self.bias_exp)
        spikes = charged >= self.membrane_unit * self.vth
        self.v[:] = charged - spikes * (self.membrane_unit * self.delta)
        return spikes
