"""A network that was trained on the chip by SPIDE as a FixedNetwork."""

from __future__ import annotations

from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.on_chip.deploy import fixed_network
from lava_snnlearn.on_chip.spide.state import OnChipState, check_state


def to_fixed_network(state: OnChipState) -> FixedNetwork:
    """The forward phase as a graph: graded input, soft_reset_lif layers "hidden1" ... with feedback, an accumulator "readout".

    Its spike counts are those of :func:`lava_snnlearn.on_chip.spide.infer`, and its outputs are
    ``z << 6 - settings.readout_exponent``, as long as the trace tells of no saturated readout: an accumulator holds 24 bits,
    z / 2^(17 + readout_exponent). Lower readout_scale_bits if it does.
    """
    check_state(state)
    return fixed_network(
        state.settings,
        state.views,
        [part.exponent for part in state.settings.synapses],
        note=f"learnt on the chip by SPIDE in {state.samples} samples",
        delta=state.settings.delta,
    )
