"""What the models of the Processes that work sample by sample share: phases of a sample, and the two kinds of numbers."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT


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


class TimedModel(SampleModel):
    """A neuron that is active from ``t_start`` to before ``t_stop`` of each sample."""

    t_start: np.ndarray = LavaPyType(np.ndarray, np.int64)
    t_stop: np.ndarray = LavaPyType(np.ndarray, np.int64)
    bias_exp: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def is_active(self, phase: int) -> bool:
        """Whether the neuron is active in a phase."""
        return bool(self.t_start[0] <= phase < self.t_stop[0])


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
