"""``deploy``: write a self-contained folder that runs a FixedNetwork on Loihi 2 or on Lava's simulator, and compares."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import lava_snnlearn
from lava_snnlearn.checks import LimitError, instance_of, known_name, within
from lava_snnlearn.deployment.readme import readme, slurm_script
from lava_snnlearn.deployment.stock import NotStock, not_stock
from lava_snnlearn.files import naming_the_disk
from lava_snnlearn.fixed_point.convolution import expand
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork, check_network
from lava_snnlearn.fixed_point.sums import message_bits
from lava_snnlearn.fixed_point.trace import Trace

TARGETS = ("loihi2",)
SAMPLES_MAX = 256
RECORD_MAX = 1 << 24
"""Values (steps of all samples times neurons of the recorded populations) that a run may bring back."""
_SCRIPTS = Path(__file__).parent / "scripts"


def deploy(
    network: FixedNetwork,
    x: ArrayLike,
    folder: str | PathLike[str],
    *,
    target: str = "loihi2",
    populations: Sequence[str] | None = None,
) -> Path:
    """Write a folder for the Loihi cloud: network, samples, expected spikes, scripts that run and compare them, README.

    Every network without relays can be deployed. Samples follow each other in one run; in networks that are ``one_by_one``
    (stock LIFs in loops or with mixed delays, initial states, resets at fixed times) each is a run of its own.

    ``python run.py --sim`` runs it on Lava's simulator wherever lava-nc is installed, ``python run.py`` on a chip; then
    ``python compare.py`` says whether what came back is what the emulator expects, or names the first difference. No pickle,
    no path of this machine. The folder appears whole or not at all.

    Args:
        network: the network.
        x: samples, as in ``emulate``; at most 256.
        folder: to be made; it may exist, if it is empty.
        target: "loihi2".
        populations: names of those whose spikes (accumulators: membranes after the last step) are compared; None: all.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty. UnknownNameError: an unknown target or population.
        LimitError: too many samples; a network that does not fit the target; relays.
        ValueError, TypeError: samples that do not fit, see ``emulate``. OSError: the folder cannot be written.
    """
    check_network("deploy", network)
    known_name("target", target, TARGETS)
    chosen = _chosen(network, populations)
    _check_network_fits(network, target)
    signal = network.encode(x)
    _check_size(network, signal.shape[1], chosen)
    with _new_folder(Path(folder)) as temporary:
        trace = emulate(network, signal)
        gap = not_stock(network, trace)
        facts = _facts(network, target, chosen, signal.shape[1], gap)
        facts["netx"] = _write_netx(network, temporary / "network.net")
        network.save(temporary / "network.h5")
        np.savez_compressed(temporary / "inputs.npz", input=signal)
        np.savez_compressed(temporary / "expected.npz", **_expected(network, trace, chosen))
        np.savez_compressed(temporary / "matrices.npz", **_matrices(network))
        for script in ("run.py", "compare.py"):
            shutil.copyfile(_SCRIPTS / script, temporary / script)
        _write(temporary, "bundle.json", json.dumps(facts, indent=2) + "\n")
        _write(temporary, "run.slurm", slurm_script())
        _write(temporary, "README.md", readme(network, facts, network.place(target)))
        sums = [f"{_digest(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
        _write(temporary, "SHA256SUMS", "".join(sums))
    return Path(folder)


def _chosen(network: FixedNetwork, populations: Sequence[str] | None) -> tuple[str, ...]:
    names = [population.name for population in network.populations]
    if populations is None:
        return tuple(names)
    instance_of("populations", populations, (tuple, list), "it must be a tuple of population names, e.g. ('hidden',)")
    for name in populations:
        known_name("population", name, names)
    if not populations or len(set(populations)) != len(populations):
        raise ValueError(f"populations is {tuple(populations)}; name at least one, each once")
    return tuple(populations)


def _check_network_fits(network: FixedNetwork, target: str) -> None:
    relays = [population.name for population in network.populations if population.kind == "relay"]
    if relays:
        raise LimitError(
            f"this network cannot be deployed: {relays} are relays, synapses that feed synapses without neurons between, which "
            "no chip has. Put neurons between them, or multiply their weights; run_lava runs this network as it is."
        )
    errors = network.place(target).errors
    if errors:
        raise LimitError(f"this network does not fit {target}: " + "; ".join(errors))


def _check_size(network: FixedNetwork, samples: int, chosen: tuple[str, ...]) -> None:
    within("number of samples", samples, 1, SAMPLES_MAX, "A bundle is a proof, not a data set: take fewer samples.")
    neurons = sum(network.population(name).size for name in chosen)
    remedy = "Take fewer samples, or name fewer populations."
    within("values that the run brings back", samples * network.period * neurons, 1, RECORD_MAX, remedy)


def _facts(network: FixedNetwork, target: str, chosen: tuple[str, ...], samples: int, gap: NotStock) -> dict[str, Any]:
    """What the scripts need to know beside the network, as plain JSON."""
    return {
        "target": target,
        "samples": samples,
        "steps": network.steps,
        "period": network.period,
        "output": network.output,
        "populations": list(chosen),
        "message_bits": {connection.name: message_bits(network, connection) for connection in network.connections},
        "t_start": {population.name: population.t_start for population in network.populations},
        "one_by_one": network.one_by_one,
        "stock": not gap.populations,
        "not_stock": list(gap.populations),
        "reason": gap.reason,
        "versions": {"lava_snnlearn": lava_snnlearn.__version__, "lava-nc": "0.10.0", "numpy": np.__version__},
    }


def _write_netx(network: FixedNetwork, path: Path) -> dict[str, Any] | None:
    """The network as netx HDF5 too, if netx can hold it and run samples one after the other; the arguments of its Network."""
    from lava_snnlearn.interchange.netx import to_netx

    try:
        run = to_netx(network, path, lossy=True)
    except ValueError:
        return None
    if run.one_by_one:
        path.unlink()
        return None
    return dict(run.arguments)


def _expected(network: FixedNetwork, trace: Trace, chosen: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Spikes [T, B, n] in the populations' own active steps; of accumulators the membranes [B, n] after the last one."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in chosen:
        if network.population(name).spiking:
            arrays[f"spikes/{name}"] = trace.spikes[name]
        else:
            arrays[f"membrane/{name}"] = trace.membranes[name][-1]
    return arrays


def _matrices(network: FixedNetwork) -> dict[str, NDArray[Any]]:
    """Convolutions written out synapse by synapse."""
    arrays: dict[str, NDArray[Any]] = {}
    for connection in network.connections:
        if connection.geometry is not None:
            matrix = expand(np.asarray(connection.weight), connection.geometry).tocoo()
            parts = {"data": matrix.data, "rows": matrix.row, "columns": matrix.col, "shape": np.array(matrix.shape)}
            arrays |= {f"{connection.name}/{key}": values for key, values in parts.items()}
    return arrays


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` in one step, if nothing fails."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder; choose another one, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    # mkdtemp makes folders that only their owner may read; bundles are handed on.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o777 & ~umask)
    try:
        with naming_the_disk(folder):
            yield temporary
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
