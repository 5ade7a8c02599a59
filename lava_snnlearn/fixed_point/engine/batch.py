"""Whole batches: samples in blocks, blocks in threads."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least
from lava_snnlearn.fixed_point.engine.program import Program
from lava_snnlearn.fixed_point.engine.run import Block, Records, Signal, empty_records
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.neurons.threads import in_threads

SUMS = 1 << 18
"""Synaptic sums of a block (all samples and a window of time) that are held at a time: 1 MB, which stays near the processor."""
SAMPLES, SAMPLES_STEPWISE = 64, 256
"""Largest number of samples of a block; larger where each step is a call of its own."""
_STEPS = 64
"""Windows are at least so long before blocks get more than one sample."""
_WORTH_A_THREAD = 1 << 17
"""Neuron-steps."""


def block_size(program: Program, samples: int) -> tuple[int, int]:
    """Samples of a block, and chip steps of its windows."""
    stepwise = any(stage.stepwise for stage in program.stages)
    widest = max(population.size for population in program.network.populations)
    steps = program.network.last_step
    batch = max(1, min(samples, SAMPLES_STEPWISE if stepwise else SAMPLES, SUMS // (widest * min(steps, _STEPS))))
    return batch, max(1, min(steps, SUMS // (widest * batch)))


def run_batch(program: Program, signal: NDArray[Any], record: str, threads: int | None) -> Trace:
    """Emulate a batch.

    Args:
        program: the network.
        signal: the chip's input, [T, B, n], or [1, B, n] if it is the same in each step; see
            :func:`lava_snnlearn.fixed_point.engine.signal.chip_input`.
        record: "all", "spikes" or "outputs".
        threads: at most so many; None: as many as torch takes.
    """
    network, samples = program.network, signal.shape[1]
    nodes = network.populations
    spikes, membranes = empty_records(
        nodes if record != "outputs" else (), nodes if record == "all" else (), network.steps, samples
    )
    outputs = np.zeros((samples, network.population(network.output).size), np.int64)
    workers = _workers(network, samples, torch.get_num_threads() if threads is None else at_least(1, "threads", threads))
    batch, window = block_size(program, -(-samples // workers))
    starts = range(0, samples, batch)
    saturated = [dict.fromkeys(spikes, 0)] * len(starts)

    def blocks(first: int, last: int) -> None:
        for index in range(first, last):
            at = starts[index]
            part = slice(at, min(at + batch, samples))
            block = Block(program, part.stop - part.start, window, network.steps)
            static = len(signal) == 1 and network.steps > 1
            heard = Signal(signal, 0, at, network.host.form == "spikes", static, network.steps)
            records = Records(spikes, membranes, at)
            steps = [*range(0, network.last_step, window), network.last_step]
            for begin, end in pairwise(steps):
                block.run(heard, begin, end, records)
            outputs[part] = block.result()
            saturated[index] = block.saturated

    in_threads(blocks, [len(starts) * i // workers for i in range(workers + 1)])
    counted = {p.name: sum(found[p.name] for found in saturated) for p in nodes}
    return Trace(spikes=spikes, membranes=membranes, outputs=outputs, saturated=counted)


def _workers(network: FixedNetwork, samples: int, threads: int) -> int:
    work = samples * network.steps * sum(population.size for population in network.populations)
    return max(1, min(threads, samples, work // _WORTH_A_THREAD))
