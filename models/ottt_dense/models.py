"""Fixed-point and floating-point model of OTTTDense."""

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
from lava_snnlearn.fixed_point import limits, local_learning, plasticity
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE
from lava_snnlearn.models.neuron import DelayLine, KernelModel, SampleModel
from lava_snnlearn.processes.ottt_dense.process import OTTTDense
from lava_snnlearn.processes.recorder.process import SharedRecord


class _OTTTDenseModel(SampleModel):
    """What happens in which order; the arithmetic is the models' own."""

    _dtype: ClassVar[type[np.generic]]
    memory: np.ndarray
    gradient: np.ndarray
    trace: np.ndarray
    a_buffer: np.ndarray
    b_buffer: np.ndarray
    exponent: np.ndarray = LavaPyType(np.ndarray, np.int64)
    back_exponent: np.ndarray = LavaPyType(np.ndarray, np.int64)
    impulse: np.ndarray = LavaPyType(np.ndarray, np.int64)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int64)
    spike_bits: np.ndarray = LavaPyType(np.ndarray, np.int64)
    multiplier: np.ndarray = LavaPyType(np.ndarray, np.int64)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    seed: np.ndarray = LavaPyType(np.ndarray, np.int64)
    sample: np.ndarray = LavaPyType(np.ndarray, np.int64)
    learn_phase: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._rule: str = proc_params["rule"]
        self._accumulates: bool = proc_params["accumulates"]
        self._projected: bool = proc_params["projected"]
        self._record: SharedRecord = proc_params["memories"]
        self._past = DelayLine(proc_params["delay"], self._record.shape[1], self._dtype)

    def run_spk(self) -> None:
        """One step: send what the last one left; receive, trace, learn."""
        phase = self.sample_phase()
        if phase == 0:
            for state in (self.trace, self.gradient, self.a_buffer, self.b_buffer):
                state[:] = 0
            self._past.clear()
        self.a_out.send(self.a_buffer)
        self.b_out.send(self.b_buffer)
        sent, factor = self.receive("s_in"), self._factor()
        self._forward(sent)
        self._backward(factor)
        self._filter(self._past.shift(self._clean(sent)))
        self.x_out.send(self.trace)
        residual = self._residual()
        pre = residual if self._projected else self.trace
        number = int(self.sample[0] * self.reset_interval[0]) + phase
        if self._accumulates:
            self._gather(pre, factor)
            if phase == self.learn_phase[0]:
                self._apply(number)
        else:
            self._learn(pre, factor, number)
        if phase == self.reset_interval[0] - 1:
            self.sample += 1
        self._record.keep(self.memory, self._dtype)

    def _factor(self) -> NDArray:
        return self.receive("m_in")

    def _residual(self) -> NDArray:
        return self.receive("r_in")

    def _forward(self, sent: NDArray) -> None:
        """Fill ``a_buffer``."""
        raise NotImplementedError

    def _backward(self, factor: NDArray) -> None:
        """Fill ``b_buffer``."""
        raise NotImplementedError

    def _clean(self, sent: NDArray) -> NDArray:
        """Spikes without the noise that rides on them."""
        raise NotImplementedError

    def _filter(self, spikes: NDArray) -> None:
        """Advance ``trace`` by a step."""
        raise NotImplementedError

    def _learn(self, pre: NDArray, post: NDArray, number: int) -> None:
        """Change ``memory`` by one step's product."""
        raise NotImplementedError

    def _gather(self, pre: NDArray, post: NDArray) -> None:
        """Add one step's product to ``gradient``."""
        raise NotImplementedError

    def _apply(self, number: int) -> None:
        """Change ``memory`` by the gradient, and clear that."""
        raise NotImplementedError


