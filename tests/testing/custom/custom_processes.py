"""A running sum that starts afresh every ``period`` steps, as a user might write it; and the same with one fault each."""

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


class RunningSum(AbstractProcess):
    """Sends gain * (sum of the inputs so far)."""

    _runtime = None
    largest_gain = 100

    def __init__(self, *, gain, period):
        if not 0 <= gain <= self.largest_gain:
            raise ValueError(f"gain is {gain}, the limit is {self.largest_gain}")
        if period < 1:
            raise ValueError("nonsense")  # a message without the name of the argument
        super().__init__(period=period)
        self.a_in, self.a_out = InPort(shape=(2,)), OutPort(shape=(2,))
        self.total, self.gain = Var(shape=(2,)), Var(shape=(1,), init=gain)


class OffByOne(RunningSum):
    """Its fixed-point model adds one too much in step 4."""


class OneModel(RunningSum):
    """Has no floating-point model."""


class ScalarVar(RunningSum):
    """Its models declare a scalar."""


class NoLimit(RunningSum):
    """Accepts every gain."""

    largest_gain = float("inf")


class NoReset(RunningSum):
    """Never starts afresh."""


class Loops(RunningSum):
    """Never ends step 3."""


class FloatOutput(RunningSum):
    """Its fixed-point model sends floats."""


class _Model(PyLoihiProcessModel):
    extra, extra_step = 0, 4
    resets = True

    def run_spk(self):
        if self.resets and (self.time_step - 1) % self.proc_params["period"] == 0:
            self.total[:] = 0
        self.total[:] += self.a_in.recv() + (self.extra if self.time_step == self.extra_step else 0)
        self.a_out.send(self.gain * self.total)


class _Fixed(_Model):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    total: np.ndarray = LavaPyType(np.ndarray, np.int32)
    gain: np.ndarray = LavaPyType(np.ndarray, np.int32)


class _Float(_Model):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    total: np.ndarray = LavaPyType(np.ndarray, float)
    gain: np.ndarray = LavaPyType(np.ndarray, float)


@implements(proc=RunningSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySumFixed(_Fixed):
    pass


@implements(proc=RunningSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySumFloat(_Float):
    pass


@implements(proc=OffByOne, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyOffByOneFixed(_Fixed):
    extra = 1


@implements(proc=OffByOne, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyOffByOneFloat(_Float):
    pass


@implements(proc=OneModel, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyOneModelFixed(_Fixed):
    pass


@implements(proc=ScalarVar, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyScalarVarFixed(_Fixed):
    gain: int = LavaPyType(int, np.int32)


@implements(proc=ScalarVar, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyScalarVarFloat(_Float):
    pass


@implements(proc=NoLimit, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNoLimitFixed(_Fixed):
    pass


@implements(proc=NoLimit, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyNoLimitFloat(_Float):
    pass


@implements(proc=NoReset, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNoResetFixed(_Fixed):
    resets = False


@implements(proc=NoReset, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyNoResetFloat(_Float):
    resets = False


@implements(proc=Loops, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLoopsFixed(_Fixed):
    def run_spk(self):
        while self.time_step == 3:
            pass
        super().run_spk()


@implements(proc=Loops, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLoopsFloat(_Float):
    pass


@implements(proc=FloatOutput, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFloatOutputFixed(_Fixed):
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)


@implements(proc=FloatOutput, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyFloatOutputFloat(_Float):
    pass
