"""Fixed-point and floating-point model of OPZOFeedback."""

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
from lava_snnlearn.models.neuron import DelayLine, KernelModel, SampleModel
from lava_snnlearn.processes.opzo_feedback.process import OPZOFeedback
from lava_snnlearn.processes.recorder.process import SharedRecord


class _OPZOFeedbackModel(SampleModel):
    """What happens in which phase; the arithmetic is the models' own."""

    _dtype: ClassVar[type[np.generic]]
    matrix: np.ndarray
    mean: np.ndarray
    buffer: np.ndarray
    count: np.ndarray = LavaPyType(np.ndarray, np.int64)
    momentum: np.ndarray = LavaPyType(np.ndarray, np.int64)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    baseline: np.ndarray = LavaPyType(np.ndarray, np.int64)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._noise = DelayLine(proc_params["delay"], proc_params["size"], self._dtype)
        self._matrices: SharedRecord = proc_params["matrices"]

    def run_spk(self) -> None:
        """One step: send what the last one left, then receive, learn and compute the next signal."""
        if self.sample_phase() == 0:
            self.buffer[:] = 0
            self._noise.clear()
        self.g_out.send(self.buffer)
        noise, output, error = self._signals()
        answered = self._noise.shift(noise)
        if self.learning[0] and answered.any():
            self.count += 1
            bits = local_learning.momentum_bits.py_func(int(self.count[0]), int(self.momentum[0]))
            self._learn(answered, self._centred(output, int(self.baseline[0])) if self.baseline[0] else output, bits)
        self._feed_back(error)
        self._matrices.keep(self.matrix, self._dtype)

    def _signals(self) -> tuple[NDArray, NDArray, NDArray]:
        """Noise, output and error that arrive."""
        raise NotImplementedError

    def _centred(self, output: NDArray, bits: int) -> NDArray:
        """The output without its running mean, which takes it in."""
        raise NotImplementedError

    def _learn(self, noise: NDArray, output: NDArray, bits: int) -> None:
        raise NotImplementedError

    def _feed_back(self, error: NDArray) -> None:
        """Fill the buffer."""
        raise NotImplementedError


@implements(proc=OPZOFeedback, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyOPZOFeedbackFixed(_OPZOFeedbackModel, KernelModel):
    """The integers shared with the simulator of on-chip learning."""

    _dtype = np.int32
    z_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    o_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    g_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    matrix: np.ndarray = LavaPyType(np.ndarray, np.int32)
    mean: np.ndarray = LavaPyType(np.ndarray, np.int32)
    buffer: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _signals(self) -> tuple[NDArray, NDArray, NDArray]:
        return (
            self.held("z_in", 1, "Noise is -1, 0 or 1: connect a NoiseSource."),
            self.receive("o_in"),
            self.held("e_in", limits.GRADED_MAX, "Errors have 8 bits: connect an ErrorReadout."),
        )

    def _centred(self, output: NDArray, bits: int) -> NDArray:
        centred = np.empty_like(output)
        local_learning.step_centre(output, self.mean, bits, centred)
        return centred

    def _learn(self, noise: NDArray, output: NDArray, bits: int) -> None:
        local_learning.step_learn_feedback(self.matrix, noise, output, bits)

    def _feed_back(self, error: NDArray) -> None:
        local_learning.step_feed_back(self.matrix, error, int(self.shift[0]), self.buffer)


@implements(proc=OPZOFeedback, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyOPZOFeedbackFloat(_OPZOFeedbackModel):
    """The same in real numbers, of the same units: nothing is rounded or clipped."""

    _dtype = np.float64
    z_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    o_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    g_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    matrix: np.ndarray = LavaPyType(np.ndarray, float)
    mean: np.ndarray = LavaPyType(np.ndarray, float)
    buffer: np.ndarray = LavaPyType(np.ndarray, float)

    def _signals(self) -> tuple[NDArray, NDArray, NDArray]:
        return self.receive("z_in"), self.receive("o_in"), self.receive("e_in")

    def _centred(self, output: NDArray, bits: int) -> NDArray:
        unit = 1 << local_learning.MEAN_BITS
        centred = output - self.mean / unit
        self.mean += (unit * output - self.mean) / 2.0**bits
        return centred

    def _learn(self, noise: NDArray, output: NDArray, bits: int) -> None:
        target = np.multiply.outer(noise, output) * (1 << local_learning.FEEDBACK_BITS)
        self.matrix += (target - self.matrix) / 2.0**bits

    def _feed_back(self, error: NDArray) -> None:
        self.buffer[:] = self.matrix @ error / 2.0 ** self.shift[0]
