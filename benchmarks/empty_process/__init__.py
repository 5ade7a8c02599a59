"""A process that does nothing but receive and send: what Lava itself costs a step, whatever is computed in it.

In a package of its own, because Lava's compiler executes all files beside that of a process.
"""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class EmptyProcess(AbstractProcess):
    """Sends ``n_out`` zeros, then forgets the ``n_in`` numbers that it receives; both int32."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_out=n_out)
        self.s_in = InPort(shape=(n_in,))
        self.s_out = OutPort(shape=(n_out,))


@implements(proc=EmptyProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyEmptyProcess(PyLoihiProcessModel):
    """Sends before it receives, as FusedNetwork does."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self._zeros = np.zeros(proc_params["n_out"], np.int32)

    def run_spk(self) -> None:
        """One step."""
        self.s_out.send(self._zeros)
        self.s_in.recv()
