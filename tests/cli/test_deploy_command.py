"""lava-snnlearn deploy: a bundle of a run's network, and what is refused."""

import json

import numpy as np

from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork


def test_a_bundle_of_a_run(call, network, tmp_path):
    folder = tmp_path / "bundle"
    result = call("deploy", network, "--samples", "3", "-o", folder)
    assert result.code == 0, result
    assert result.out == f"wrote {folder} with 3 samples. Next: cd {folder} && python run.py --sim && python compare.py\n"
    facts = json.loads((folder / "bundle.json").read_text())
    assert (facts["samples"], facts["target"], facts["stock"]) == (3, "loihi2", False)
    chip = FixedNetwork.load(folder / "network.h5")
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "expected.npz") as expected:
        trace = emulate(chip, inputs["input"])
        assert inputs["input"].shape[1] == 3
        assert np.array_equal(expected[f"membrane/{chip.output}"], trace.outputs)


def test_chosen_populations(call, network, tmp_path):
    result = call(
        "deploy", network, "--samples", "1", "--populations", "layer1", "--target", "loihi2", "-o", tmp_path / "bundle"
    )
    assert result.code == 0, result
    with np.load(tmp_path / "bundle" / "expected.npz") as expected:
        assert expected.files == ["spikes/layer1"]


def test_fewer_samples_than_asked_for_are_told(call, network, tmp_path):
    mine, chip = tmp_path / "mine.npy", FixedNetwork.load(network)
    np.save(mine, np.random.default_rng(0).random((1, chip.host.features)))
    result = call("deploy", network, "--npy", mine, "--samples", "4", "-o", tmp_path / "bundle")
    assert f"with 1 sample ({mine} holds no more). Next" in result.out
    assert "with 1 sample. Next" in call("deploy", network, "--npy", mine, "--samples", "1", "-o", tmp_path / "more").out


def test_refusals(refused, network, tmp_path):
    target = tmp_path / "bundle"
    assert "--samples is 257; a bundle holds at most 256" in refused("deploy", network, "--samples", "257", "-o", target)
    assert "give at least 1" in refused("deploy", network, "--samples", "0", "-o", target)
    assert "unknown target 'loihi'" in refused("deploy", network, "--target", "loihi", "-o", target)
    assert "unknown population 'x'" in refused("deploy", network, "--populations", "layer1,x", "-o", target)
    assert not target.exists()
    target.mkdir()
    (target / "mine").write_text("x")
    assert "is not an empty folder" in refused("deploy", network, "-o", target)
    assert "missing.h5" in refused("deploy", tmp_path / "missing.h5", "-o", tmp_path / "new")
