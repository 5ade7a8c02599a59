"""Fixed-point and floating-point model of FusedNetwork."""

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
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.running import RunningNetwork, place
from lava_snnlearn.models.neuron import KernelModel, SampleModel
from lava_snnlearn.processes.fused_network.process import FusedNetwork, FusedRecords


class _FusedModel(SampleModel):
    """When it receives and sends; the numbers are the models' own."""

    _dtype: ClassVar[type[np.generic]]
    v: np.ndarray

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        network: FixedNetwork = proc_params["network"]
        self._takes_current = network.host.form == "current"
        self._range = network.host.value_range
        self._counts = network.host.form == "spikes"
        self._running = RunningNetwork(network, real=self._dtype is np.float64, endless=proc_params["endless"])
        self._answer = place(network, network.output)
        self._also = [place(network, name) for name in proc_params["also"]]
        self._silence = np.zeros(1, np.int32)
        self._data: NDArray[np.int32] | None = proc_params["data"]
        self._records: FusedRecords | None = proc_params["records"]

    def run_spk(self) -> None:
        """One step; what arrives over connections was sent before, so that it is sent on before this step's input comes."""
        current = self._heard() if self._takes_current else None
        sent = self._running.advance(self.sample_phase(), self.v, current)
        self.s_out.send(sent[self._answer])
        also = [sent[part] for part in self._also]
        self.also_out.send(np.concatenate(also) if also else self._silence)
        if self._records is not None:
            self._records.keep([sent[self._answer], *also, *(self.v[part] for part in self._also)], self._dtype)
        self._running.listen(None if self._takes_current else self._heard())

    def _heard(self) -> NDArray:
        """The input of this step, of the dtype of the membranes, contiguous."""
        if self._data is None:
            return self._input()
        if self.s_in.csp_ports:
            raise ValueError("FusedNetwork: s_in is connected, but the process feeds itself; leave data out")
        step = self.time_step - 1
        row = self._data[step] if step < len(self._data) else np.zeros_like(self._data[0])
        return row.astype(self._dtype)

    def _input(self) -> NDArray:
        """What arrives at ``s_in``, of the same kind."""
        raise NotImplementedError


@implements(proc=FusedNetwork, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFusedNetworkFixed(_FusedModel, KernelModel):
    """The integers of the chip: the emulator's own arithmetic."""

    _dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    also_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _input(self) -> NDArray[np.int32]:
        if self._counts:
            return self.receive("s_in")  # anything but 0 is one spike
        values = self.receive("s_in")
        within("FusedNetwork: s_in", values, *self._range, "The network's sums were checked for inputs of this range.")
        return values


@implements(proc=FusedNetwork, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyFusedNetworkFloat(_FusedModel):
    """The same in real numbers: nothing is rounded or clipped. Membranes are in 1/64 weight units."""

    _dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    also_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)

    def _input(self) -> NDArray[np.float64]:
        return np.ascontiguousarray(self.receive("s_in"), dtype=np.float64)
