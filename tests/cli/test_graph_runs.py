"""lava-snnlearn run --method grsnn: what is written, that it is what the library does, resuming, refusals, its file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.data.knowledge import GRAPHS
from lava_snnlearn.files import read_tree
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner
from lava_snnlearn.lava_backend import reasoner as lava_reasoner
from lava_snnlearn.methods import GRSNN
from lava_snnlearn.networks import message_fused
from lava_snnlearn.placement import reasoner as placed_reasoner
from lava_snnlearn.reasoning import ReasoningTrainer, evaluate, proof
from lava_snnlearn.reasoning.pipeline import Settings

FAMILIES = 6
SMALL = ("--epochs", "2", "--width", "4", "--steps", "8", "--option", "negatives=4", "--verify-samples", "2")
FILES = ["checkpoint.h5", "config.json", "metrics.csv", "reasoner.h5", "report.html", "summary.json", "weights.h5"]
PNGS = ["curves.png", "delays.png", "ranks.png", "wave.png"]


def write_families(folder: Path) -> Path:
    """Triple files: grandparents with two children, who have a child each; some of the grandparents are asked for."""
    rows, asked = [], []
    for family in range(FAMILIES):
        elder, *middle, first, second = (f"{name}{family}" for name in ("ann", "bob", "cid", "dan", "eve"))
        rows += [(elder, "parent", child) for child in middle]
        rows += [(middle[0], "parent", first), (middle[1], "parent", second), (middle[0], "sibling", middle[1])]
        asked += [(elder, "grandparent", first), (elder, "grandparent", second)]
    splits = {"train": rows + asked[: -FAMILIES // 2 * 2], "valid": asked[-6:-3], "test": asked[-3:]}
    folder.mkdir()
    for name, triples in splits.items():
        (folder / f"{name}.txt").write_text("".join("\t".join(triple) + "\n" for triple in triples))
    return folder


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_families(tmp_path_factory.mktemp("data") / "families")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory, call_once: Callable[..., Any], families: Path) -> Path:
    """Folder of a small run, which no test changes."""
    runs = tmp_path_factory.mktemp("runs")
    result = call_once("run", "--method", "grsnn", "--data", families, *SMALL, "--runs-dir", runs)
    assert result.code == 0, result
    for told in ("30 entities, 3 relations", "trained 2 epochs: test mrr", "emulated: test mrr", "EQUAL", "fixed point"):
        assert told in result.out
    return runs / "grsnn-families"


def assert_complete(folder: Path, pngs: list[str]) -> dict[str, Any]:
    """All files are there, and say that everything was equal; what summary.json tells."""
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("explanation_"))
    assert found == sorted([*FILES, *pngs])
    for path in folder.glob("*.png"):
        assert matplotlib.image.imread(path).std() > 0.01
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    assert content["results"]["verified"] is True
    html = (folder / "report.html").read_text()
    assert f"Verified: {content['results']['verified_samples']} queries, all populations, every step, 0 mismatches" in html
    assert "NOT equal" not in html
    assert "estimate from 45 nm constants" in html
    assert not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", html))
    return content


def test_a_run_writes_everything(learnt: Path, families: Path) -> None:
    content = assert_complete(learnt, PNGS)
    settings, found = content["settings"], content["results"]
    filled = {"method": "grsnn", "data": str(families), "hop": 2, "scale": 1.0, "batch_size": 16, "width": 4}
    assert filled.items() <= settings.items()
    assert settings["options"] == {"negatives": 4, "adversarial_temperature": 1.0, "remove": "triples"}
    # 2 queries: spikes and membranes of 8 steps, 30 nodes and 4 neurons, and the scores of 30 nodes
    assert found["verified_values"] == {"lava": 2 * (2 * 8 * 30 * 4 + 30)}
    assert (found["whole_graph"], found["mapping"], found["queries"]) == (True, "staged", 6)
    reasoner, data = FixedReasoner.load(learnt / "reasoner.h5"), snn.data.read_triples(families)
    assert found["test_fixed"] == evaluate(reasoner, data).measures
    assert reasoner.relations == 6
    sends = np.bincount(np.asarray(data.graph().source), minlength=30)
    asked = snn.reasoning.both_queries(data, data.test)
    trace = emulate_reasoner(reasoner, data.graph(), asked.source, asked.query)
    assert found["synops"]["edges"] == pytest.approx((trace.spike_counts @ sends).mean())
    assert (learnt / "metrics.csv").read_text().startswith("epoch,loss,spike_rate,learning_rate,seconds,valid_mrr")
    html = (learnt / "report.html").read_text()
    for part in ("grandparent", "same rank in both", "Temporal spiking neural networks with synaptic delay", "NBFNet"):
        assert part in html


def test_explanations_are_those_of_the_trained_model(learnt: Path, families: Path) -> None:
    """Whatever was answered well is explained, in text and picture."""
    told = json.loads((learnt / "summary.json").read_text())["results"]["explanations"]
    data = snn.data.read_triples(families)
    model = Settings(str(families), width=4, steps=8).completed(data).model(data)
    model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in read_tree(learnt / "weights.h5", "weights").items()}
    )
    expected = []
    for head, relation, tail in data.test.tolist():
        explanation = snn.reasoning.explain(model.eval(), data, head, relation, tail)
        if explanation.rank == 1 and explanation.paths:
            expected.append(str(explanation))
    assert sorted(told) == sorted(expected)
    assert len(list(learnt.glob("explanation_*.png"))) == len(told)


def test_it_is_what_the_library_does(learnt: Path, families: Path) -> None:
    torch.set_num_threads(1)
    data = snn.data.read_triples(families)
    torch.manual_seed(0)
    model = snn.networks.GraphReasoner(6, width=4, steps=8, hop=2, scale=1.0)
    ReasoningTrainer(model, GRSNN(4), data, epochs=2, batch_size=16, learning_rate=5e-3, seed=0, progress=False).fit()
    found = json.loads((learnt / "summary.json").read_text())["results"]
    assert found["test"] == evaluate(model, data).measures
    weights = read_tree(learnt / "weights.h5", "weights")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy())


def test_the_file_alone_knows_its_graph(
    call: Any, refused: Any, learnt: Path, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = learnt / "reasoner.h5"
    mrr = json.loads((learnt / "summary.json").read_text())["results"]["test_fixed"]["mrr"]
    result = call("emulate", file)
    assert result.code == 0, result
    assert f"mrr {mrr:.4f}" in result.out
    assert "6 queries in" in result.out
    assert "FixedReasoner: 6 relations, 4 neurons a node" in result.out
    assert "2 queries in" in call("emulate", file, "--samples", "1").out
    result = call("verify", file, "--samples", "3")
    assert result.code == 0, result
    assert f"0 mismatches in {3 * (2 * 8 * 30 * 4 + 30)} spikes" in result.out
    alone = tmp_path / "alone.h5"
    alone.write_bytes(file.read_bytes())
    assert "--data" in refused("verify", alone)
    assert call("verify", alone, "--samples", "1", "--data", families, "--against", "lava").code == 0
    (tmp_path / "summary.json").write_text("{}")
    assert "does not say which graph" in refused("emulate", alone)
    one = tmp_path / "one"
    one.mkdir()
    for split in ("train", "test"):
        (one / f"{split}.tsv").write_text("a\tr\tb\n")
    assert "6 relations, inverse ones included, and one has 2" in refused("emulate", alone, "--data", one)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["verify", "--npy", "x.npy"], ["--npy", "reasoner", "--data"]),
        (["verify", "--against", "torch"], ["'torch'", "lava"]),
        (["verify", "--samples", "0"], ["--samples is 0"]),
        (["emulate", "--save", "x.npz"], ["--save", "reasoner"]),
        (["emulate", "--data", "random"], ["'random'", "umls"]),
        (["emulate", "--samples", "-1"], ["--samples is -1"]),
    ],
)
def test_what_a_reasoner_file_does_not_take_is_refused(
    refused: Any, learnt: Path, arguments: list[str], parts: list[str]
) -> None:
    message = refused(arguments[0], learnt / "reasoner.h5", *arguments[1:])
    for part in parts:
        assert part in message


def test_an_interrupted_run_is_resumed(
    call: Any, refused: Any, results: Any, families: Path, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--method", "grsnn", "--data", families, *SMALL, "--runs-dir", tmp_path, "--name", "broken")
    calls, real = 0, GRSNN.gradients

    def gradients(self: Any, *arguments: Any, **rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(self, *arguments, **rest)

    monkeypatch.setattr(GRSNN, "gradients", gradients)
    assert call("run", *options).code == 130
    monkeypatch.undo()
    message = refused("run", *options)
    for remedy in ("--resume", "--overwrite", "--name"):
        assert remedy in message
    assert "epochs = 2, now it is 3" in refused("run", *options, "--epochs", "3", "--resume")
    assert call("run", *options, "--resume").code == 0
    same = [{k: v for k, v in results(folder).items() if k != "seconds"} for folder in (learnt, tmp_path / "broken")]
    assert same[0] == same[1]
    (tmp_path / "broken" / "explanation_9.png").write_bytes(b"stale")
    assert call("run", *options, "--seed", "1", "--overwrite").code == 0
    assert results(tmp_path / "broken")["test"] != same[0]["test"]
    assert not (tmp_path / "broken" / "explanation_9.png").exists()


def test_a_mismatch_is_exit_status_1(
    call: Any, results: Any, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lava_reasoner.emulate_reasoner

    def wrong(*arguments: Any, **rest: Any) -> Any:
        trace = real(*arguments, **rest)
        trace.membranes[3, 0, 7, 2] += 1
        return trace

    monkeypatch.setattr(lava_reasoner, "emulate_reasoner", wrong)
    result = call("run", "--method", "grsnn", "--data", families, *SMALL, "--runs-dir", tmp_path)
    assert result.code == 1, result
    assert "first mismatch: membrane of population 'node 7', neuron 2, step 3, sample 0" in result.out
    assert results(tmp_path / "grsnn-families")["verified"] is False
    assert '<p class="verdict bad">NOT equal' in (tmp_path / "grsnn-families" / "report.html").read_text()
    assert call("verify", tmp_path / "grsnn-families" / "reasoner.h5", "--samples", "1").code == 1


def test_of_a_large_graph_a_part_is_verified(
    call: Any, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many synapses for a quick run on Lava, and for a core."""
    monkeypatch.setattr(proof, "SYNAPSES", 100)
    monkeypatch.setitem(placed_reasoner._CORE, "synaptic_bits", 100)
    result = call("run", "--method", "grsnn", "--data", families, *SMALL, "--runs-dir", tmp_path, "--name", "large")
    assert result.code == 0, result
    found = assert_complete(tmp_path / "large", PNGS)["results"]
    assert found["verified_nodes"] == 5 < 30  # 20 synapses a node, w0 among them, without any edge
    assert found["whole_graph"] is False
    assert found["loihi1_cores"] == {"staged": None, "exact": None}
    html = (tmp_path / "large" / "report.html").read_text()
    assert f"Lava and the emulator ran the 5 nodes and {found['verified_edges']} edges around the queries" in html
    assert "needs" in html
    assert "synaptic bits in the exact mapping; a core has 100" in html


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--option", "hop=1", "--option", "variant=plus", "--option", "bias=false"), id="exact-plus"),
        pytest.param(("--option", "delays=zero", "--option", "variant=plus", "--weight-bits", "6"), id="staged-plus-zero"),
        pytest.param(("--option", "delays=relation", "--option", "keep=last", "--option", "test_triples=2"), id="relation"),
    ],
)
def test_runs_of_every_kind_are_verified(call: Any, families: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    small = ("--epochs", "1", *SMALL[2:])
    result = call("run", "--method", "grsnn", "--data", families, *small, *options, "--runs-dir", tmp_path, "--name", "mine")
    assert result.code == 0, result
    content = assert_complete(tmp_path / "mine", PNGS)
    assert content["results"]["queries"] == (4 if "test_triples=2" in options else 6)
    assert content["settings"]["weight_bits"] == (6 if "6" in options else 8)


def test_other_graphs(call: Any, results: Any, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cliques, whose links have no direction; and a graph to learn on and one to be asked on, in the published timing."""
    pairs = [(a, b) for clique in (range(10), range(10, 20)) for a in clique for b in clique if a < b]
    links = snn.data.link_prediction("cora", 20, np.array(pairs), shares=(0.7, 0.15, 0.15))
    task = snn.data.read_inductive(families, write_families(tmp_path / "others"), name="wn18rr_v1")
    monkeypatch.setitem(GRAPHS, "cora", lambda seed: links)
    monkeypatch.setitem(GRAPHS, "wn18rr_v1", lambda seed: task)
    options = (*SMALL, "--option", "negatives=2", "--option", "steps_per_epoch=2", "--runs-dir", tmp_path)
    assert call("run", "--method", "grsnn", "--data", "cora", *options).code == 0
    content = assert_complete(tmp_path / "grsnn-cora", [name for name in PNGS if name != "ranks.png"])
    assert sorted(content["results"]["test_fixed"]) == ["ap", "auroc"]
    assert content["results"]["same_ranks"] is None
    assert (content["settings"]["hop"], content["settings"]["learning_rate"]) == (1, 2e-3)
    assert "auroc" in call("emulate", tmp_path / "grsnn-cora" / "reasoner.h5").out
    result = call("run", "--method", "grsnn", "--data", "wn18rr_v1", *options)
    assert result.code == 0, result
    assert "hits@10 of 50" in result.out
    assert_complete(tmp_path / "grsnn-wn18rr_v1", PNGS)
    assert results(tmp_path / "grsnn-wn18rr_v1")["mapping"] == "exact"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--data", "uml"], ["'uml'", "Did you mean 'umls'?"]),
        (["--data", "digits"], ["unknown graph or folder of triples 'digits'"]),
        (["--method", "ottt", "--data", "umls"], ["graph of facts", "--method grsnn"]),
        (["--option", "hopp=1"], ["option of grsnn 'hopp'", "Did you mean 'hop'?"]),
        (["--option", "hop=3"], ["hop is 3", "staged"]),
        (["--option", "variant=plus_full"], ["plus_full", "plus"]),
        (["--option", "delays=none"], ["'none'", "zero"]),
        (["--option", "negatives=0"], ["negatives is 0"]),
        (["--option", "verify_samples=3"], ["'verify_samples'"]),
        (["--width", "2.5"], ["--width is 2.5", "whole"]),
        (["--width", "0"], ["width is 0"]),
        (["--weight-bits", "9"], ["weight_bits is 9"]),
        (["--verify-samples", "0"], ["verify_samples is 0"]),
        (["--layers", "12", "--leak", "0.5"], ["--layers, --leak", "grsnn"]),
        (["--tasks", "2"], ["--tasks", "grsnn"]),
        (["--input", "rate"], ["--input", "graph of facts"]),
        (["--on-chip"], ["grsnn does not learn on the chip"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_what_does_not_go_together_is_refused_before_any_work(
    refused: Any, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], parts: list[str]
) -> None:
    monkeypatch.setattr(GRSNN, "gradients", lambda *_, **__: pytest.fail("trained"))
    named = [] if "--method" in options else ["--method", "grsnn"]
    data = [] if "--data" in options else ["--data", families]
    message = refused("run", *named, *data, *options, "--runs-dir", tmp_path / "runs")
    for part in parts:
        assert part in message
    assert not (tmp_path / "runs").exists()


def test_too_little_memory_is_one_line_with_the_numbers(
    refused: Any, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_fused, "os", SimpleNamespace(sysconf=lambda _: 100))
    message = refused("run", "--method", "grsnn", "--data", families, "--runs-dir", tmp_path)
    assert "16 queries on" in message
    assert "this machine has 1e-05 GB" in message


def test_data_without_test_triples_are_refused(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.txt").write_text("a\tr\tb\n")
    message = refused("run", "--method", "grsnn", "--data", tmp_path / "mine", "--runs-dir", tmp_path / "runs")
    assert "mine has no test triples" in message
    assert "test.txt" in message
    assert not (tmp_path / "runs").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "train.txt" in refused("run", "--method", "grsnn", "--data", empty)


def test_options_are_listed(call: Any) -> None:
    block = next(block for block in call("methods").out.split("\n\n") if block.startswith("grsnn: "))
    for option in ("negatives=None", "max_delay=4", "hop=None", "variant=base", "test_triples=None"):
        assert option in block
    for own in ("width", "epochs", "seed", "data="):
        assert f"{own}" not in block.split("options: ")[1].split("\n")[0]
    assert "Temporal spiking neural networks with synaptic delay" in block


def test_check_deals_the_nodes_to_cores(call: Any, refused: Any, learnt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = call("check", learnt / "reasoner.h5")
    assert result.code == 0, result
    assert "30 nodes on 1 cores of 1 Loihi 1 chips" in result.out
    assert "Loihi 1 cores    at least 1" in result.out
    assert "--samples: for networks" in refused("check", learnt / "reasoner.h5", "--samples", "3")
    assert "--target is loihi2" in refused("check", learnt / "reasoner.h5", "--target", "loihi2")
    monkeypatch.setitem(placed_reasoner._CORE, "synaptic_bits", 100)
    result = call("check", learnt / "reasoner.h5")
    assert result.code == 1
    assert "error: node" in result.out
