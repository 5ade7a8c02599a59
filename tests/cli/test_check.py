"""lava-snnlearn check: a network that fits, one that does not, its events, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.placement import place


@pytest.fixture(scope="module")
def fitting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "network.h5"
    snn.quantize(snn.networks.mlp([6, 9, 4], steps=5)).save(path)
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A neuron that hears 5000 channels."""
    path = tmp_path_factory.mktemp("nets") / "wide.h5"
    population = Population("wide", 2, "lif", vth=9, t_start=1)
    link = Connection("input", "wide", np.full((2, 5000), 2))
    FixedNetwork((population,), (link,), HostInput("spikes", 5000), 3, "wide").save(path)
    return path


def test_a_network_that_fits(call: Any, fitting: Path, tmp_path: Path) -> None:
    result = call("check", fitting, "--picture", tmp_path / "cores.png")
    assert result.code == 0, result
    assert "Placement on Loihi 1: 1 core, 1 chip of 128" in result.out
    assert str(place(FixedNetwork.load(fitting))) in result.out
    assert (tmp_path / "cores.png").read_bytes()[:4] == b"\x89PNG"
    assert "error:" not in result.out
    assert call("check", fitting, "--target", "loihi2").code == 0


def test_what_breaks_a_limit_of_loihi1_is_status_1_and_advice_for_loihi2(call: Any, wide: Path) -> None:
    result = call("check", wide)
    assert result.code == 1
    assert "error: population 'wide': neuron 0 alone needs 5000 input axons, a Loihi 1 core has 4096" in result.out
    advised = call("check", wide, "--target", "loihi2")
    assert advised.code == 0
    assert "advice: population 'wide': neuron 0 alone needs 5000 input axons, a Loihi 2 core has 4096" in advised.out


def test_events_and_energy_of_samples(call: Any, fitting: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((8, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = call("check", fitting, "--samples", "5", "--npy", tmp_path / "x.npy")
    assert result.code == 0, result
    assert "5 samples" in result.out
    network = FixedNetwork.load(fitting)
    counts = snn.count_events(network, x[:5], placement=place(network))
    assert str(counts) in result.out
    assert str(snn.estimate_energy(counts)) in result.out
    assert "Loihi 1 (Davies et al. 2018" in result.out
    assert call("check", fitting, "--samples", "3", "--data", "random").code == 0


def test_refusals(refused: Any, fitting: Path, tmp_path: Path) -> None:
    assert "unknown target 'loihi'" in refused("check", fitting, "--target", "loihi")
    assert "does not exist" in refused("check", tmp_path / "nothing.h5")
    assert "--samples is 0" in refused("check", fitting, "--samples", "0")
    assert "give --samples as well" in refused("check", fitting, "--data", "random")
    (tmp_path / "folder.png").mkdir()
    assert "it is a folder" in refused("check", fitting, "--picture", tmp_path / "folder.png")
    (tmp_path / "bad.h5").write_bytes(fitting.read_bytes()[:2000])
    assert "truncated or damaged" in refused("check", tmp_path / "bad.h5")
    assert "Format 'xyz' is not supported" in refused("check", fitting, "--picture", tmp_path / "cores.xyz")


def test_no_table_stands_beside_an_error(call: Any, fitting: Path, tmp_path: Path) -> None:
    for options in (("--picture", tmp_path / "cores.txt"), ("--samples", "0"), ("--samples", "2", "--npy", tmp_path / "no")):
        result = call("check", fitting, *options)
        assert (result.code, result.out) == (2, "")
