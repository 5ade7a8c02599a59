"""Fixed-point and floating-point model of SoftResetLIF."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT, bias_current, soft_reset_step
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF


class _SoftResetModel(PyLoihiProcessModel):
    """When the neuron is reset, active and idle; what it does when active is the models' own."""

    v: np.ndarray
    v_init: np.ndarray
    t_start: np.ndarray = LavaPyType(np.ndarray, np.int64)
    t_stop: np.ndarray = LavaPyType(np.ndarray, np.int64)
    reset_interval: np.ndarray = LavaPyType(np.ndarray, np.int64)
    bias_exp: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def run_spk(self) -> None:
        """One step: receive, reset at the start of a sample, update if active, send."""
        current = self.a_in.recv()
        phase = (self.time_step - 1) % self.reset_interval[0]
        if phase == 0:
            self.v[:] = self.v_init
        if self.t_start[0] <= phase < self.t_stop[0]:
            spikes = self._update(current)
        else:
            spikes = np.zeros(self.v.shape, dtype=bool)
        self.s_out.send(spikes)

    def _update(self, current: NDArray) -> NDArray[np.bool_]:
        """Advance ``v`` by an active step; return the spikes, bool of the shape of ``v``."""
        raise NotImplementedError


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySoftResetLIFFixed(_SoftResetModel):
    """The integers of the chip: the emulator's own arithmetic."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32)
    delta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    v_init: np.ndarray = LavaPyType(np.ndarray, np.int32)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        if proc_params["real_units"]:
            raise TypeError(
                "SoftResetLIF's fixed_pt model was given float parameters (real units). "
                "Quantise them to integers (chip units), or select the tag floating_pt."
            )

    def _update(self, current: NDArray) -> NDArray[np.bool_]:
        if current.dtype.kind == "f":
            raise TypeError(
                f"SoftResetLIF's fixed_pt model received {current.dtype} on a_in, and would have to cut fractions. "
                "Send integers: connect processes that have a fixed_pt model with an integer OutPort."
            )
        bias = bias_current(self.bias_mant, self.bias_exp)
        step = soft_reset_step(self.v, current, dv=self.dv, bias=bias, vth=self.vth, delta=self.delta)
        self.v[:] = step.membrane
        return step.spike


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySoftResetLIFFloat(_SoftResetModel):
    """The same dynamics in real numbers: nothing is rounded or clipped. ``v`` is in 1/64 weight units, or in real units."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    dv: np.ndarray = LavaPyType(np.ndarray, float)
    vth: np.ndarray = LavaPyType(np.ndarray, float)
    delta: np.ndarray = LavaPyType(np.ndarray, float)
    v_init: np.ndarray = LavaPyType(np.ndarray, float)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, float)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        real_units = proc_params["real_units"]
        self._membrane_unit = 1 if real_units else MEMBRANE_UNIT
        self._leak_one = 1 if real_units else DECAY_ONE

    def _update(self, current: NDArray) -> NDArray[np.bool_]:
        bias = self.bias_mant * 2.0**self.bias_exp
        charged = (1 - self.dv / self._leak_one) * self.v + self._membrane_unit * current + bias
        spikes = charged >= self._membrane_unit * self.vth
        self.v[:] = charged - spikes * (self._membrane_unit * self.delta)
        return spikes
