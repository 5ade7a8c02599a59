"""lava-snnlearn export and import: netx files there and back, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population


@pytest.fixture
def spiking(tmp_path: Path) -> Path:
    populations = Population("a", 3, "lif", vth=5, t_start=1), Population("b", 2, "lif", vth=3, t_start=2)
    connections = Connection("input", "a", [[2, 6], [8, -4], [4, 4]]), Connection("a", "b", [[2, 4, 2], [6, -2, 0]])
    network = FixedNetwork(populations, connections, HostInput("spikes", 2), 7, "b")
    network.save(tmp_path / "net.h5")
    return tmp_path / "net.h5"


def test_there_and_back(call: Any, spiking: Path, tmp_path: Path) -> None:
    result = call("export", spiking, "--to", "netx", "-o", tmp_path / "net.net")
    assert result.code == 0, result
    assert "reset_interval=9, reset_offset=1, input_message_bits=0)" in result.out
    assert "of its own" not in result.out
    result = call("import", tmp_path / "net.net", "-o", tmp_path / "again.h5")
    assert result.code == 0, result
    assert "layer1_to_layer2" in result.out
    one, other = FixedNetwork.load(spiking), FixedNetwork.load(tmp_path / "again.h5")
    x = (np.random.default_rng(0).random((7, 5, 2)) < 0.5).astype(int)
    outputs = snn.emulate(one, x).outputs
    assert outputs.any()
    np.testing.assert_array_equal(outputs, snn.emulate(other, x).outputs)
    result = call("import", tmp_path / "net.net", "-o", tmp_path / "run.h5", "--steps", "3", "--timing", "running")
    assert result.code == 0
    assert FixedNetwork.load(tmp_path / "run.h5").population("layer2").t_start == 0


def test_samples_that_must_be_runs_of_their_own(call: Any, tmp_path: Path) -> None:
    """Nothing is reset within a recurrent layer's run; who feeds sample after sample would get other spikes."""
    population = Population("a", 2, "lif", vth=5, t_start=1)
    connections = Connection("input", "a", [[2, 6], [8, -4]]), Connection("a", "a", [[0, 2], [4, 0]])
    FixedNetwork((population,), connections, HostInput("spikes", 2), 7, "a").save(tmp_path / "loop.h5")
    result = call("export", tmp_path / "loop.h5", "--to", "netx", "-o", tmp_path / "loop.net")
    assert result.code == 0, result
    assert "every sample in a run of its own" in result.out


def test_losses_are_listed(call: Any, refused: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    neuron = snn.neurons.LIF(leak=0.3, reset="zero")
    network = snn.networks.mlp([8, 6, 6, 4], neuron=neuron, steps=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    snn.quantize(network).save(tmp_path / "net.h5")
    export = "export", tmp_path / "net.h5", "--to", "netx", "-o", tmp_path / "net.net"
    assert "biases in 1/64 weight unit" in refused(*export, "--lossy")
    assert "export --whole-biases" in refused(*export, "--lossy")
    assert "Pass lossy=True (export --lossy)" in refused(*export, "--whole-biases")
    result = call(*export, "--lossy", "--whole-biases")
    assert result.code == 0, result
    assert "lost: host weights, which make the input current of the data" in result.out


def test_refusals(refused: Any, spiking: Path, tmp_path: Path) -> None:
    out = "-o", tmp_path / "out"
    assert "unknown format (--to) 'netz'. Did you mean 'netx'" in refused("export", spiking, "--to", "netz", *out)
    assert "are for netx" in refused("export", spiking, "--to", "nir", "--lossy", *out)
    assert "--annotate is for nir" in refused("export", spiking, "--to", "netx", "--annotate", *out)
    assert "no group 'layer'" in refused("import", _other_hdf5(tmp_path), *out)
    assert "is a file of lava_snnlearn, not of netx or NIR" in refused("import", spiking, *out)
    assert "a file of this library" in refused("import", spiking, "-o", tmp_path / "out.net")
    assert "unknown format (--from) 'onnx'" in refused("import", spiking, "--from", "onnx", *out)
    assert "--reset is for NIR" in refused("import", spiking, "--reset", "zero", *out)
    assert "--timing is for netx" in refused("import", tmp_path / "a.nir", "--timing", "samples", *out)
    assert not (tmp_path / "out").exists()


def _other_hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = [1, 2]
    return folder / "other.h5"


def test_nir_there_and_back(call: Any, spiking: Path, tmp_path: Path) -> None:
    """Reset to zero, no leak: what NIR says is all of it; on the way back a readout passes the last spikes on."""
    result = call("export", spiking, "--to", "nir", "-o", tmp_path / "net.nir")
    assert result.code == 0, result
    result = call("import", tmp_path / "net.nir", "-o", tmp_path / "again.h5", "--steps", "7")
    assert result.code == 0, result
    x = (np.random.default_rng(1).random((7, 5, 2)) < 0.5).astype(int)
    ours = snn.emulate(FixedNetwork.load(spiking), x).outputs
    again = FixedNetwork.load(tmp_path / "again.h5")
    assert ours.any()
    np.testing.assert_array_equal(snn.emulate(again, x).outputs / again.population(again.output).one, ours)


def test_what_nir_cannot_say_is_annotated_on_demand(call: Any, tmp_path: Path) -> None:
    """Reset by subtraction: refused, or written as metadata; --reset decides against both."""
    torch.manual_seed(1)
    chip = snn.quantize(snn.networks.mlp([6, 9, 4], snn.neurons.LIF(leak=0.25), norm="none", steps=5), input="spikes")
    chip.save(tmp_path / "net.h5")
    export = "export", tmp_path / "net.h5", "--to", "nir", "-o", tmp_path / "net.nir"
    result = call(*export)
    assert result.code == 2
    assert "export --annotate" in result.err
    assert not (tmp_path / "net.nir").exists()
    assert call(*export, "--annotate").code == 0
    for given, kind in (((), "soft_reset_lif"), (("--reset", "zero"), "lif"), (("--reset", "subtract"), "soft_reset_lif")):
        result = call("import", tmp_path / "net.nir", "-o", tmp_path / "again.h5", *given)
        assert result.code == 0, result
        assert FixedNetwork.load(tmp_path / "again.h5").population("layer1").kind == kind


@pytest.mark.parametrize("kind", ["netx", "nir"])
def test_a_name_that_hides_its_format(call: Any, refused: Any, spiking: Path, kind: str, tmp_path: Path) -> None:
    """--from says it: netx of a file that ends in .nir, NIR of one that ends in .net."""
    misnamed = tmp_path / ("a.nir" if kind == "netx" else "a.net")
    assert call("export", spiking, "--to", kind, "-o", misnamed).code == 0
    assert "error:" in refused("import", misnamed, "-o", tmp_path / "out.h5")
    result = call("import", misnamed, "-o", tmp_path / "out.h5", "--from", kind)
    assert result.code == 0, result
    assert FixedNetwork.load(tmp_path / "out.h5").steps == 7
