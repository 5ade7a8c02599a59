"""From a trained torch network to Loihi's integers.

:mod:`~lava_snnlearn.fixed_point.lowering` turns the network into populations and linear maps,
:mod:`~lava_snnlearn.fixed_point.inputs` chooses how the data come in, :mod:`~lava_snnlearn.fixed_point.scales` how large the
integers are;
:mod:`~lava_snnlearn.fixed_point.plan` holds these choices, rounds, and gives every population its place in time.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.energy import energy_integers
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.plan import assemble, make_plan
from lava_snnlearn.fixed_point.qat import QATNetwork
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.energy import EnergyNetwork
from lava_snnlearn.networks.network import Network


def quantize(
    network: Classifier, *, weight_bits: int | None = None, input: str | None = None, calibration: ArrayLike | None = None
) -> FixedNetwork:
    """Convert a trained network to fixed point.

    Args:
        network: trained; taken in eval mode (running statistics of batch norm). It is not changed. A network of
            :func:`~lava_snnlearn.fixed_point.qat.prepare_qat` brings all choices along; leave the other arguments out. An
            :class:`~lava_snnlearn.networks.energy.EnergyNetwork` takes "graded" input and needs no calibration.
        weight_bits: 2..8 bits a weight, sign included (multiples of 2^(9 - weight_bits)); default 8.
        input: form of the chip's input: "current" (the host computes the current that the data make), "graded" (8-bit graded
            spikes) or "spikes" (binary). None: "current" for the direct code, "spikes" for rate and latency codes.
        calibration: typical data [N, features] or [T, N, features], e.g. the training samples. Sets the range of graded
            input (required there), the scale of input currents, and that of the readout (which without it is coarse in
            long or wide networks, so that it cannot clip).

    Returns:
        FixedNetwork; ``notes`` tell the scales chosen and the weight error made.

    Raises:
        LimitError: weight_bits out of range, or a weight, threshold, bias or delay that the chip cannot hold; feedback that
            arrives too late because every layer takes a step on the chip.
        ValueError: NaN or infinity in the network or the calibration data, graded input without calibration; other choices
            than those that a network was prepared with.
        UnknownNameError: unknown input form.
    """
    if isinstance(network, EnergyNetwork):
        known_name("input form of an energy network", "graded" if input is None else input, ("graded",))
        return energy_integers(network, 8 if weight_bits is None else weight_bits).assemble(network.steps)
    if not isinstance(network, Network):
        raise TypeError(f"quantize takes a Network, got {type(network).__name__}; see lava_snnlearn.networks")
    if isinstance(network, QATNetwork):
        network.refuse_other_choices(weight_bits, input, calibration)
        return network.deployed()
    return assemble(make_plan(network, 8 if weight_bits is None else weight_bits, input, calibration))
