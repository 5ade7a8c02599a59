"""The parts of TernaryCouple and how they are connected."""

from __future__ import annotations

import math

import numpy as np
from lava.magma.core.decorator import implements, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import identity

from lava_snnlearn.processes.coupled_if.process import CoupledIF
from lava_snnlearn.processes.ternary_couple.process import TernaryCouple


@implements(proc=TernaryCouple)
@tag("fixed_pt", "floating_pt")
class SubTernaryCouple(AbstractSubProcessModel):
    """P, M and the connections by which they correct each other."""

    def __init__(self, process: AbstractProcess) -> None:
        shape = process.proc_params["shape"]
        half = process.proc_params["half"]
        self.positive = CoupledIF(shape=shape, polarity=1, **half)
        self.negative = CoupledIF(shape=shape, polarity=-1, **half)
        self.to_negative = _cross(self.positive, self.negative)
        self.to_positive = _cross(self.negative, self.positive)
        for neuron in (self.positive, self.negative):
            process.a_in.connect(neuron.a_in)
            process.g_in.connect(neuron.g_in)
            neuron.s_out.connect(process.s_out)
        self.positive.s_out.connect(process.p_out)
        self.negative.s_out.connect(process.m_out)


def _cross(source: CoupledIF, target: CoupledIF) -> Sparse:
    """Carry each neuron's spikes to its partner; excitatory, because weights of mixed sign are even and 1 would become 0."""
    shape = target.c_in.shape
    size = math.prod(shape)
    synapse = Sparse(weights=identity(size, dtype=np.int32, format="csr"), sign_mode=SignMode.EXCITATORY)
    source.s_out.reshape((size,)).connect(synapse.s_in)
    synapse.a_out.reshape(shape).connect(target.c_in)
    return synapse
