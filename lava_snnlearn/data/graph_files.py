"""Triple files of users: one (head, relation, tail) a line, UTF-8, separated by tabs, plain or gzip."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.data.knowledge_graph import SPLITS, InductiveTask, KnowledgeGraph
from lava_snnlearn.files import FileFormatError

ENDINGS = (".txt", ".tsv", ".txt.gz", ".tsv.gz")
"""Of the files train, valid, test and facts in a folder."""

PathOrFiles = str | PathLike[str] | Mapping[str, str | PathLike[str]]
_Columns = tuple[list[str], list[str], list[str]]  # heads, relations, tails
_SHOWN = 60  # characters of a bad line


def read_triples(source: PathOrFiles, *, name: str | None = None) -> KnowledgeGraph:
    """A knowledge graph from files of triples, one ``head<TAB>relation<TAB>tail`` a line, UTF-8, plain or gzip (ending .gz).

    Entities and relations are numbered in the order of their names, over all files: an entity of the test triples that no fact
    has is kept. Names are taken as they are, with their spaces. With a file of facts (background that is not asked for), the
    facts of the graph are these and the training triples; otherwise they are the training triples.

    Args:
        source: a folder with train, and, where there are any, valid, test and facts, ending in .txt or .tsv or one of these
            and .gz; or the files, {"train": path, ...}; or one file, the training triples.
        name: for reports; None: that of the folder or file, "graph" for a mapping.

    Raises:
        FileFormatError: a file that is missing, empty, no gzip or a truncated one, not UTF-8, or with a line that has not three
            columns; train is missing, or there twice. The message names file and line.
        UnknownNameError: another split in the mapping.
    """
    return _graph(name or _title(source), _read_all(source))


def read_inductive(train: PathOrFiles, test: PathOrFiles, *, name: str | None = None) -> InductiveTask:
    """Two graphs with the same relations: one to learn on, one with other entities to predict on.

    Args:
        train, test: as in :func:`read_triples`, whose errors are raised; the training triples of the second graph are facts.
        name: for reports; None: that of the first graph.

    Raises:
        ValueError: relations of the second graph that the first has no fact of; the message names them.
    """
    name = name or _title(train)
    first, second = _read_all(train), _read_all(test)
    relations = _sorted_names(columns[1] for columns in (*first.values(), *second.values()))
    return InductiveTask(name, _graph(name, first, relations), _graph(f"{name} (test graph)", second, relations))


def _title(source: PathOrFiles) -> str:
    return "graph" if isinstance(source, Mapping) else Path(source).name.split(".")[0]


def _graph(name: str, splits: Mapping[str, _Columns], relations: tuple[str, ...] | None = None) -> KnowledgeGraph:
    entities = _sorted_names(columns[at] for columns in splits.values() for at in (0, 2))
    relations = relations or _sorted_names(columns[1] for columns in splits.values())
    numbers = [{name: number for number, name in enumerate(names)} for names in (entities, relations, entities)]
    arrays = {split: _numbered(columns, numbers) for split, columns in splits.items()}
    nothing = np.zeros((0, 3), np.int64)
    facts = np.concatenate([arrays.get("facts", nothing), arrays["train"]])
    train, valid, test = (arrays.get(split, nothing) for split in SPLITS)
    return KnowledgeGraph(name, entities, relations, facts, train, valid, test)


def _sorted_names(columns: Iterable[list[str]]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*columns)))


def _numbered(columns: _Columns, numbers: list[dict[str, int]]) -> NDArray[np.int64]:
    pairs = zip(columns, numbers, strict=True)
    return np.stack([np.fromiter(map(index.__getitem__, names), np.int64, len(names)) for names, index in pairs], axis=1)


def _read_all(source: PathOrFiles) -> dict[str, _Columns]:
    return {split: read_columns(path) for split, path in _files(source).items()}


def _files(source: PathOrFiles) -> dict[str, Path]:
    """The file of each split."""
    if isinstance(source, Mapping):
        files = {known_name("split", split, ("facts", *SPLITS)): Path(path) for split, path in source.items()}
    elif not Path(source).is_dir():
        files = {"train": Path(source)}
    else:
        found = {split: _in_folder(Path(source), split) for split in ("facts", *SPLITS)}
        files = {split: path for split, path in found.items() if path is not None}
    if "train" not in files:
        where = "the mapping" if isinstance(source, Mapping) else str(source)
        raise FileFormatError(f"{where} has no training triples; give a file train.txt or train.tsv, plain or with .gz")
    return files


def _in_folder(folder: Path, split: str) -> Path | None:
    found = [path for path in (folder / f"{split}{ending}" for ending in ENDINGS) if path.is_file()]
    if len(found) > 1:
        raise FileFormatError(f"{folder} has {' and '.join(path.name for path in found)}; keep one of them, or name the files")
    return found[0] if found else None


def read_columns(path: str | PathLike[str]) -> _Columns:
    """Heads, relations and tails of a file of triples; errors as in :func:`read_triples`."""
    text = _text(path)
    lines = [line.rstrip("\r") for line in text.rstrip("\r\n").split("\n")]
    if lines == [""]:
        raise FileFormatError(f"{path} is empty; expected lines of head, relation and tail")
    names = "\t".join(lines).split("\t")
    if "" in names or any(line.count("\t") != 2 for line in lines):
        number, row = next(
            (number, row) for number, row in enumerate((line.split("\t") for line in lines), 1) if not _good(row)
        )
        raise FileFormatError(f"{path}, line {number}: {_complaint(row)}; expected head, relation and tail with tabs between")
    return names[::3], names[1::3], names[2::3]


def _good(row: list[str]) -> bool:
    return len(row) == 3 and all(row)


def _complaint(row: list[str]) -> str:
    line = "\t".join(row)
    shown = repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}...")
    if line == "":
        return "the line is empty"
    return f"{shown} has {len(row)} column{'s' * (len(row) != 1)}" if len(row) != 3 else f"{shown} has an empty name"


def _text(path: str | PathLike[str]) -> str:
    opener: Any = gzip.open if str(path).endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            raw: bytes = file.read()
    except EOFError as error:
        raise FileFormatError(f"{path} is truncated: the gzip data end too early. Copy the file again.") from error
    except (zlib.error, OSError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileFormatError(f"{path}, line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8.") from error
