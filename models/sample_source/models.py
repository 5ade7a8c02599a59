"""Fixed-point and floating-point model of SampleSource."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_snnlearn.processes.sample_source.process import SampleSource


class _SourceModel(PyLoihiProcessModel):
    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._data: np.ndarray = proc_params["data"]
        self._silence = np.zeros(self._data.shape[1:], dtype=self._data.dtype)

    def run_spk(self) -> None:
        """Send the row of this step; the port casts it to its own type."""
        step = self.time_step - 1
        self.s_out.send(self._data[step] if step < len(self._data) else self._silence)


@implements(proc=SampleSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySampleSourceFixed(_SourceModel):
    """Sends int32; refuses float data, of which the port would cut the fractions."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        if self._data.dtype.kind == "f":
            raise TypeError(
                f"SampleSource's fixed_pt model was given data of type {self._data.dtype}. "
                "Give integers, or select the tag floating_pt."
            )


@implements(proc=SampleSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySampleSourceFloat(_SourceModel):
    """Sends float."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
