"""A process that fails in the way it is told to, and one that deadlocks."""

import os
import signal
import time

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class UnpicklableError(Exception):
    """Cannot be sent to another process: it holds a lambda."""

    def __init__(self, text):
        super().__init__(text, lambda: None)


class Faulty(AbstractProcess):
    """Passes its input on, adds one to ``count``, and has its fault in step ``at``."""

    def __init__(self, *, fault, at=2, shape=(2,)):
        super().__init__(fault=fault, at=at)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.count = Var(shape=(1,), init=0)
        self.scalar = Var(shape=(1,), init=np.float64(1.5))


def _loop():
    while True:
        time.sleep(0.01)


def _raise(error):
    raise error


def _torch_product():
    import torch

    torch.ones(300, 300) @ torch.ones(300, 300)


FAULTS = {
    "none": lambda: None,
    "raise": lambda: _raise(ValueError("broken on purpose")),
    "unpicklable": lambda: _raise(UnpicklableError("cannot be pickled")),
    "sys.exit": lambda: _raise(SystemExit(3)),
    "os._exit": lambda: os._exit(7),
    "os._exit(0)": lambda: os._exit(0),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "loop": _loop,
    "torch": _torch_product,
}


@implements(proc=Faulty, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class PyFaulty(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    count: np.ndarray = LavaPyType(np.ndarray, np.int32)
    scalar: float = LavaPyType(float, float)  # Var.get of such a Var hangs in Lava

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.where, _, self.fault = proc_params["fault"].rpartition(":")
        if self.where == "init":
            FAULTS[self.fault]()

    def _act(self, where):
        if self.where == where and self.time_step == self.proc_params["at"]:
            if self.fault in ("pause", "stop"):
                setattr(self, f"_req_{self.fault}", True)
            else:
                FAULTS[self.fault]()

    def run_spk(self):
        data = self.a_in.recv()
        self._act("spk")
        self.count[:] += 1
        late = self.time_step >= self.proc_params["at"]
        self.s_out.send(np.ones(7, np.int32) if self.where == "shape" and late else data)

    def post_guard(self):
        return self.where == "post"

    def run_post_mgmt(self):
        self._act("post")