@implements(proc=OTTTDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyOTTTDenseFixed(_OTTTDenseModel, KernelModel):
    """The integers of the chip: kernels shared with the simulator of on-chip learning."""

    _dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    m_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    r_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    b_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    x_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    memory: np.ndarray = LavaPyType(np.ndarray, np.int16)
    gradient: np.ndarray = LavaPyType(np.ndarray, np.int32)
    trace: np.ndarray = LavaPyType(np.ndarray, np.int32)
    a_buffer: np.ndarray = LavaPyType(np.ndarray, np.int32)
    b_buffer: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._number = plasticity.RULES.index(self._rule)
        self._spikes = np.zeros(self._record.shape[1], np.int32)

    def _factor(self) -> NDArray:
        return self.held("m_in", -plasticity.ERROR_MIN, "Factors and errors have 8 bits: scale them down.")

    def _residual(self) -> NDArray:
        return self.held("r_in", local_learning.TRACE_MAX, "Residuals of traces have 7 bits and a sign: clip them.")

    def _forward(self, sent: NDArray) -> None:
        exponent = int(self.exponent[0])
        if not local_learning.step_forward(self.memory, self._number, sent, exponent, self.a_buffer):
            sums = plasticity.forward_sums(plasticity.seen(self._rule, self.memory), sent, exponent)
            remedy = "Lava carries sums as int32: choose a smaller exponent, or smaller payloads."
            within("OTTTDense: a_out", sums, -limits.CHANNEL_MAX, limits.CHANNEL_MAX, remedy)

    def _backward(self, factor: NDArray) -> None:
        local_learning.step_backward(self.memory, self._number, factor, int(self.back_exponent[0]), self.b_buffer)

    def _clean(self, sent: NDArray) -> NDArray:
        local_learning.step_clean(sent, int(self.spike_bits[0]), self._spikes)
        return self._spikes

    def _filter(self, spikes: NDArray) -> None:
        local_learning.step_filter_trace(self.trace, spikes, int(self.dv[0]), int(self.impulse[0]))

    def _learn(self, pre: NDArray, post: NDArray, number: int) -> None:
        local_learning.step_learn(self.memory, self._number, pre, post, *self._rate(), number)

    def _gather(self, pre: NDArray, post: NDArray) -> None:
        local_learning.step_gather(self.gradient, pre, post)

    def _apply(self, number: int) -> None:
        local_learning.step_apply_gathered(self.memory, self._number, self.gradient, *self._rate(), number)

    def _rate(self) -> tuple[int, int, int]:
        return int(self.multiplier[0]), int(self.shift[0]), int(self.seed[0])


@implements(proc=OTTTDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyOTTTDenseFloat(_OTTTDenseModel):
    """The same in real numbers, of the same units."""

    _dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    m_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    r_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    b_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    x_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    memory: np.ndarray = LavaPyType(np.ndarray, float)
    gradient: np.ndarray = LavaPyType(np.ndarray, float)
    trace: np.ndarray = LavaPyType(np.ndarray, float)
    a_buffer: np.ndarray = LavaPyType(np.ndarray, float)
    b_buffer: np.ndarray = LavaPyType(np.ndarray, float)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._unit = 1 << plasticity.SHADOW_BITS - 1  # shadow units to a weight unit

    def _weights(self) -> NDArray:
        return self.memory / self._unit if self._rule == "shadow" else self.memory

    def _forward(self, sent: NDArray) -> None:
        self.a_buffer[:] = self._weights() @ sent * 2.0 ** self.exponent[0]

    def _backward(self, factor: NDArray) -> None:
        self.b_buffer[:] = factor @ self._weights() * 2.0 ** self.back_exponent[0]

    def _clean(self, sent: NDArray) -> NDArray:
        if self.spike_bits[0] == 0:
            return sent
        return np.floor(sent / 2.0 ** self.spike_bits[0] + 0.5)

    def _filter(self, spikes: NDArray) -> None:
        self.trace[:] = self.trace * (1 - self.dv[0] / DECAY_ONE) + self.impulse[0] * np.maximum(spikes, 0)

    def _learn(self, pre: NDArray, post: NDArray, _number: int) -> None:
        self._subtract(np.multiply.outer(post, pre))

    def _gather(self, pre: NDArray, post: NDArray) -> None:
        self.gradient += np.multiply.outer(post, pre)

    def _apply(self, _number: int) -> None:
        self._subtract(self.gradient)
        self.gradient[:] = 0

    def _subtract(self, product: NDArray) -> None:
        change = product * (self.multiplier[0] / 2.0 ** self.shift[0])
        self.memory -= change if self._rule == "shadow" else change / self._unit
