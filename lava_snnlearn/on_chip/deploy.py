"""The forward phase of a network that was trained on the chip as a FixedNetwork: to be emulated, verified, saved, exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_SHIFT
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.limits import BIAS_EXPONENT_MAX
from lava_snnlearn.on_chip.settings import ChipSettings

READOUT = "readout"


def fixed_network(
    settings: ChipSettings,
    views: Sequence[NDArray[np.int16]],
    exponents: Sequence[int],
    *,
    note: str,
    **neuron: Any,
) -> FixedNetwork:
    """Graded input, soft_reset_lif layers "hidden1" ..., an accumulator "readout", and every connection between them.

    The readout has no exponent, so that its sums use the 24 bits of an accumulator best: its outputs are
    ``z << 6 - settings.readout_exponent``.

    Args:
        settings: of the network; the bias unit is the last channel of its connection from the input.
        views: weights that spikes see, one array a connection. exponents: of the connections, for inputs as sent and spikes
            of 1.
        note: where the network comes from. neuron: ``dv``, ``delta`` of the hidden populations.
    """
    features, parts, last = settings.sizes[0], settings.synapses, len(settings.sizes) - 1
    names = [INPUT, *(f"hidden{layer}" for layer in range(1, last)), READOUT]
    # The bias unit's constant sum, in the neurons' own registers: views are even, so an exponent of 7 is exact.
    constant = (views[0][:, features:].sum(1, dtype=np.int64) * settings.bias_payload) << (exponents[0] + MEMBRANE_SHIFT)
    hidden = [
        Population(
            name=names[layer],
            size=settings.sizes[layer],
            vth=settings.vth,
            bias_mant=constant >> BIAS_EXPONENT_MAX if layer == 1 else 0,
            bias_exp=BIAS_EXPONENT_MAX,
            t_start=layer,
            scale_bits=settings.scale_bits,
            **neuron,
        )
        for layer in range(1, last)
    ]
    readout = Population(
        name=READOUT,
        size=settings.sizes[-1],
        kind="accumulator",
        t_start=last,
        scale_bits=settings.readout_scale_bits - settings.readout_exponent,
    )
    connections = [
        Connection(
            names[part.source],
            names[part.target],
            view[:, :features] if part.source == 0 else view,
            exponent if part.target < last else 0,
        )
        for part, view, exponent in zip(parts, views, exponents, strict=True)
    ]
    return FixedNetwork(
        populations=(*hidden, readout),
        connections=tuple(connections),
        host=HostInput(form="graded", size=features, step=1 / settings.payload_one),
        steps=settings.steps,
        output=READOUT,
        notes=(note,),
    )
