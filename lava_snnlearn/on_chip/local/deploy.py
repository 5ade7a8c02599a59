"""A network that was trained on the chip by a local rule as a FixedNetwork."""

from __future__ import annotations

from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.on_chip.deploy import fixed_network
from lava_snnlearn.on_chip.local.state import LocalState, check_state


def to_fixed_network(state: LocalState) -> FixedNetwork:
    """The network without noise and learning: graded input, soft_reset_lif layers "hidden1" ..., an accumulator "readout".

    Its spike counts are those of :func:`lava_snnlearn.on_chip.local.infer`, and its outputs are
    ``z << 6 - settings.readout_exponent``, as long as the trace tells of no saturated readout: an accumulator holds 24 bits,
    z / 2^(17 + readout_exponent). Lower readout_scale_bits if it does.
    """
    check_state(state)
    settings = state.settings
    # A spike is sent as 1, whatever it is sent as while noise rides on it.
    exponents = [part.exponent + (settings.spike_bits if part.source > 0 else 0) for part in settings.synapses]
    return fixed_network(
        settings,
        state.views,
        exponents,
        note=f"learnt on the chip by a local rule in {state.samples} samples",
        dv=settings.dv,
        delta=settings.vth,
    )
