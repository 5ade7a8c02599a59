"""Files of every kind that the library writes or reads: small ones, how each is written, and how it is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from lava_snnlearn.checkpoints import RunFolder, read_metrics, read_weights, save_weights
from lava_snnlearn.data import Dataset, Split
from lava_snnlearn.deployment import deploy
from lava_snnlearn.files import read_tree
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_head import FixedHead
from lava_snnlearn.interchange import from_netx, from_nir, to_netx, to_nir
from lava_snnlearn.methods import SLTT
from lava_snnlearn.networks import Network, mlp
from lava_snnlearn.neurons import LIF
from lava_snnlearn.on_chip.local import LocalSettings, LocalState
from lava_snnlearn.on_chip.local import initial as initial_local
from lava_snnlearn.on_chip.spide import OnChipSettings, OnChipState
from lava_snnlearn.on_chip.spide import initial as initial_spide
from lava_snnlearn.report.html import write_report
from lava_snnlearn.training import Trainer


class Subject(NamedTuple):
    """A kind of file. ``write(path, version)``: two versions differ. ``read(path)``: raises where the file is damaged."""

    suffix: str
    write: Callable[[Path, int], object]
    read: Callable[[Path], object]


def network(version: int = 0) -> FixedNetwork:
    """Stock LIFs with delays, which every format can hold."""
    rng = np.random.default_rng(version)
    hidden = Population("hidden", 6, "lif", vth=90, dv=200, bias_mant=rng.integers(0, 60, 6), bias_exp=6, t_start=1)
    out = Population("out", 4, "lif", vth=70, t_start=2)
    edges = (
        Connection("input", "hidden", 2 * rng.integers(-30, 60, (6, 5))),
        Connection("hidden", "out", 2 * rng.integers(-30, 60, (4, 6)), exponent=1),
    )
    return FixedNetwork((hidden, out), edges, HostInput("spikes", 5), 6, "out")


def samples(count: int = 3) -> Any:
    """Spikes for :func:`network`."""
    return np.random.default_rng(9).integers(0, 2, (6, count, 5))


def reasoner(version: int) -> FixedReasoner:
    """Three relations, two neurons a node."""
    head = FixedHead(
        hidden_weight=[[1, -2], [3, 127], [-128, version]],
        hidden_bias=[[10, 20, 30], [0, -5, 7], [100, 200, -300]],
        shift=2,
        output_weight=[5, -6, 7],
        output_bias=11,
    )
    delays = np.arange(18).reshape(3, 3, 2) % 5
    numbers = {"relations": 3, "width": 2, "steps": 5, "max_delay": 4, "scale": 50, "bias_exp": 6, "vth": 100}
    arrays: dict[str, Any] = {"weight": [[2, -256], [254, 0]], "bias": [[100, -100], [4095, -4096], [0, 1]], "delays": delays}
    return FixedReasoner("exact", **numbers, **arrays, du=905, dv=906, decode=[1000, 900, 800, 700, 696], head=head)


def torch_network(version: int = 0) -> Network:
    """A net that NIR can hold."""
    torch.manual_seed(version)
    return mlp([6, 8, 3], steps=4, norm="none", neuron=LIF(reset="zero"))


def trainer(folder: Path, version: int = 0) -> Trainer:
    """One epoch of two batches."""
    rng = np.random.default_rng(version)
    part = Split(rng.random((24, 6), np.float32), np.arange(24) % 3)
    data = Dataset("clouds", part, part, part, classes=3)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "progress": False, "optimiser": "adam"}
    return Trainer(torch_network(version), SLTT(), data, run_dir=folder, **options)


def _write_checkpoint(path: Path, version: int) -> None:
    """The first is that of a run; a later one goes on from it."""
    if not version:
        trainer(path).fit()
        return
    later = read_tree(path / "checkpoint.h5", "checkpoint") | {"later": list(range(200))}
    folder = RunFolder(path)
    folder.save(lambda: later, 2 * read_metrics(path / "metrics.csv"))
    folder.save_weights(torch_network(version))


def _read_checkpoint(path: Path) -> object:
    trained = trainer(path)
    trained.resume()
    read_weights(path / "weights.h5", trained.network)
    return read_metrics(path / "metrics.csv")


def _write_report(path: Path, version: int) -> None:
    figure = Figure()
    figure.subplots().plot([version, 1, 2])
    write_report(path, f"version {version}", "fine", True, tables={}, figures={"A line": (figure, "")}, text={})


def _read_bundle(path: Path) -> object:
    found = FixedNetwork.load(path / "network.h5")
    assert len(list(path.iterdir())) == 11
    with np.load(path / "expected.npz", allow_pickle=False) as expected:
        return {name: expected[name] for name in expected.files} | {"network": found}


def _local(version: int) -> LocalState:
    return initial_local(LocalSettings((4, 5, 3), seed=version, feedback="learned"))


def _spide(version: int) -> OnChipState:
    return initial_spide(OnChipSettings((4, 5, 3), seed=version))


SUBJECTS = {
    "network": Subject(".h5", lambda path, version: network(version).save(path), FixedNetwork.load),
    "reasoner": Subject(".h5", lambda path, version: reasoner(version).save(path), FixedReasoner.load),
    "weights": Subject(
        ".h5",
        lambda path, version: save_weights(path, torch_network(version)),
        lambda path: read_weights(path, torch_network()),
    ),
    "local": Subject(".h5", lambda path, version: _local(version).save(path), LocalState.load),
    "spide": Subject(".h5", lambda path, version: _spide(version).save(path), OnChipState.load),
    "netx": Subject(".net", lambda path, version: to_netx(network(version), path, lossy=True), lambda path: from_netx(path, 6)),
    "nir": Subject(".nir", lambda path, version: to_nir(torch_network(version), path), from_nir),
    "checkpoint": Subject("", _write_checkpoint, _read_checkpoint),
    "report": Subject("", _write_report, lambda path: (path / "report.html").read_text().index("</html>")),
    "bundle": Subject("", lambda path, version: deploy(network(version), samples(), path), _read_bundle),
}
"""By name; of the kinds without a suffix, the path is a folder."""


def warm_up() -> None:
    """Compile what writers and readers need, before anything is limited."""
    emulate(network(), samples())
