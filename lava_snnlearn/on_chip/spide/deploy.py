"""A network that was trained on the chip as a FixedNetwork: to be emulated, verified on Lava, saved and exported."""

from __future__ import annotations

import numpy as np

from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_SHIFT
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.limits import BIAS_EXPONENT_MAX
from lava_snnlearn.on_chip.spide.state import OnChipState, check_state

READOUT = "readout"


def to_fixed_network(state: OnChipState) -> FixedNetwork:
    """The forward phase as a graph: graded input, soft_reset_lif layers "hidden1" ... with feedback, an accumulator "readout".

    Its spike counts are those of :func:`lava_snnlearn.on_chip.spide.infer`, and its outputs are ``z << 6``, as long as the
    trace tells of no saturated readout (an accumulator holds 24 bits, z / 2^17; lower readout_scale_bits if it does).
    """
    check_state(state)
    settings, views = state.settings, dict(zip(state.settings.names, state.views, strict=True))
    names = {0: INPUT} | {layer: f"hidden{layer}" for layer in range(1, settings.layers + 1)} | {settings.layers + 1: READOUT}
    features = settings.sizes[0]
    # The bias unit's constant sum, in the neurons' own registers: views are even, so an exponent of 7 is exact.
    constant = (
        views["F"][:, features:].sum(1, dtype=np.int64) * settings.bias_payload << settings.input_exponent + MEMBRANE_SHIFT
    )
    hidden = [
        Population(
            name=names[layer],
            size=settings.sizes[layer],
            vth=settings.vth,
            delta=settings.delta,
            bias_mant=constant >> BIAS_EXPONENT_MAX if layer == 1 else 0,
            bias_exp=BIAS_EXPONENT_MAX,
            t_start=layer,
            scale_bits=settings.scale_bits,
        )
        for layer in range(1, settings.layers + 1)
    ]
    readout = Population(
        name=READOUT,
        size=settings.sizes[-1],
        kind="accumulator",
        t_start=settings.layers + 1,
        scale_bits=settings.readout_scale_bits,
    )
    connections = [
        Connection(
            names[part.source],
            names[part.target],
            views[part.name][:, :features] if part.name == "F" else views[part.name],
            part.exponent,
        )
        for part in settings.synapses
    ]
    return FixedNetwork(
        populations=(*hidden, readout),
        connections=tuple(connections),
        host=HostInput(form="graded", size=features, step=1 / settings.payload_one),
        steps=settings.steps,
        output=READOUT,
        notes=(f"learnt on the chip by SPIDE in {state.samples} samples",),
    )
