"""The texts of a bundle: README.md and run.slurm."""

from __future__ import annotations

from typing import Any

from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.placement import Placement

_FILES = """\
| file | what it is |
|---|---|
| `run.py` | builds the network of Lava processes, runs the samples, writes `results.npz` |
| `compare.py` | compares `results.npz` with `expected.npz`; needs numpy alone |
| `run.slurm` | the same two commands for SLURM |
| `network.h5` | the network, HDF5 (`lava_snnlearn.FixedNetwork.load`) |
| `matrices.npz` | convolutions, written out synapse by synapse |
| `inputs.npz` | integer input `[steps, samples, channels]` |
| `expected.npz` | `spikes/NAME` `[steps, samples, neurons]`, `membrane/NAME` `[samples, neurons]` after the last step |
| `bundle.json` | times, populations, versions |
| `SHA256SUMS` | checksums; `run.py` refuses changed files, and `sha256sum -c SHA256SUMS` checks them by hand |
"""

_STOCK = """\
All neurons are Lava's own LIFs: `run.py` needs lava-nc, numpy, scipy and h5py, and nothing else. A chip also needs Intel's
closed extension (lava-loihi, for members of the INRC)."""

_CUSTOM = """\
**Only the simulator runs this network.** Populations {names} are neurons ({reason}) for which the public Lava packages have no
Loihi microcode; `run.py` without `--sim` says so and stops. The simulator needs lava-nc, numpy, scipy, h5py and the package
lava_snnlearn, which holds the neurons' Lava models. For a chip, train with `reset="zero"` (Lava's LIF), or write the neuron in
microcode with Intel's closed extension."""

_TESTED = """\
## What is tested, and what is not
- Tested in simulation: `run.py --sim` on Lava's simulator (lava-nc 0.10.0, Python 3.10) with networks of every kind, spike for
  spike against the emulator; `compare.py` against changed results.
- **Not tested on hardware**: `Loihi2HwCfg`, the spike adapters of `lava.proc.embedded_io`, their latency, `Var.set` in a
  pause, SLURM. Nothing of Intel's closed extension was at hand. The chip's LIF microcode may want other parameters than the
  simulator (lava issue 829).
- The adapters may take steps of their own. If `compare.py` says that all spikes are equal when they are read some steps later,
  that is the way back: use its `--shift`. If spikes differ from the first steps of samples on, it is the way in: measure it and
  pass `run.py --latency STEPS`, which moves the resets and starts of all populations.
- Membranes of accumulators are read by `v.get()` between two runs, after the step that is their last one.
"""

_STEPS = """\
## Steps
```
python run.py --sim && python compare.py     # here or anywhere: Lava's simulator
sbatch run.slurm                             # on the Loihi cloud
```
`run.py` never hangs: the run is a process group of its own, which is killed when no sample was finished for `--time-limit`
seconds (default 300). Exit status of `compare.py`: 0 all equal, 1 a difference, which is named, 2 an error.
"""


_APART = """\
Samples run **one by one**, each as a run of its own on fresh processes: stock LIFs never pause, and what one sample leaves
under way in loops and delays would arrive in the next. On the simulator that takes about a second a sample. If the input takes
steps to come to the chip, initial states and the biases of LIFs are set after these, by `Var.set` in a pause of the run.

"""


def readme(network: FixedNetwork, facts: dict[str, Any], placement: Placement) -> str:
    """README.md of a bundle."""
    names = ", ".join(facts["not_stock"])
    needs = _STOCK if facts["stock"] else _CUSTOM.format(names=names, reason=facts["reason"])
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if name != "lava-nc")
    rhythm = "each a run of" if facts["one_by_one"] else "one every"
    netx = ""
    if facts["netx"] is not None:
        arguments = ", ".join(f"{key}={value}" for key, value in facts["netx"].items())
        netx = f'`network.net` is the same network for lava-dl: `netx.hdf5.Network("network.net", {arguments})`.\n\n'
    return (
        f"# A spiking network for {facts['target']}\n\n"
        f"{facts['samples']} samples of {facts['steps']} steps, {rhythm} {facts['period']} steps (`run.py` adds those of the "
        f"way in). Compared: {', '.join(facts['populations'])}. Written by {versions}, for "
        f"lava-nc {facts['versions']['lava-nc']}.\n\n"
        f"{_APART if facts['one_by_one'] else ''}{needs}\n\n{_STEPS}\n{_FILES}\n{netx}{_TESTED}\n"
        f"## Network\n```\n{network}\n```\n\n## Placement\n```\n{placement}\n```\n"
    )


def slurm_script() -> str:
    """run.slurm: SLURM's line and the two commands."""
    return """\
#!/bin/bash
#SBATCH --job-name=lava_snnlearn
#SBATCH --partition=oheogulch
#SBATCH --time=00:30:00
#SBATCH --output=run.log
# Not tested. Partitions of Loihi 2 boards: sinfo; oheogulch is the one that lava-nc's own hardware tests name. Generations of
# chips are those of lava.utils.loihi.ChipGeneration: N3B2, N3B3 (most), N3C1, N3D1.
# In one line: SLURM=1 LOIHI_GEN=N3B3 PARTITION=oheogulch srun -p oheogulch python run.py
export SLURM=1 LOIHI_GEN=N3B3 PARTITION=oheogulch
cd "$SLURM_SUBMIT_DIR" || exit 2
python run.py && python compare.py
"""
