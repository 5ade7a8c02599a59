"""Fixed-point and floating-point model of Recorder."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_snnlearn.processes.recorder.process import Recorder, SharedRecord


class _RecorderModel(PyLoihiProcessModel):
    _dtype: ClassVar[type[np.generic]]

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._spikes: SharedRecord = proc_params["spikes"]
        self._membranes: SharedRecord = proc_params["membranes"]

    def run_spk(self) -> None:
        """Write what arrives."""
        self._spikes.append(self.s_in.recv(), self._dtype)

    def post_guard(self) -> bool:
        """A management phase costs every process of the network a message, so it is asked for only where it is used."""
        return bool(self.v_ref.csp_ports)

    def run_post_mgmt(self) -> None:
        """Write the Var behind v_ref, which has finished this step's update."""
        self._membranes.append(self.v_ref.read(), self._dtype)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorderFixed(_RecorderModel):
    """Records int32."""

    _dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    v_ref: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyRecorderFloat(_RecorderModel):
    """Records float64."""

    _dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    v_ref: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, float)
