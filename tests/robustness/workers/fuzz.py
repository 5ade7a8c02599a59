"""Read files of the library after changes that leave them sound HDF5 with a fitting checksum, and after damage.

Usage: python fuzz.py FOLDER NUMBER KINDS. Prints a line of JSON for each kind of file: how often each outcome came ("read",
"refused"), and the first outcomes of any other sort. Memory is limited; a change on which more than some seconds of processor
time are spent ends this process.
"""

from __future__ import annotations

import copy
import json
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from subjects import SUBJECTS

from lava_snnlearn.files import FileFormatError, content_of, read_tree, write_tree

SECONDS = 10.0
MEMORY = 1 << 30  # bytes beyond those in use when the fuzzing begins
VALUES: list[Any] = [
    None, True, -1, 0, 1, 3, 255, 1 << 31, 1 << 40, 1 << 62, 1 << 70, -(1 << 63), 1.5, 1e300, -0.0, float("nan"), float("inf"),
    "", "text", "lif", "exact", "input", "\x00", "x" * 5000, [], {}, [[]], [1, "a", None], {"a": {"b": []}}, [1 << 62] * 3,
    np.zeros(0), np.zeros((0, 5), np.int64), np.array(7), np.ones(3), np.ones((2, 2, 2, 2), np.int16), np.ones((4, 6), bool),
    np.full((6, 5), np.nan), np.full((6, 5), np.inf), np.full(6, 2**63, np.uint64), np.full((4, 6), -(2**63), np.int64),
    np.ones((6, 5), np.float16), np.ones(6, ">i4"),
]  # fmt: skip


def places(node: Any) -> list[tuple[Any, Any]]:
    """All containers with all their keys."""
    found: list[tuple[Any, Any]] = []
    if isinstance(node, (dict, list)):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            found += [(node, key), *places(node[key])]
    return found


def changed_array(rng: np.random.Generator, array: Any) -> Any:
    """Another type, shape, or value."""
    way = rng.integers(6)
    if way == 0:
        with np.errstate(all="ignore"):
            return array.astype(rng.choice(["f8", "f2", "i1", "u8", "?", ">i2"]))
    if way == 1:
        return array.reshape(-1)
    if way == 2:
        return array[None]
    if way == 3:
        return array[:0] if array.ndim else array
    if way == 4:
        return np.repeat(array, 3, axis=0) if array.ndim else array
    wide = array.astype(np.int64 if rng.random() < 0.7 else np.float64).copy()
    if wide.size:
        wide.flat[rng.integers(wide.size)] = rng.choice([-1, 1, 255, -256, 1 << 15, 1 << 31, -(1 << 62)])
    return wide


def change(rng: np.random.Generator, tree: dict[str, Any]) -> None:
    """One change at a random place of a tree."""
    spots = places(tree)
    container, key = spots[rng.integers(len(spots))]
    way = rng.random()
    if way < 0.1:
        del container[key]
    elif way < 0.15 and isinstance(container, dict):
        container["unknown"] = VALUES[rng.integers(len(VALUES))]
    elif way < 0.25:
        other, at = spots[rng.integers(len(spots))]
        container[key] = copy.deepcopy(other[at])
    elif isinstance(container[key], np.ndarray) and way < 0.7:
        container[key] = changed_array(rng, container[key])
    else:
        container[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])


def damaged(rng: np.random.Generator, whole: bytes) -> bytes:
    """Cut off, or with flipped bits."""
    data = bytearray(whole)
    if rng.random() < 0.3:
        return bytes(data[: rng.integers(len(data))])
    for at in rng.choice(len(data), int(rng.choice([1, 2, 30])), replace=False):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def main(kind: str, folder: Path, number: int) -> None:
    subject = SUBJECTS[kind]
    path = folder / (kind + subject.suffix)
    subject.write(path, 0)
    subject.read(path)
    file = path if subject.suffix else path / "checkpoint.h5"
    whole, content = file.read_bytes(), content_of(file)
    tree = read_tree(file, content)
    limit = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []

    def attempt(what: str, allowed: tuple[str, ...]) -> None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            subject.read(path)
            outcome = "read"
        except FileFormatError as error:
            outcome = "refused" if str(file) in str(error) else f"{error} does not name the file"
        except Exception as error:
            # A run's settings are compared with those of the checkpoint: not a matter of its format.
            settings = isinstance(error, ValueError) and kind == "checkpoint" and "Resume with the same settings" in str(error)
            outcome = "refused" if settings else f"{type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        outcomes[f"{what} {outcome}" if outcome in ("read", "refused") else f"{what} wrong"] += 1
        if outcome not in allowed:
            wrong.append(f"{what} {seed}: {outcome}"[:500])

    for seed in range(number):
        rng = np.random.default_rng(seed)
        file.write_bytes(damaged(rng, whole))
        attempt("damage", ("refused",))
        forged = copy.deepcopy(tree)
        for _ in range(int(rng.integers(1, 4))):
            change(rng, forged)
        write_tree(file, forged, content)
        attempt("change", ("read", "refused"))
    print(json.dumps({"kind": kind, "outcomes": outcomes, "wrong": wrong[:10]}), flush=True)


if __name__ == "__main__":
    for kind in sys.argv[3:]:
        main(kind, Path(sys.argv[1]), int(sys.argv[2]))
