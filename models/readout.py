"""What the models with the error of a readout share: sums of a sample, the target, the error in both kinds of numbers."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from numpy.typing import NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.fixed_point import limits, plasticity
from lava_snnlearn.models.neuron import KernelModel, SampleModel


class ReadoutModel(SampleModel):
    """Sums ``z``, held target, error ``e``; the arithmetic is the models' own."""

    z: np.ndarray
    e: np.ndarray
    target: np.ndarray
    table: np.ndarray = LavaPyType(np.ndarray, np.int64)
    table_step: np.ndarray = LavaPyType(np.ndarray, float)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._kind: str = proc_params["kind"]

    def take(self, current: NDArray) -> None:
        """Add what arrived to ``z``."""
        raise NotImplementedError

    def error_of(self, potential: NDArray) -> NDArray:
        """The error of potentials [classes] against ``target``; 0 where there is no target."""
        raise NotImplementedError


class FixedReadout(ReadoutModel, KernelModel):
    """The integers of the chip, shared with the simulator of on-chip learning."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    z: np.ndarray = LavaPyType(np.ndarray, np.int32)
    e: np.ndarray = LavaPyType(np.ndarray, np.int32)
    target: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def take(self, current: NDArray) -> None:
        """As in ReadoutModel; sums beyond 32 bits are refused (LimitError)."""
        self.z[:] = self.fitting("z", np.add(self.z, current, dtype=np.int64))

    def fitting(self, name: str, total: NDArray[np.int64]) -> NDArray[np.int64]:
        """The potentials ``name`` if they fit into 32 bits; else raises LimitError."""
        remedy = "Potentials are held as int32: choose a smaller scale of the readout's weights."
        where = f"{self.implements_process.__name__}: {name}"
        within(where, total, -limits.CHANNEL_MAX, limits.CHANNEL_MAX, remedy)
        return total

    def error_of(self, potential: NDArray) -> NDArray:
        """``plasticity.error``, -128..127."""
        return plasticity.error(self._kind, potential, self.target, self.table, int(self.shift[0]))


class FloatReadout(ReadoutModel):
    """The same in real numbers, errors in units of 1/128: nothing is rounded or clipped."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    z: np.ndarray = LavaPyType(np.ndarray, float)
    e: np.ndarray = LavaPyType(np.ndarray, float)
    target: np.ndarray = LavaPyType(np.ndarray, float)

    def take(self, current: NDArray) -> None:
        """As in ReadoutModel."""
        self.z += current

    def error_of(self, potential: NDArray) -> NDArray:
        """As in ReadoutModel."""
        if not self.target.any():
            return np.zeros_like(potential)
        scaled = potential / 2.0 ** self.shift[0]
        if self._kind == "mse":
            return scaled - plasticity.ERROR_ONE * self.target
        weight = np.exp(self.table_step[0] * (scaled - scaled.max()))
        return plasticity.ERROR_ONE * (weight / weight.sum() - self.target)
