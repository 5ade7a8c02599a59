"""The wave of spikes of :mod:`lava_snnlearn.graphs.shortest_paths` on Lava's simulator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.graphs.shortest_paths import DELTA, VTH, WEIGHT, Wave
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.runner import run_guarded
from lava_snnlearn.processes.delay_connection.process import DelayConnection
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF

RECORD_MAX = 1 << 28
"""Neurons times steps that a run may record: 1 GB in integers, 2 GB in floats."""


def run_wave(wave: Wave, steps: int, tag: str) -> NDArray[np.int64]:
    """Step of the first spike of each neuron, int64 [neurons], -1 where there is none; ``tag`` of the models.

    Raises:
        LimitError: a record that would be too large. LavaRunError: the run failed.
    """
    remedy = "Use the emulator, which keeps first spikes only, or give max_distance."
    within(f"record of {wave.neurons} neurons over {steps} steps", wave.neurons * steps, 1, RECORD_MAX, remedy)
    kick = np.zeros((1, wave.neurons), np.int64)
    kick[0, wave.start] = WEIGHT
    source = SampleSource(data=kick)
    neurons = SoftResetLIF(shape=(wave.neurons,), vth=VTH, delta=DELTA)
    recorder = Recorder(shape=(wave.neurons,), steps=steps)
    synapses = DelayConnection(
        shape=(wave.neurons, wave.neurons),
        target=wave.target,
        source=wave.source,
        weights=WEIGHT,
        delays=wave.delay if len(wave.delay) else 0,
    )
    source.s_out.connect(neurons.a_in)
    neurons.s_out.connect(recorder.s_in)
    neurons.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neurons.a_in)
    run_guarded(source, steps, run_config(tag))
    fired = recorder.spikes != 0
    return np.where(fired.any(axis=0), fired.argmax(axis=0), -1)
