"""Fixed-point and floating-point model of TernaryIF."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import bias_current, ternary_step
from lava_snnlearn.models.neuron import FixedModel, FloatModel, TimedModel
from lava_snnlearn.processes.ternary_if.process import TernaryIF


class _TernaryModel(TimedModel):
    """What happens in a sample, and when; what the neuron does when active is the models' own."""

    v: np.ndarray
    g: np.ndarray
    g_limit: np.ndarray
    mask: np.ndarray = LavaPyType(np.ndarray, np.int32)
    mask_steps: np.ndarray = LavaPyType(np.ndarray, np.int32)
    count: np.ndarray = LavaPyType(np.ndarray, np.int32)
    forward_count: np.ndarray = LavaPyType(np.ndarray, np.int32)
    clipped: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        """One step, in the order of the Process's docstring."""
        current, injected, forward = self.receive("a_in"), self.receive("g_in"), self.receive("h_in")
        phase = self.sample_phase()
        if phase == 0:
            self._start_sample()
        self.g += injected
        self.forward_count += forward != 0
        if phase == self.t_start[0]:
            self._become_active()
        spikes = np.zeros(self.v.shape, dtype=np.int32)
        if self.is_active(phase):
            spikes = self.mask * self._update(current + self.g)
            self.count += spikes
        self.s_out.send(spikes)

    def _start_sample(self) -> None:
        for state in (self.v, self.g, self.count, self.forward_count):
            state[:] = 0
        if self.mask_steps[0]:
            self.mask[:] = 0

    def _become_active(self) -> None:
        if self.mask_steps[0]:
            self.mask[:] = (self.forward_count > 0) & (self.forward_count < self.mask_steps[0])
        held = np.clip(self.g, -self.g_limit, self.g_limit)
        self.clipped += np.count_nonzero(held != self.g)
        self.g[:] = held

    def _update(self, current: NDArray) -> NDArray[np.int8]:
        """Advance ``v`` by an active step; return the spikes before the mask, -1, 0 or 1, of the shape of ``v``."""
        raise NotImplementedError


@implements(proc=TernaryIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyTernaryIFFixed(_TernaryModel, FixedModel):
    """The integers of the chip: the integer simulator's own arithmetic."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    g_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    h_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    g: np.ndarray = LavaPyType(np.ndarray, np.int64)  # a sum over a sample of what int32 carries
    g_limit: np.ndarray = LavaPyType(np.ndarray, np.int64)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32)
    delta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _update(self, current: NDArray) -> NDArray[np.int8]:
        bias = bias_current(self.bias_mant, self.bias_exp)
        step = ternary_step(self.v, current, dv=self.dv, bias=bias, vth=self.vth, delta=self.delta)
        self.v[:] = step.membrane
        return step.spike


@implements(proc=TernaryIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyTernaryIFFloat(_TernaryModel, FloatModel):
    """The same dynamics in real numbers: only ``g_limit`` clips. ``v`` is in 1/64 weight units, or in real units."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    g_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    h_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    g: np.ndarray = LavaPyType(np.ndarray, float)
    g_limit: np.ndarray = LavaPyType(np.ndarray, float)
    vth: np.ndarray = LavaPyType(np.ndarray, float)
    delta: np.ndarray = LavaPyType(np.ndarray, float)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, float)

    def _update(self, current: NDArray) -> NDArray[np.int8]:
        charged = self.charged(self.v, current, self.bias_mant * 2.0**self.bias_exp)
        threshold = self.membrane_unit * self.vth
        spikes = (charged >= threshold).astype(np.int8) - (charged <= -threshold).astype(np.int8)
        self.v[:] = charged - spikes * (self.membrane_unit * self.delta)
        return spikes
