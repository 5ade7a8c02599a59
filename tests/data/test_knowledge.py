"""Graphs by name: where they are read from, sizes, and what is said where they are missing. No test downloads anything."""

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import GRAPHS, load_graph
from lava_snnlearn.data.places import DATA_VARIABLE

FOLDER = Path(os.environ.get(DATA_VARIABLE, "none"))
needs_data = pytest.mark.skipif(not (FOLDER / "kg").is_dir(), reason=f"{DATA_VARIABLE} names no folder; CI sets it")
# entities, relations, facts, train, valid, test: published sizes
SIZES = {
    "umls": (135, 46, 5216, 5216, 652, 661),
    "nations": (14, 55, 1592, 1592, 199, 201),
    "family": (3007, 12, 17615 + 5868, 5868, 2038, 2835),
    "fb15k-237": (14541, 237, 272115, 272115, 17535, 20466),
    "wn18rr": (40943, 11, 86835, 86835, 3034, 3134),
    # 85 and 5 % of 5278, 4552 and 44324 links, rounded down
    "cora": (2708, 1, 4486, 4486, 263, 529),
    "citeseer": (3327, 1, 3869, 3869, 227, 456),
    "pubmed": (19717, 1, 37675, 37675, 2216, 4433),
}
# training and test graph, from the files' own lines
INDUCTIVE = {
    "fb237_v1": ((1594, 180, 4245, 4245, 489, 492), (1093, 180, 1993, 1993, 206, 205)),
    "wn18rr_v3": ((12078, 11, 25901, 25901, 3097, 3152), (5084, 11, 6327, 6327, 538, 605)),
    "wn18rr_v1": ((2746, 9, 5410, 5410, 630, 638), (922, 9, 1618, 1618, 185, 188)),
}


def sizes(data):
    counts = data.summary()
    assert counts["leaked"] == 0
    return tuple(counts[key] for key in ("entities", "relations", "facts", "train", "valid", "test"))


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [tuple(line.rstrip("\n").split("\t")) for line in file]


@needs_data
@pytest.mark.parametrize("name", SIZES)
def test_sets_have_their_sizes(name):
    data = load_graph(name)
    assert data.name == name
    assert sizes(data) == SIZES[name]


@needs_data
@pytest.mark.parametrize("name", INDUCTIVE)
def test_inductive_tasks_have_their_sizes(name):
    task = load_graph(name)
    assert task.name == name
    assert (sizes(task.train), sizes(task.test)) == INDUCTIVE[name]


@needs_data
@pytest.mark.parametrize("name, unseen", [("fb15k-237", 37), ("wn18rr", 420)])
def test_triples_with_unseen_entities_are_kept(name, unseen):
    data = load_graph(name)
    seen = np.unique(data.train[:, ::2])
    asked = np.concatenate([data.valid, data.test])[:, ::2]
    assert int((~np.isin(asked, seen)).any(axis=1).sum()) == unseen


@needs_data
def test_triples_are_those_of_the_files():
    data = load_graph("umls")
    for split in ("train", "valid", "test"):
        found = [(data.entities[h], data.relations[r], data.entities[t]) for h, r, t in getattr(data, split)]
        assert found == lines(FOLDER / "kg" / "umls" / f"{split}.txt.gz")


@needs_data
def test_citation_links_are_those_of_the_file_and_drawn_by_the_seed():
    data, other = load_graph("cora"), load_graph("cora", seed=1)
    with np.load(FOLDER / "planetoid" / "cora.npz") as store:
        expected = {tuple(sorted(pair)) for pair in store["edges"].T.tolist()}
    for drawn in (data, other):
        found = [tuple(sorted(pair)) for pair in np.concatenate([drawn.train, drawn.valid, drawn.test])[:, ::2].tolist()]
        assert set(found) == expected
        assert len(found) == len(expected)
    assert np.array_equal(data.test, load_graph("cora", seed=0).test)
    assert not np.array_equal(data.test, other.test)
    assert data.graph().edges == 2 * len(data.train) + len(data.entities)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder without any set, and no pykeen."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *(p for p in sys.path if not (Path(p) / "pykeen").exists())])
    return tmp_path


def write_splits(folder, triple, ending=".txt"):
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (folder / f"{split}{ending}").write_text(triple)


@pytest.mark.parametrize("name", ["umls", "nations", "kinships"])
def test_pykeen_is_read_but_not_imported(empty, name):
    write_splits(empty / "site" / "pykeen" / "datasets" / name, "a\tr\tb\n")
    (empty / "site" / "pykeen" / "__init__.py").write_text("raise RuntimeError('imported')")
    assert load_graph(name).entities == ("a", "b")
    # the user's own folder comes first, in any of the forms that read_triples takes
    write_splits(empty / "data" / "kg" / name, "c\tr\td\n", ".tsv")
    assert load_graph(name).entities == ("c", "d")


@pytest.mark.parametrize("name", GRAPHS)
def test_missing_sets_say_what_to_do(empty, name):
    with pytest.raises(RuntimeError) as refusal:
        load_graph(name)
    said = str(refusal.value)
    assert said.startswith(f"{name} is not here.")
    assert f"Set {DATA_VARIABLE} to a folder that holds {'planetoid' if name in SEEDED else 'kg'}/" in said
    assert ("lava-snnlearn[graphs]" in said) == (name in ("umls", "nations", "kinships"))


SEEDED = ("cora", "citeseer", "pubmed")


def test_half_an_inductive_task_is_missing(empty):
    write_splits(empty / "data" / "kg" / "inductive" / "WN18RR_v1", "a\tr\tb\n")
    with pytest.raises(RuntimeError, match=r"WN18RR_v1_ind/"):
        load_graph("wn18rr_v1")
    write_splits(empty / "data" / "kg" / "inductive" / "WN18RR_v1_ind", "b\tr\tc\n")
    assert load_graph("wn18rr_v1").test.entities == ("b", "c")


def test_bad_names_and_seeds_are_refused(empty):
    with pytest.raises(UnknownNameError, match="Did you mean 'umls'"):
        load_graph("UMLS")
    with pytest.raises(TypeError, match="splits of umls are fixed"):
        load_graph("umls", seed=0)
