"""nengo-loihi's emulator of the chip."""

from __future__ import annotations

import time
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
from integers import Integers
from nengo_loihi.block import Axon, LoihiBlock, Synapse
from nengo_loihi.emulator import EmulatorInterface
from nengo_loihi.inputs import SpikeInput
from nengo_loihi.probe import LoihiProbe
from simulator import Simulation


def build(integers: Integers, threads: int) -> Simulation:
    """One thread. Membranes are set to zero by hand between samples."""
    rows = integers.rows()
    kept: list[np.ndarray] = []

    def run() -> float:
        emulator, probe = _emulator(integers, rows)
        begin = time.perf_counter()
        for _ in range(integers.samples):
            emulator.compartment.voltage[:] = 0
            emulator.run_steps(integers.period)
        seconds = time.perf_counter() - begin
        kept[:] = [emulator.collect_probe_output(probe)]
        return seconds

    return Simulation(run, lambda: integers.cut(kept[0]), version("nengo-loihi"))


def _emulator(integers: Integers, rows: np.ndarray) -> tuple[EmulatorInterface, LoihiProbe]:
    """A fresh emulator with all spikes that it will hear."""
    source = SpikeInput(rows.shape[1])
    blocks: list[LoihiBlock] = []
    for weight, vth in zip(integers.weights, integers.thresholds, strict=True):
        block = _block(weight, vth, integers.leak)
        axon = Axon(weight.shape[1])
        axon.target = block.synapses[0]
        (blocks[-1] if blocks else source).add_axon(axon)
        blocks.append(block)
    for step, row in enumerate(rows):
        source.add_spikes(step + 1, row.nonzero()[0])
    probe = LoihiProbe(target=blocks[-1], key="spiked")
    model = SimpleNamespace(blocks=blocks, inputs=[source], probes=[probe], dt=0.001)
    return EmulatorInterface(model, seed=0), probe


def _block(weight: np.ndarray, vth: int, leak: int) -> LoihiBlock:
    """The integers are set as they are: nengo-loihi's discretisation of real numbers would choose others."""
    block = LoihiBlock(len(weight))
    cells = block.compartment
    cells.decay_u = np.full(len(weight), 4095, np.int32)  # Loihi adds 1
    cells.decay_v = np.full(len(weight), leak, np.int32)
    cells.vth = np.full(len(weight), vth << 6, np.int32)
    cells.bias = np.zeros(len(weight), np.int32)
    cells.refract_delay[:] = 1
    cells.scale_u = cells.scale_v = False
    cells.vmin, cells.vmax = -(2**23) + 1, 2**23 - 1
    synapse = Synapse(weight.shape[1])
    synapse._set_weights_indices(list(weight.T.astype(np.int32) << 6), weight_dtype=np.int32)
    block.add_synapse(synapse)
    return block
