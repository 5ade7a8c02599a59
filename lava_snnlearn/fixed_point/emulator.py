"""The emulator: a FixedNetwork run on batches in exact integers, equal to Lava's fixed_pt simulation bit for bit."""

from __future__ import annotations

from numpy.typing import ArrayLike

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.graph import FixedNetwork, check_network
from lava_snnlearn.fixed_point.trace import Trace

RECORDS = ("all", "outputs", "spikes")


def emulate(
    network: FixedNetwork, x: ArrayLike, *, record: str = "all", device: str = "cpu", threads: int | None = None
) -> Trace:
    """Run a network on a batch in exact integers.

    Args:
        network: the network.
        x: data, floats [B, features] or [T, B, features]; or integers that are taken as the chip's own input (spikes as uint8
            are read where they lie, all else is copied).
        record: "all", "spikes" (no membranes) or "outputs" (neither spikes nor membranes; least memory).
        device: "cpu": compiled kernels. "cuda", or one card as "cuda:1": torch on a graphics card. Results are the same.
        threads: of the kernels, at most; None: as many as torch takes. Results do not depend on it.

    Returns:
        Trace, equal to that of ``run_lava`` on the same input, bit for bit.

    Raises:
        ValueError, TypeError: input that does not fit; see :meth:`lava_snnlearn.fixed_point.host.HostInput.encode`.
        UnknownNameError: an unknown record.
        RuntimeError: the device is not there.
    """
    # Here, not above: networks can be read and printed where there is no compiler.
    from lava_snnlearn.fixed_point.engine.batch import run_batch
    from lava_snnlearn.fixed_point.engine.program import program_of
    from lava_snnlearn.fixed_point.engine.signal import chip_input

    check_network("emulate", network)
    known_name("record", record, RECORDS)
    signal = chip_input(network, x)
    if device != "cpu":
        from lava_snnlearn.fixed_point.engine.on_torch import run_on_torch

        return run_on_torch(network, signal, record, device)
    return run_batch(program_of(network), signal, record, threads)
