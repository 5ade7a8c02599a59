"""Fixed-point and floating-point model of NoiseSource."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_snnlearn.fixed_point import local_learning, plasticity
from lava_snnlearn.models.neuron import SampleModel
from lava_snnlearn.processes.noise_source.process import NoiseSource


class _NoiseSourceModel(SampleModel):
    """When there is noise; the signs are the models' own."""

    noise: np.ndarray
    seed: np.ndarray = LavaPyType(np.ndarray, np.int64)
    sample: np.ndarray = LavaPyType(np.ndarray, np.int64)
    steps: np.ndarray = LavaPyType(np.ndarray, np.int64)
    t_start: np.ndarray = LavaPyType(np.ndarray, np.int64)
    antithetic: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def run_spk(self) -> None:
        """One step: draw and send."""
        phase = self.sample_phase()
        step, steps = phase - int(self.t_start[0]), int(self.steps[0])
        if 0 <= step < steps:
            self._draw(int(self.sample[0]) * steps + step)
        else:
            self.noise[:] = 0
        self.z_out.send(self.noise)
        if phase == self.reset_interval[0] - 1:
            self.sample += 1

    def _draw(self, number: int) -> None:
        """Fill ``noise`` with the signs of a step."""
        raise NotImplementedError


@implements(proc=NoiseSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNoiseSourceFixed(_NoiseSourceModel):
    """The integers shared with the simulator of on-chip learning."""

    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    noise: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _draw(self, number: int) -> None:
        local_learning.step_rademacher(self.noise, int(self.seed[0]), number, bool(self.antithetic[0]))


@implements(proc=NoiseSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyNoiseSourceFloat(_NoiseSourceModel):
    """The same signs as floats."""

    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    noise: np.ndarray = LavaPyType(np.ndarray, float)

    def _draw(self, number: int) -> None:
        odd = number % 2 if self.antithetic[0] else 0
        bits = plasticity.random_bits(self.noise.shape, 1, int(self.seed[0]), number - odd)
        self.noise[:] = (2.0 * bits - 1.0) * (-1.0 if odd else 1.0)
