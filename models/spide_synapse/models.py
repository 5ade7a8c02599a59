"""Fixed-point and floating-point model of SpideSynapse."""

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
from lava_snnlearn.fixed_point import limits, plasticity
from lava_snnlearn.models.neuron import IntegerModel, SampleModel
from lava_snnlearn.processes.recorder.process import SharedRecord
from lava_snnlearn.processes.spide_synapse.process import SpideSynapse


class _SpideSynapseModel(SampleModel):
    """What happens in which phase; the arithmetic is the models' own."""

    _dtype: ClassVar[type[np.generic]]
    memory: np.ndarray
    view: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    a_buffer: np.ndarray
    b_buffer: np.ndarray
    exponent: np.ndarray = LavaPyType(np.ndarray, np.int64)
    back_exponent: np.ndarray = LavaPyType(np.ndarray, np.int64)
    multiplier: np.ndarray = LavaPyType(np.ndarray, np.int64)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    seed: np.ndarray = LavaPyType(np.ndarray, np.int64)
    sample: np.ndarray = LavaPyType(np.ndarray, np.int64)
    learn_phase: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._rule: str = proc_params["rule"]
        self._mask: NDArray[np.bool_] = proc_params["mask"]
        self._records: tuple[SharedRecord, SharedRecord] = (proc_params["memories"], proc_params["views"])

    def run_spk(self) -> None:
        """One step: send both ways what the last one left, then receive, count and, in the learning phase, learn."""
        phase = self.sample_phase()
        if phase == 0:
            for state in (self.pre, self.post, self.a_buffer, self.b_buffer):
                state[:] = 0
            self.view[:] = self._seen()
        self.a_out.send(self.a_buffer)
        self.b_out.send(self.b_buffer)
        spikes, backward = self.receive("s_in"), self.receive("b_in")
        # Most steps are silent in one direction at least.
        self.a_buffer[:] = self._forward(spikes) if spikes.any() else 0
        self.b_buffer[:] = self._backward(backward) if backward.any() else 0
        self.pre += spikes
        self.post += backward
        if phase == self.learn_phase[0]:
            self.memory[:] = self._learned()
            self.view[:] = self._seen()
            self.sample += 1
            for record, weights in zip(self._records, (self.memory, self.view), strict=True):
                record.keep(weights, self._dtype)

    def _seen(self) -> NDArray:
        """The weights that spikes see, from the memory."""
        raise NotImplementedError

    def _forward(self, spikes: NDArray) -> NDArray:
        raise NotImplementedError

    def _backward(self, spikes: NDArray) -> NDArray:
        raise NotImplementedError

    def _learned(self) -> NDArray:
        """The memory after the update."""
        raise NotImplementedError


@implements(proc=SpideSynapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpideSynapseFixed(_SpideSynapseModel, IntegerModel):
    """The integers of the chip, shared with the simulator of on-chip learning."""

    _dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    b_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    b_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    memory: np.ndarray = LavaPyType(np.ndarray, np.int32)
    view: np.ndarray = LavaPyType(np.ndarray, np.int32)
    pre: np.ndarray = LavaPyType(np.ndarray, np.int32)
    post: np.ndarray = LavaPyType(np.ndarray, np.int32)
    a_buffer: np.ndarray = LavaPyType(np.ndarray, np.int32)
    b_buffer: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _seen(self) -> NDArray:
        return np.where(self._mask, plasticity.seen(self._rule, self.memory), 0)

    def _forward(self, spikes: NDArray) -> NDArray:
        sums = plasticity.forward_sums(self.view, _held("s_in", spikes), int(self.exponent[0]))
        return _carried("a_out", sums)

    def _backward(self, spikes: NDArray) -> NDArray:
        sums = plasticity.backward_sums(self.view, _held("b_in", spikes), int(self.back_exponent[0]))
        return _carried("b_out", sums)

    def _learned(self) -> NDArray:
        return plasticity.learned(
            self._rule,
            self.memory,
            self.pre,
            self.post,
            int(self.multiplier[0]),
            int(self.shift[0]),
            int(self.seed[0]),
            int(self.sample[0]),
            self._mask,
        )


@implements(proc=SpideSynapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySpideSynapseFloat(_SpideSynapseModel):
    """The same in real numbers, of the same units; only the ends of the memory's range are kept."""

    _dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    b_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    b_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    memory: np.ndarray = LavaPyType(np.ndarray, float)
    view: np.ndarray = LavaPyType(np.ndarray, float)
    pre: np.ndarray = LavaPyType(np.ndarray, float)
    post: np.ndarray = LavaPyType(np.ndarray, float)
    a_buffer: np.ndarray = LavaPyType(np.ndarray, float)
    b_buffer: np.ndarray = LavaPyType(np.ndarray, float)

    def _seen(self) -> NDArray:
        unit = 1 << plasticity.SHADOW_BITS - 1 if self._rule == "shadow" else 1
        return np.where(self._mask, self.memory / unit, 0.0)

    def _forward(self, spikes: NDArray) -> NDArray:
        return self.view @ spikes * 2.0 ** self.exponent[0]

    def _backward(self, spikes: NDArray) -> NDArray:
        return spikes @ self.view * 2.0 ** self.back_exponent[0]

    def _learned(self) -> NDArray:
        change = self._mask * np.multiply.outer(self.post, self.pre) * (self.multiplier[0] / 2.0 ** self.shift[0])
        if self._rule == "shadow":
            return np.clip(self.memory - change, -plasticity.SHADOW_MAX, plasticity.SHADOW_MAX)
        change = change / (1 << plasticity.SHADOW_BITS - 1)
        return np.clip(self.memory - change, limits.WEIGHT_MIN, limits.WEIGHT_MAX)


def _held(port: str, received: NDArray) -> NDArray:
    within(f"SpideSynapse: {port}", received, -limits.GRADED_MAX, limits.GRADED_MAX, "Signals have 8 bits: scale them down.")
    return received


def _carried(port: str, sums: NDArray[np.int64]) -> NDArray[np.int64]:
    remedy = "Lava carries sums as int32: choose a smaller exponent, or smaller payloads."
    within(f"SpideSynapse: {port}", sums, -limits.CHANNEL_MAX, limits.CHANNEL_MAX, remedy)
    return sums
