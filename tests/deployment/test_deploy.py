"""Bundles as they are written: what they hold, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.deployment import bundle, deploy
from lava_snnlearn.deployment.stock import not_stock
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.interchange.netx import from_netx


def test_a_network_that_netx_can_hold_comes_in_its_format_too(tmp_path, made):
    network, x = made("stock")
    plain = replace(
        network,
        populations=tuple(replace(p, bias_mant=0, t_start=t) for p, t in zip(network.populations, (1, 2), strict=True)),
        connections=tuple(replace(c, delay=0) for c in network.connections),
    )
    folder = deploy(plain, x, tmp_path / "bundle")
    again = from_netx(folder / "network.net", steps=network.steps)
    assert np.array_equal(emulate(again, x).outputs, emulate(plain, x).outputs)
    call = '`netx.hdf5.Network("network.net", reset_interval=8, reset_offset=1, input_message_bits=0)`'
    assert call in (folder / "README.md").read_text()
    other = deploy(made("soft")[0], made("soft")[1], tmp_path / "other")
    assert not (other / "network.net").exists()
    assert "network.net" not in (other / "README.md").read_text()


def test_only_populations_asked_for_are_compared(tmp_path, made):
    network, x = made("soft")
    folder = deploy(network, x, tmp_path / "bundle", populations=("maps",))
    with np.load(folder / "expected.npz") as expected:
        assert expected.files == ["spikes/maps"]
    assert json.loads((folder / "bundle.json").read_text())["populations"] == ["maps"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "loihi3"}, "unknown target 'loihi3'. Did you mean 'loihi2'?"),
        ({"populations": ("none",)}, "unknown population 'none'"),
        ({"populations": ()}, "name at least one, each once"),
        ({"populations": ("out", "out")}, "name at least one, each once"),
        ({"populations": "out"}, "must be a tuple of population names"),
        ({"samples": 257}, r"number of samples is 257, outside of the limit \[1, 256\]"),
    ],
)
def test_refusals(tmp_path, options, message, made):
    network, x = made("stock", samples=options.pop("samples", 2))
    with pytest.raises((ValueError, TypeError), match=message):
        deploy(network, x, tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_too_large_is_refused(tmp_path, monkeypatch, made):
    network, x = made("stock")
    monkeypatch.setattr(bundle, "RECORD_MAX", 359)
    with pytest.raises(ValueError, match=r"values that the run brings back is 360, outside of the limit \[1, 359\]"):
        deploy(network, x, tmp_path / "bundle")


def test_a_folder_with_something_in_it_is_not_touched(tmp_path, made):
    network, x = made("stock")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        deploy(network, x, tmp_path)
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        deploy(network, x, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert (deploy(network, x, tmp_path / "empty") / "run.py").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, made):
    def full(*_):
        raise OSError(28, "No space left on device")

    network, x = made("stock")
    monkeypatch.setattr(FixedNetwork, "save", full)
    with pytest.raises(OSError, match="No space left"):
        deploy(network, x, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_fit_is_refused(tmp_path, monkeypatch, made):
    network, x = made("stock")
    placement = replace(network.place("loihi2"), errors=("first: fan-in 5000 of neuron 0, more than 4096",))
    monkeypatch.setattr(FixedNetwork, "place", lambda *_: placement)
    with pytest.raises(ValueError, match="does not fit loihi2: first: fan-in 5000"):
        deploy(network, x, tmp_path / "bundle")


def test_relays_are_refused(tmp_path):
    nodes = Population("between", 3, "relay"), Population("out", 2, "lif", vth=9)
    edges = Connection("input", "between", np.full((3, 4), 2)), Connection("between", "out", np.full((2, 3), 2))
    network = FixedNetwork(nodes, edges, HostInput("spikes", 4), 6, "out")
    with pytest.raises(LimitError, match=r"\['between'\] are relays.*no chip has.*Put neurons between them"):
        deploy(network, np.zeros((6, 1, 4), int), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "apart"), [("apart_states", True), ("stock", False)])
def test_the_readme_says_how_samples_follow_each_other(tmp_path, made, kind, apart):
    text = (deploy(*made(kind), tmp_path / "bundle") / "README.md").read_text()
    assert ("run **one by one**" in text) == apart
    assert ("samples of 9 steps, each a run of" if apart else "samples of 6 steps, one every") in text
    assert "lava_snnlearn 0." in text
    assert ", for lava-nc 0.10.0." in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"v_init": 64}, "starts at a membrane other than 0"),
        ({"bias_mant": 4095, "bias_exp": 7, "dv": 0}, "exceeds the highest threshold"),
    ],
)
def test_accumulators_are_stock_only_where_a_lif_can_stand_for_them(changes, reason, made):
    network, _ = made("stock")
    out = replace(network.populations[1], **changes)
    network = replace(network, populations=(network.populations[0], out), steps=17)
    gap = not_stock(network, emulate(network, np.ones((17, 1, 5), int)))
    assert reason in gap.reason
    assert gap.populations == (("out",) if reason else ())
