"""Knowledge graphs and link-prediction sets by name.

They are read from the folder that the environment variable LAVA_SNNLEARN_DATA names: kg/<set>/ with train, valid and test (and
facts) .txt, .tsv or one of these with .gz, kg/inductive/<set>/ and kg/inductive/<set>_ind/, planetoid/<set>.npz. "umls",
"nations" and "kinships" are also embedded in the package pykeen, and are taken from there where it is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lava_snnlearn.checks import known_name
from lava_snnlearn.data.graph_files import ENDINGS, read_inductive, read_triples
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.data.links import link_prediction
from lava_snnlearn.data.places import DATA_VARIABLE, local_file

__all__ = [
    "GRAPHS",
    "InductiveTask",
    "KnowledgeGraph",
    "link_prediction",
    "load_graph",
    "read_inductive",
    "read_triples",
]

_Reader = Callable[[int], KnowledgeGraph | InductiveTask]


def _transductive(name: str, folder: str, embedded: bool = False) -> _Reader:
    """Reader of kg/<folder>; ``embedded``: pykeen has it, too."""

    def read(seed: int) -> KnowledgeGraph:
        place = _local_folder(f"kg/{folder}") or (_in_pykeen(folder) if embedded else None)
        if place is None:
            other = ", or install pykeen, which holds it: pip install 'lava-snnlearn[graphs]'" if embedded else ""
            raise RuntimeError(f"{name} is not here. {_remedy(f'kg/{folder}/train.txt.gz, valid.txt.gz, test.txt.gz')}{other}")
        return read_triples(place, name=name)

    return read


def _inductive(name: str, folder: str) -> _Reader:
    def read(seed: int) -> InductiveTask:
        places = [_local_folder(f"kg/inductive/{folder}{ending}") for ending in ("", "_ind")]
        if places[0] is None or places[1] is None:
            files = f"kg/inductive/{folder}/ and kg/inductive/{folder}_ind/, each with train.txt.gz, valid.txt.gz, test.txt.gz"
            raise RuntimeError(f"{name} is not here. {_remedy(files)}")
        return read_inductive(places[0], places[1], name=name)

    return read


def _citations(name: str, file: str) -> _Reader:
    """Reader of planetoid/<file>: links [2, E] of a citation graph, drawn into splits."""

    def read(seed: int) -> KnowledgeGraph:
        local = local_file(f"planetoid/{file}")
        if local is None:
            raise RuntimeError(f"{name} is not here. {_remedy(f'planetoid/{file} (keys edges int [2, E], label [N])')}")
        with np.load(local, allow_pickle=False) as store:
            edges, nodes = store["edges"], len(store["label"])
        return link_prediction(name, nodes, edges.T, seed=seed)

    return read


def _local_folder(folder: str) -> Path | None:
    found = (local_file(f"{folder}/train{ending}") for ending in ENDINGS)
    return next((file.parent for file in found if file is not None), None)


def _in_pykeen(folder: str) -> Path | None:
    """The folder in pykeen, which is located but not imported: its import takes seconds."""
    spec = importlib.util.find_spec("pykeen")
    places = [Path(place) / "datasets" / folder for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if (place / "train.txt").is_file()), None)


def _remedy(files: str) -> str:
    return f"Set {DATA_VARIABLE} to a folder that holds {files}"


_SEEDED = {
    "citeseer": _citations("citeseer", "citeseer.npz"),
    "cora": _citations("cora", "cora.npz"),
    "pubmed": _citations("pubmed", "pubmed_graph_only.npz"),
}
GRAPHS: dict[str, _Reader] = {
    **_SEEDED,
    "family": _transductive("family", "family"),
    "fb15k-237": _transductive("fb15k-237", "FB15k-237"),
    **{f"fb237_v{part}": _inductive(f"fb237_v{part}", f"fb237_v{part}") for part in range(1, 5)},
    "kinships": _transductive("kinships", "kinships", embedded=True),
    "nations": _transductive("nations", "nations", embedded=True),
    "umls": _transductive("umls", "umls", embedded=True),
    "wn18rr": _transductive("wn18rr", "WN18RR"),
    **{f"wn18rr_v{part}": _inductive(f"wn18rr_v{part}", f"WN18RR_v{part}") for part in range(1, 5)},
}
"""Names that :func:`load_graph` knows."""


def load_graph(name: str, *, seed: int | None = None) -> KnowledgeGraph | InductiveTask:
    """A knowledge graph by name.

    - "umls", "nations", "kinships", "family", "wn18rr", "fb15k-237": a KnowledgeGraph. The facts are the training triples;
      those of "family" are its background triples and the training ones, of which only the latter are asked for in training.
    - "wn18rr_v1" to "wn18rr_v4", "fb237_v1" to "fb237_v4": an InductiveTask (K. K. Teru et al., "Inductive relation prediction
      by subgraph reasoning", ICML 2020).
    - "cora", "citeseer", "pubmed": citation graphs, without their features: a homogeneous KnowledgeGraph whose links are drawn
      85 / 5 / 10 %, see :func:`~lava_snnlearn.data.links.link_prediction`.

    Args:
        name: see above.
        seed: of the drawn links of citation graphs; None: 0. The splits of the others are fixed.

    Raises:
        UnknownNameError: unknown name. RuntimeError: the files are nowhere; says what to do.
        FileFormatError: files that are damaged. TypeError: a seed for a graph with fixed splits.
    """
    known_name("graph", name, GRAPHS)
    if seed is not None and name not in _SEEDED:
        raise TypeError(f"seed is {seed}, but the splits of {name} are fixed; leave it out")
    return GRAPHS[name](0 if seed is None else seed)
