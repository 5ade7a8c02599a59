"""What the models of the Processes that work sample by sample share: phases of a sample, and the two kinds of numbers."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT


class DelayLine:
    """Hands on what came in ``delay`` steps ago, in the same sample; zeros before."""

    def __init__(self, delay: int, size: int, dtype: type[np.generic]) -> None:
        self._rows = np.zeros((delay + 1, size), dtype)
        self._place = 0

    def clear(self) -> None:
        """Forget everything: a sample starts."""
        self._rows[:] = 0

    def shift(self, row: NDArray) -> NDArray:
        """Take in this step's row [size]; returns the one of ``delay`` steps ago, to be read before the next call."""
        self._rows[self._place] = row
        self._place = (self._place + 1) % len(self._rows)
        return self._rows[self._place]


class SampleModel(PyLoihiProcessModel):
    """A Process whose samples take ``reset_interval`` steps each."""

    reset_interval: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def sample_phase(self) -> int:
        """Number of this step in its sample, from 0."""
        return int((self.time_step - 1) % self.reset_interval[0])

    def receive(self, port: str) -> NDArray:
        """What arrives at the InPort of this name; zeros if it is not connected."""
        return getattr(self, port).recv()


class IntegerModel(SampleModel):
    """Receives integers only."""

    def receive(self, port: str) -> NDArray:
        """As in SampleModel; floats are refused (TypeError)."""
        arrived = super().receive(port)
        if arrived.dtype.kind == "f":
            raise TypeError(
                f"{self.implements_process.__name__}'s fixed_pt model received {arrived.dtype} on {port}, and would have to "
                "cut fractions. Send integers: connect processes that have a fixed_pt model with an integer OutPort."
            )
        return arrived


class KernelModel(IntegerModel):
    """Receives what the kernels of :mod:`lava_snnlearn.fixed_point.local_learning` take: integers of 32 bits, contiguous."""

    def receive(self, port: str) -> NDArray:
        """As in IntegerModel; integers beyond 32 bits are refused (LimitError)."""
        arrived = super().receive(port)
        if arrived.dtype != np.int32:
            where = f"{self.implements_process.__name__}: {port}"
            within(where, arrived, -limits.CHANNEL_MAX, limits.CHANNEL_MAX, "Lava carries int32: scale the signals down.")
        return np.ascontiguousarray(arrived, dtype=np.int32)

    def held(self, port: str, limit: int, remedy: str) -> NDArray[np.int32]:
        """As :meth:`receive`, of a port that takes +-limit; what is beyond is refused (LimitError)."""
        arrived = self.receive(port)
        within(f"{self.implements_process.__name__}: {port}", arrived, -limit, limit, remedy)
        return arrived


class GatedModel(SampleModel):
    """Something that is active from ``t_start`` to before ``t_stop`` of each sample."""

    t_start: np.ndarray = LavaPyType(np.ndarray, np.int64)
    t_stop: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def is_active(self, phase: int) -> bool:
        """Whether it is active in a phase."""
        return bool(self.t_start[0] <= phase < self.t_stop[0])


class TimedModel(GatedModel):
    """A neuron with a bias that is active from ``t_start`` to before ``t_stop`` of each sample."""

    bias_exp: np.ndarray = LavaPyType(np.ndarray, np.int64)


class FixedModel(IntegerModel, TimedModel):
    """Chip units: integers in, integers out. Refuses everything else (TypeError)."""

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        if proc_params["real_units"]:
            raise TypeError(
                f"{self.implements_process.__name__}'s fixed_pt model was given float parameters (real units). "
                "Quantise them to integers (chip units), or select the tag floating_pt."
            )


class FloatModel(TimedModel):
    """Real numbers: nothing is rounded or clipped. Membranes are in 1/64 weight units, or in real units."""

    dv: np.ndarray = LavaPyType(np.ndarray, float)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        real_units = proc_params["real_units"]
        self.membrane_unit = 1 if real_units else MEMBRANE_UNIT
        self._leak_one = 1 if real_units else DECAY_ONE

    def charged(self, membrane: NDArray, current: NDArray, bias: ArrayLike) -> NDArray:
        """The membrane after leak, input and bias."""
        return (1 - self.dv / self._leak_one) * membrane + self.membrane_unit * current + bias
