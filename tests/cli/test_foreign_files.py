"""The commands and files of other tools: what lava-dl's slayer writes today, netx files that say their steps, NIR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.interchange import fixed_from_nir, from_netx, read_sigma_delta, to_netx, to_nir
from lava_snnlearn.lava_presence import require_lava
from lava_snnlearn.placement import place


@pytest.fixture(scope="module")
def slayer_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Written by slayer's own ``export_hdf5``: they hold the layers, and say neither steps nor the shape of the input."""
    require_lava()
    from lava.lib.dl import slayer

    block = slayer.block.cuba
    neuron = {"threshold": 1.1, "current_decay": 0.4, "voltage_decay": 0.2}
    torch.manual_seed(0)
    nets = {
        "dense": [block.Dense(neuron, 8, 12, weight_scale=3.0), block.Dense(neuron, 12, 6, weight_scale=3.0)],
        "conv": [
            block.Conv(neuron, 2, 4, 3, weight_scale=3.0),
            block.Flatten(),
            block.Dense(neuron, 4 * 4 * 3, 5, weight_scale=3.0),
        ],
    }
    shapes = {"dense": (8,), "conv": (2, 6, 5)}
    folder = tmp_path_factory.mktemp("slayer")
    for kind, blocks in nets.items():
        torch.nn.Sequential(*blocks)(torch.zeros(1, *shapes[kind], 2))  # layers learn their shapes from the first data
        with h5py.File(folder / f"{kind}.net", "w") as file:
            layers = file.create_group("layer")
            for index, one in enumerate(blocks):
                one.export_hdf5(layers.create_group(str(index)))
    return {kind: folder / f"{kind}.net" for kind in nets}


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_what_slayer_writes_is_checked_and_imported(
    call: Any, slayer_files: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    path = slayer_files[kind]
    shape = () if kind == "dense" else ("--input-shape", "2,6,5")
    expected = from_netx(path, 7, input_shape=None if kind == "dense" else (2, 6, 5))
    result = call("check", path, *shape)
    assert result.code == 0, result
    assert str(place(expected)) in result.out
    assert "--samples" not in result.out
    result = call("check", path, *shape, "--samples", "4", "--steps", "7", "--data", "random")
    assert result.code == 0, result
    assert "4 samples" in result.out
    result = call("import", path, "-o", tmp_path / "net.h5", "--steps", "7", *shape)
    assert result.code == 0, result
    x = (np.random.default_rng(0).random((7, 3, expected.host.size)) < 0.4).astype(int)
    outputs = snn.emulate(expected, x).outputs
    assert outputs.any()
    np.testing.assert_array_equal(snn.emulate(FixedNetwork.load(tmp_path / "net.h5"), x).outputs, outputs)


def test_what_slayer_does_not_say_must_be_given(refused: Any, slayer_files: dict[str, Path], tmp_path: Path) -> None:
    dense, conv = slayer_files["dense"], slayer_files["conv"]
    out = "-o", tmp_path / "out"
    assert "--steps" in refused("import", dense, *out)
    assert "--steps" in refused("check", dense, "--samples", "3", "--data", "random")
    assert "--input-shape" in refused("check", conv)
    assert "--input-shape" in refused("import", conv, *out, "--steps", "3")
    assert "--input-shape is '2,6'; give C,H,W, e.g. 1,28,28" in refused("check", conv, "--input-shape", "2,6")
    assert "--input-shape is 'a,b,c'" in refused("import", conv, *out, "--input-shape", "a,b,c")
    assert "--input-shape is '0,6,5'" in refused("check", conv, "--input-shape", "0,6,5")
    for command in (("emulate",), ("verify",), ("deploy", *out), ("export", "--to", "nir", *out)):
        message = refused(command[0], dense, *command[1:])
        assert f"lava-snnlearn import {dense} -o network.h5 --steps N" in message
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def spiking(tmp_path_factory: pytest.TempPathFactory) -> FixedNetwork:
    """A network that netx and NIR can say, answered by spikes of a stock LIF."""
    populations = Population("a", 3, "lif", vth=5, t_start=1), Population("b", 2, "lif", vth=3, t_start=2)
    connections = Connection("input", "a", [[2, 6], [8, -4], [4, 4]]), Connection("a", "b", [[2, 4, 2], [6, -2, 0]])
    return FixedNetwork(populations, connections, HostInput("spikes", 2), 7, "b")


@pytest.fixture(scope="module", params=["net", "nir"])
def foreign(request: pytest.FixtureRequest, spiking: FixedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreign file that says its steps; capitals in the ending change nothing."""
    folder = tmp_path_factory.mktemp("foreign")
    if request.param == "net":
        to_netx(spiking, folder / "f.NET")
        return folder / "f.NET"
    to_nir(spiking, folder / "f.NIR")
    return folder / "f.NIR"


@pytest.fixture
def imported(foreign: Path) -> FixedNetwork:
    return from_netx(foreign) if foreign.suffix == ".NET" else fixed_from_nir(foreign)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((7, 5, 2)) < 0.5).astype(int))
    return tmp_path / "x.npy"


def test_every_command_takes_them(call: Any, foreign: Path, imported: FixedNetwork, samples: Path, tmp_path: Path) -> None:
    result = call("emulate", foreign, "--npy", samples, "--save", tmp_path / "out.npz")
    assert result.code == 0, result
    expected = snn.emulate(imported, np.load(samples)).outputs
    assert expected.any()
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_array_equal(saved["outputs"], expected)
    result = call("check", foreign, "--samples", "5", "--npy", samples)
    assert result.code == 0, result
    assert str(snn.count_events(imported, np.load(samples), placement=place(imported))) in result.out
    result = call("export", foreign, "--to", "nir", "-o", tmp_path / "again.nir")
    assert result.code == 0, result
    assert fixed_from_nir(tmp_path / "again.nir").population("layer1").size == 3
    result = call("deploy", foreign, "--npy", samples, "--samples", "2", "-o", tmp_path / "bundle")
    assert result.code == 0, result
    np.testing.assert_array_equal(
        snn.emulate(FixedNetwork.load(tmp_path / "bundle" / "network.h5"), np.load(samples)).outputs, expected
    )


def test_they_are_verified_on_lava(call: Any, foreign: Path, samples: Path) -> None:
    result = call("verify", foreign, "--npy", samples, "--samples", "2")
    assert result.code == 0, result
    assert "lava" in result.out.lower()


def test_steps_and_shape_belong_to_other_tools(refused: Any, spiking: FixedNetwork, foreign: Path, tmp_path: Path) -> None:
    spiking.save(tmp_path / "own.h5")
    assert "--steps is for files of other tools" in refused("check", tmp_path / "own.h5", "--steps", "3")
    assert "--input-shape is for netx" in refused("check", tmp_path / "own.h5", "--input-shape", "1,1,2")
    if foreign.suffix != ".NIR":
        assert "input_shape is (1, 1, 2), but" in refused("check", foreign, "--input-shape", "1,1,2")
    else:
        assert "--input-shape is for netx" in refused("check", foreign, "--input-shape", "1,1,2")
        assert "--input-shape is for netx" in refused("import", foreign, "-o", tmp_path / "o", "--input-shape", "1,1,2")


@pytest.fixture
def sigma_delta(write_netx: Any, tmp_path: Path) -> Path:
    neuron = {"type": "SDNN", "activation": "relu", "vThMant": 3}
    weight = np.array([[40, 80, -90], [90, 0, 40]])
    layers = (
        {"type": np.array([b"input"], "S10"), "shape": [3], "neuron": neuron},
        {"type": np.array([b"dense"], "S10"), "shape": [2], "weight": weight, "neuron": neuron},
    )
    return Path(write_netx(tmp_path / "sdnn.net", *layers))


def test_a_sigma_delta_file_is_emulated(call: Any, refused: Any, sigma_delta: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-20, 20, (9, 4, 3))
    np.save(tmp_path / "x.npy", x)
    emulate = "emulate", sigma_delta
    result = call(*emulate, "--npy", tmp_path / "x.npy", "--samples", "2", "--save", tmp_path / "out.npz")
    assert result.code == 0, result
    trace = read_sigma_delta(sigma_delta).run(x[:, :2])
    sent = trace.sent["layer1"]
    assert f"layer1: {(sent != 0).mean():.4f} messages per neuron and step, 0 sums" in result.out
    assert "2 samples of 9 steps" in result.out
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["outputs"].any()
        np.testing.assert_array_equal(saved["outputs"], sent)
    assert "give --npy with integers [time, N, features]" in refused(*emulate)
    np.save(tmp_path / "flat.npy", x[0])
    assert "takes sequences [time, N, 3]" in refused(*emulate, "--npy", tmp_path / "flat.npy")
    assert "--samples is 0" in refused(*emulate, "--npy", tmp_path / "x.npy", "--samples", "0")


def test_elsewhere_a_sigma_delta_file_is_refused_with_what_reads_it(refused: Any, sigma_delta: Path, tmp_path: Path) -> None:
    path = sigma_delta
    for command in (("check",), ("import", "-o", tmp_path / "out", "--steps", "3"), ("verify",)):
        message = refused(command[0], path, *command[1:])
        assert "No sum of a sigma-delta network has a bound" in message
        assert "lava-snnlearn emulate" in message
