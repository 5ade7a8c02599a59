"""Fixed-point and floating-point model of PerturbedLIF."""

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

from lava_snnlearn.checks import within
from lava_snnlearn.fixed_point import local_learning
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT
from lava_snnlearn.models.neuron import DelayLine, GatedModel, KernelModel
from lava_snnlearn.processes.perturbed_lif.process import PerturbedLIF

_FACTOR_ONE = 1 << local_learning.FACTOR_BITS


class _PerturbedLIFModel(GatedModel):
    """When the neuron is reset, active and idle, and where noise enters; the arithmetic is the models' own."""

    _dtype: ClassVar[type[np.generic]]
    v: np.ndarray
    spikes: np.ndarray
    psi: np.ndarray
    factor: np.ndarray
    clipped: np.ndarray = LavaPyType(np.ndarray, np.int64)
    table: np.ndarray = LavaPyType(np.ndarray, np.int32)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int64)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int64)
    amplitude: np.ndarray = LavaPyType(np.ndarray, np.int64)
    table_shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    spike_bits: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._surrogate: str = proc_params["surrogate"]
        self._shakes_membranes: bool = proc_params["position"] == "pre"
        self._past = DelayLine(proc_params["delay"], proc_params["shape"][0], self._dtype)

    def run_spk(self) -> None:
        """One step: receive everything, fire, send."""
        current, noise, signal = self.receive("a_in"), self.receive("z_in"), self.receive("d_in")
        phase = self.sample_phase()
        active = self.is_active(phase)
        if phase == 0:
            self.v[:] = 0
            self._past.clear()
        if active:
            self._fire(current, noise, int(self.amplitude[0]) if self._shakes_membranes else 0)
        else:
            self.spikes[:] = 0
            self.psi[:] = 0
        self._modulate(self._past.shift(self.psi), signal)
        sent = self.spikes * (1 << int(self.spike_bits[0]))
        if active and not self._shakes_membranes:
            sent = sent + self._riding(noise)
        self.s_out.send(sent)
        self.m_out.send(self.factor)

    def _riding(self, noise: NDArray) -> NDArray:
        """The noise that rides on spikes."""
        return noise

    def _fire(self, current: NDArray, noise: NDArray, amplitude: int) -> None:
        """Advance ``v`` by an active step; fill ``spikes`` and ``psi``."""
        raise NotImplementedError

    def _modulate(self, psi: NDArray, signal: NDArray) -> None:
        """Fill ``factor``."""
        raise NotImplementedError


@implements(proc=PerturbedLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPerturbedLIFFixed(_PerturbedLIFModel, KernelModel):
    """The integers of the chip: kernels shared with the simulator of on-chip learning."""

    _dtype = np.int32
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    z_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    d_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    m_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    spikes: np.ndarray = LavaPyType(np.ndarray, np.int32)
    psi: np.ndarray = LavaPyType(np.ndarray, np.int32)
    factor: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _riding(self, noise: NDArray) -> NDArray:
        room = max((1 << int(self.spike_bits[0]) >> 1) - 1, 0)
        remedy = "It would be taken for spikes: choose larger spike_bits (2 for noise of +-1), or position='pre'."
        within("PerturbedLIF: z_in", noise, -room, room, remedy)
        return noise

    def _fire(self, current: NDArray, noise: NDArray, amplitude: int) -> None:
        self.clipped += local_learning.step_fire(
            self.v,
            current,
            noise,
            self.spikes,
            self.psi,
            int(self.dv[0]),
            int(self.vth[0]),
            amplitude,
            self.table,
            int(self.table_shift[0]),
        )

    def _modulate(self, psi: NDArray, signal: NDArray) -> None:
        local_learning.step_modulate(psi, signal, self.factor)


@implements(proc=PerturbedLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyPerturbedLIFFloat(_PerturbedLIFModel):
    """The same in real numbers, of the same units."""

    _dtype = np.float64
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    z_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    d_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    m_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    spikes: np.ndarray = LavaPyType(np.ndarray, float)
    psi: np.ndarray = LavaPyType(np.ndarray, float)
    factor: np.ndarray = LavaPyType(np.ndarray, float)

    def _fire(self, current: NDArray, noise: NDArray, amplitude: int) -> None:
        theta = float(self.vth[0] * MEMBRANE_UNIT)
        charged = (1 - self.dv[0] / DECAY_ONE) * self.v + MEMBRANE_UNIT * current
        above = charged + amplitude * noise - theta
        self.spikes[:] = above >= 0
        self.psi[:] = _FACTOR_ONE * local_learning.SURROGATES[self._surrogate](np.abs(above) / theta)
        self.v[:] = charged - self.spikes * theta

    def _modulate(self, psi: NDArray, signal: NDArray) -> None:
        self.factor[:] = psi * signal / _FACTOR_ONE
