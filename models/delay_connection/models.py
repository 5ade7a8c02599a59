"""Fixed-point and floating-point model of DelayConnection."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.utils.weightutils import clip_weights, truncate_weights
from numpy.typing import NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.delays import Fanout, Synapses
from lava_snnlearn.models.neuron import KernelModel, SampleModel
from lava_snnlearn.processes.delay_connection.process import DelayConnection


class _DelayModel(SampleModel):
    """When sums are sent, and when the synapses are prepared; what a weight is worth is the models' own."""

    weights: np.ndarray
    delays: np.ndarray
    a_buff: np.ndarray

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._fanout: Fanout = proc_params["fanout"]
        self._graded = proc_params["num_message_bits"] > 0
        self._synapses: Synapses | None = None
        self._tables: tuple[Any, Any] = (None, None)

    def run_spk(self) -> None:
        """One step: send what arrives now; receive, and put what is sent under way."""
        synapses = self._current()
        if self.sample_phase() == 0:
            self.a_buff[:] = 0
        rows = len(self.a_buff)
        place = self.time_step % rows
        self.a_out.send(self.a_buff[place])
        sent = self.receive("s_in")
        self.a_buff[place] = 0
        synapses.deliver(self.a_buff, (place + 1) % rows, sent, self._graded)

    def on_var_update(self) -> None:
        """Lava calls this after a Var was set: the synapses have to be prepared anew."""
        self._synapses = None

    def _current(self) -> Synapses:
        """The synapses with the tables as they are; a RefPort that writes a table leaves another array there."""
        weights, delays = self._tables
        if self._synapses is None or weights is not self.weights or delays is not self.delays:
            top = len(self.a_buff) - 1
            within(
                "DelayConnection: delays",
                self.delays,
                0,
                top,
                f"The process was built for delays of at most {top} steps: give max_delay= to its constructor.",
            )
            self._synapses = self._fanout.carrying(self._weights_seen(), self.delays)
            self._tables = self.weights, self.delays
        return self._synapses

    def _weights_seen(self) -> NDArray[Any]:
        """What spikes see of ``weights``, [W], of the dtype of ``a_buff``."""
        raise NotImplementedError


@implements(proc=DelayConnection, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelayConnectionFixed(_DelayModel, KernelModel):
    """The integers of the chip; ``weights`` keeps the form that they are cut to."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    weights: np.ndarray = LavaPyType(np.ndarray, np.int32)
    delays: np.ndarray = LavaPyType(np.ndarray, np.int32)
    a_buff: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        if proc_params["real_weights"]:
            raise TypeError(
                "DelayConnection's fixed_pt model was given float weights, and would have to cut fractions. "
                "Quantise them to integers, or select the tag floating_pt."
            )
        self._exponent: int = proc_params["weight_exp"]
        self._sign_mode, self._weight_bits = proc_params["sign_mode"], proc_params["num_weight_bits"]

    def _weights_seen(self) -> NDArray[np.int32]:
        clipped = clip_weights(self.weights, self._sign_mode, num_bits=limits.WEIGHT_BITS)
        self.weights = truncate_weights(clipped, self._sign_mode, self._weight_bits)
        return self.weights << self._exponent


@implements(proc=DelayConnection, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyDelayConnectionFloat(_DelayModel):
    """The same in real numbers: weights as they are, without the exponent."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    weights: np.ndarray = LavaPyType(np.ndarray, float)
    delays: np.ndarray = LavaPyType(np.ndarray, np.int64)
    a_buff: np.ndarray = LavaPyType(np.ndarray, float)

    def receive(self, port: str) -> NDArray[np.float64]:
        """As in SampleModel, as the kernel takes it."""
        return np.ascontiguousarray(super().receive(port), dtype=np.float64)

    def _weights_seen(self) -> NDArray[np.float64]:
        return np.asarray(self.weights, dtype=np.float64)
