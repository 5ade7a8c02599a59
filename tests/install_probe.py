"""Run by tests/test_install.py with the interpreter of each install form: a small network on Lava, checked by hand.

Usage: python install_probe.py FOLDER, where FOLDER is the one that lava_snnlearn has to be imported from (its parent folder).
"""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense

from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF

STEPS = 6
WEIGHTS = [50, 20, 10, 8, -8]
THRESHOLD = 10
# One spike enters at step 0 and Dense delivers it at step 1. From then on the membrane halves at every step, and it fires at
# >= 10 and loses 10 by that. Weight 50: 50 fires and leaves 40, half of it is 20, which fires and leaves 10, then 5, 2.5, 1.25.
SPIKES = [
    [0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0],
    [1, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
]
MEMBRANES = [
    [0, 0, 0, 0, 0],
    [40, 10, 0, 8, -8],
    [10, 5, 0, 4, -4],
    [5, 2.5, 0, 2, -2],
    [2.5, 1.25, 0, 1, -1],
    [1.25, 0.625, 0, 0.5, -0.5],
]
UNITS = {"floating_pt": 1, "fixed_pt": 64}
"""The fixed-point membrane counts in 1/64 of a weight unit, so that all the halves above are whole numbers there."""
HALF = {"floating_pt": 0.5, "fixed_pt": 2048}


def check_origin(folder: Path) -> None:
    for name in ("lava_snnlearn", "lava_snnlearn.processes", "lava_snnlearn.models"):
        place = Path(import_module(name).__file__).resolve()
        assert folder in place.parents, f"{name} is imported from {place}, not from {folder}"


def run(tag: str) -> None:
    impulse = np.zeros((STEPS, 1), dtype=np.int64)
    impulse[0] = 1
    source = SampleSource(data=impulse)
    dense = Dense(weights=np.array(WEIGHTS)[:, None])
    neurons = SoftResetLIF(shape=(len(WEIGHTS),), dv=HALF[tag], vth=THRESHOLD)
    recorder = Recorder(shape=(len(WEIGHTS),), steps=STEPS)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neurons.a_in)
    neurons.s_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(neurons.v)
    try:
        neurons.run(condition=RunSteps(num_steps=STEPS), run_cfg=Loihi2SimCfg(select_tag=tag))
    finally:
        neurons.stop()
    np.testing.assert_array_equal(recorder.spikes, SPIKES, err_msg=tag)
    np.testing.assert_array_equal(recorder.membranes, np.array(MEMBRANES) * UNITS[tag], err_msg=tag)
    print(f"{tag}: as worked out by hand")


if __name__ == "__main__":
    check_origin(Path(sys.argv[1]).resolve())
    for model_tag in ("floating_pt", "fixed_pt"):
        run(model_tag)
