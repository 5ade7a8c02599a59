"""From a trained torch network to Loihi's integers.

:mod:`~lava_snnlearn.fixed_point.lowering` turns the network into populations and linear maps,
:mod:`~lava_snnlearn.fixed_point.inputs` chooses how the data come in, :mod:`~lava_snnlearn.fixed_point.scales` how large the
integers are;
:mod:`~lava_snnlearn.fixed_point.plan` holds these choices, rounds, and gives every population its place in time.
"""

from __future__ import annotations

from typing import Any, overload

from numpy.typing import ArrayLike

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.energy_networks import energy_integers
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.plan import assemble, make_plan
from lava_snnlearn.fixed_point.qat import QATNetwork
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_qat import QATReasoner
from lava_snnlearn.fixed_point.reasoner_quantize import Calibration, quantize_reasoner
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.energy import EnergyNetwork
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.networks.network import Network


@overload
def quantize(
    network: Classifier, *, weight_bits: int | None = None, input: str | None = None, calibration: ArrayLike | None = None
) -> FixedNetwork: ...


@overload
def quantize(
    network: GraphReasoner,
    *,
    weight_bits: int | None = None,
    headroom: float | None = None,
    calibration: Calibration | None = None,
) -> FixedReasoner: ...


def quantize(
    network: Any,
    *,
    weight_bits: int | None = None,
    input: str | None = None,
    calibration: Any = None,
    headroom: float | None = None,
) -> FixedNetwork | FixedReasoner:
    """Convert a trained network to fixed point.

    Args:
        network: trained; taken in eval mode (running statistics of batch norm). It is not changed. A network of
            :func:`~lava_snnlearn.fixed_point.qat.prepare_qat` brings all choices along; leave the other arguments out. An
            :class:`~lava_snnlearn.networks.energy.EnergyNetwork` takes "graded" input and needs no calibration. A
            :class:`~lava_snnlearn.networks.graph_reasoner.GraphReasoner` takes weight_bits, headroom, and queries as
            calibration, see :func:`~lava_snnlearn.fixed_point.reasoner_quantize.quantize_reasoner`; the others do not take
            headroom.
        weight_bits: 2..8 bits a weight, sign included (multiples of 2^(9 - weight_bits)); default 8.
        input: form of the chip's input: "current" (the host computes the current that the data make), "graded" (8-bit graded
            spikes) or "spikes" (binary). None: "current" for the direct code, "spikes" for rate and latency codes.
        calibration: typical data [N, features] or [T, N, features], e.g. the training samples. Sets the range of graded
            input (required there), the scale of input currents, and that of the readout (which without it is coarse in
            long or wide networks, so that it cannot clip).

    Returns:
        FixedNetwork (of a GraphReasoner: FixedReasoner); ``notes`` tell the scales chosen and the weight error made.

    Raises:
        LimitError: weight_bits out of range, or a weight, threshold, bias or delay that the chip cannot hold; feedback that
            arrives too late because every layer takes a step on the chip.
        ValueError: NaN or infinity in the network or the calibration data, graded input without calibration; other choices
            than those that a network was prepared with.
        UnknownNameError: unknown input form.
    """
    if isinstance(network, GraphReasoner):
        if input is not None:
            raise ValueError("a GraphReasoner has no data as input; leave input out")
        if isinstance(network, QATReasoner):
            if (weight_bits, calibration, headroom) != (None, None, None):
                raise ValueError("this reasoner was prepared with these choices; quantize it without further arguments")
            return network.deployed()
        bits = 8 if weight_bits is None else weight_bits
        return quantize_reasoner(network, weight_bits=bits, headroom=headroom, calibration=calibration)
    if headroom is not None:
        raise ValueError(f"headroom is for a GraphReasoner, not for {type(network).__name__}; leave it out")
    if isinstance(network, EnergyNetwork):
        known_name("input form of an energy network", "graded" if input is None else input, ("graded",))
        return energy_integers(network, 8 if weight_bits is None else weight_bits).assemble(network.steps)
    if not isinstance(network, Network):
        raise TypeError(
            f"quantize takes a Network or a GraphReasoner, got {type(network).__name__}; see lava_snnlearn.networks"
        )
    if isinstance(network, QATNetwork):
        network.refuse_other_choices(weight_bits, input, calibration)
        return network.deployed()
    return assemble(make_plan(network, 8 if weight_bits is None else weight_bits, input, calibration))
