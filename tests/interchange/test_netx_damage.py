"""Damaged and forged netx files: refused with a clear message, and nothing worse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.interchange import foreign_hdf5, from_netx
from lava_snnlearn.interchange.foreign_hdf5 import read_foreign
from lava_snnlearn.interchange.netx_import import network_of
from lava_snnlearn.interchange.netx_layers import layers_of, sample_steps
from lava_snnlearn.interchange.netx_sigma_delta import chain_of

MUTATIONS = 200
SIGNATURE = 8  # bytes, without which a file is refused at once

WORKER = """
import resource, signal, sys
from pathlib import Path
import psutil
from lava_snnlearn.interchange.netx_import import network_of
from lava_snnlearn.interchange.netx_layers import layers_of
from lava_snnlearn.interchange.plain_hdf5 import plain_tree

limit = psutil.Process().memory_info().vms + (2 << 30)  # newer versions of torch alone take 3 GB of addresses
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for seed in range(first, last):
    signal.setitimer(signal.ITIMER_PROF, 2.0)  # of processor time: ends this process where the HDF5 library hangs
    try:
        tree = plain_tree(folder / f"{seed}.net")
    except Exception:
        print(seed, "unreadable", flush=True)
        continue
    try:
        network_of(layers_of(tree), 5, None, None)
        print(seed, "network", flush=True)
    except ValueError:
        print(seed, "refused", flush=True)
"""
"""What :func:`from_netx` does, in one process for many files: whatever the HDF5 library raises counts as unreadable, but of
what comes behind it only ValueErrors (FileFormatError, LimitError) may come."""


def layers() -> dict[str, Any]:
    neuron = {"type": "CUBA", "iDecay": 4096, "vDecay": 3, "vThMant": 5}
    ones = np.ones((2, 1, 3, 3), np.float32)
    return {
        "0": {"type": np.array([b"input"], "S10"), "shape": [1, 4, 4], "neuron": neuron},
        "1": {
            "type": np.array([b"conv"], "S10"),
            "shape": [2, 2, 2],
            "weight": 2 * ones,
            **{"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "bias": [2.0, 3.0], "neuron": neuron},
        },
        "2": {"type": np.array([b"flatten"], "S10"), "shape": [8]},
        "3": {
            "type": np.array([b"dense_rec"], "S10"),
            "weight": 2 * np.ones((2, 8)),
            "weight_rec": 2 * np.ones((2, 2)),
            "neuron": neuron,
        },
        "4": {"type": np.array([b"average"], "S10"), "shape": [1]},
    }


@pytest.fixture
def intact(tmp_path: Path, write_netx: Any) -> Path:
    return write_netx(tmp_path / "intact.net", *layers().values(), simulation={"Ts": 1, "tSample": 5})


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part), "OMP_NUM_THREADS": "1"}


def test_fuzz(intact: Path, damaged: Any, tmp_path: Path) -> None:
    """Seeded mutations: a network or a refusal. Where the HDF5 library itself hangs or dies, the reading process is lost, not
    this one; that :func:`read_foreign` says so is tested below."""
    assert len(from_netx(intact).populations) == 4
    whole = intact.read_bytes()
    for seed in range(MUTATIONS):
        (tmp_path / f"{seed}.net").write_bytes(damaged(whole, seed, first=SIGNATURE))
    outcomes: list[str] = []
    lost = 0
    while len(outcomes) < MUTATIONS:
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(len(outcomes)), str(MUTATIONS)]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
            try:
                out, err = worker.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                worker.kill()
                out, err = worker.communicate()
        assert worker.returncode <= 0, err
        outcomes += [line.split()[1] for line in out.splitlines()]
        if worker.returncode < 0:
            outcomes.append("lost")
            lost += 1
            assert lost < 5
    assert all(outcomes.count(kind) > 5 for kind in ("unreadable", "network")), outcomes


def entries_of(tree: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all entries, groups too."""
    found = []
    for key, value in tree.items():
        found.append((*path, key))
        found += entries_of(value, (*path, key)) if isinstance(value, dict) else []
    return found


def as_read(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree as :func:`read_foreign` returns it: arrays, texts, dicts."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return as_read(value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "S":
            return value[0].decode()
        return value if isinstance(value, str) else np.asarray(value)

    return {key: plain(value) for key, value in tree.items()}


WRONG: tuple[Any, ...] = (
    "dense",
    "average",
    "pool",
    "conv",
    "",
    {},
    {"type": "dense"},
    ["a", "b"],
    np.array(-1),
    np.array(0),
    np.array(3),
    np.array(True),
    np.array([1 << 20, 1 << 20]),
    np.array([1 << 12, 1 << 12, 1 << 12]),
    np.array(np.nan),
    np.array([np.inf, 2.0]),
    np.array(1e300),
    np.array((1 << 64) - 1, np.uint64),
    np.zeros((0, 3)),
    np.zeros((2, 8)),
    np.ones((3, 3, 3)),
    np.full((2, 8), 7),
    np.ones((1, 1, 2, 2)),
    np.ones((2, 2, 2, 2, 2, 2)),
)


@pytest.mark.parametrize("seed", range(4))
def test_fuzz_of_entries(seed: int) -> None:
    """Entries replaced, left out, exchanged: only clear refusals, whatever stands where."""
    draw = np.random.default_rng(seed)
    refused = 0
    for _ in range(250):
        tree = as_read({"layer": layers(), "simulation": {"Ts": 1, "tSample": 5}})
        for _ in range(int(draw.integers(1, 4))):
            paths = entries_of(tree)
            *way, key = paths[int(draw.integers(len(paths)))]
            group = tree
            for part in way:
                group = group[part]
            kind = int(draw.integers(4))
            if kind == 0:
                del group[key]
            elif kind == 1 and isinstance(group[key], np.ndarray) and group[key].dtype.kind != "b":
                group[key] = group[key] * int(draw.choice([-3, 0, 5, 1 << 20]))
            else:
                group[key] = WRONG[int(draw.integers(len(WRONG)))]
        for read in (from_tree, sigma_delta_from_tree):
            try:
                read(tree)
            except ValueError as error:
                refused += bool(str(error))
    assert refused > 100


def from_tree(tree: dict[str, Any]) -> None:
    sample_steps(tree)
    network_of(layers_of(tree), 5, None, None)


def sigma_delta_from_tree(tree: dict[str, Any]) -> None:
    for layer in tree.get("layer", {}).values() if isinstance(tree.get("layer"), dict) else ():
        if isinstance(layer, dict) and isinstance(layer.get("neuron"), dict):
            layer["neuron"]["type"] = "SDNN"
    chain_of(layers_of(tree), 6)


@pytest.mark.parametrize("seed", [0, 4, 8])
def test_damage_through_the_front_door(seed: int, intact: Path, damaged: Any, tmp_path: Path) -> None:
    path = tmp_path / "damaged.net"
    path.write_bytes(damaged(intact.read_bytes(), seed, first=SIGNATURE))
    with pytest.raises(FileFormatError, match="damaged or not a plain HDF5 file") as caught:
        from_netx(path, 5)
    assert str(path) in str(caught.value)


def forge(path: Path, kind: str) -> None:
    with h5py.File(path, "r+") as file:
        dense = file["layer/3"]
        if kind == "huge":
            del dense["weight"]
            dense.create_dataset("weight", shape=(1 << 20, 1 << 20), dtype="f4", chunks=(64, 64))
        elif kind == "bomb":
            del dense["weight"]
            dense.create_dataset("weight", data=np.zeros((4096, 4096), np.int8), compression="gzip", chunks=(4096, 4096))
        elif kind == "external link":
            dense["bias"] = h5py.ExternalLink("/etc/hostname", "/x")
        elif kind == "soft link":
            dense["bias"] = h5py.SoftLink("/layer/1/bias")
        elif kind == "circle":
            dense["loop"] = file["layer"]
        elif kind == "twice":
            dense["bias"] = file["layer/1/bias"]
        elif kind == "external data":
            (path.parent / "raw").write_bytes(bytes(64))
            dense.create_dataset("bias", (2,), "f8", external=[("raw", 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((2,), "f8")
            layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "x", (2,))
            dense.create_virtual_dataset("bias", layout)
        elif kind == "compound":
            dense["bias"] = np.zeros(2, [("a", "f4"), ("b", "i4")])
        elif kind == "reference":
            dense["bias"] = np.array([file["layer"].ref], h5py.ref_dtype)
        elif kind == "empty":
            dense["bias"] = h5py.Empty("f4")
        elif kind == "deep":
            group = dense
            for _ in range(30):
                group = group.create_group("g")
        elif kind == "texts":
            dense["bias"] = np.array([b"x"] * 5000, "S1")
        elif kind == "crowd":
            for i in range(1200):
                file.create_group(f"layer/{i + 5}")


FORGED = {
    "huge": "claims 4398046511104 bytes, more than the file can hold",
    "bomb": "claims 16777216 bytes, more than the file can hold",
    "external link": "is a link; only plain content",
    "soft link": "is a link; only plain content",
    "circle": "is linked twice",
    "twice": "is linked twice",
    "external data": "lies in another file",
    "virtual": "lies in another file",
    "compound": "has the type",
    "reference": "has the type",
    "empty": "empty of values and shape",
    "deep": "nested deeper than",
    "texts": "holds 5000 texts",
    "crowd": "at most 1000",
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_files(kind: str, intact: Path) -> None:
    forge(intact, kind)
    with pytest.raises(FileFormatError, match=FORGED[kind]) as caught:
        from_netx(intact)
    assert str(intact) in str(caught.value)


def test_shapes_that_would_need_endless_memory(tmp_path: Path, write_netx: Any) -> None:
    """A few bytes of file that ask for many layers' worth of neurons and weights."""
    big = layers()
    big["0"]["shape"] = [1 << 20, 1 << 20, 4]
    wide = layers()
    wide["0"] |= {"shape": [1, 3000, 3000]}
    wide["1"] = {"type": np.array([b"pool"], "S10"), "weight": np.ones((1, 1, 1, 1)), "neuron": layers()["1"]["neuron"]}
    wide["3"] = {"type": np.array([b"average"], "S10"), "shape": [30000]}
    del wide["4"]
    padded = layers()
    padded["1"] |= {"padding": [1 << 30, 1 << 30], "shape": [2, 2, 2]}
    for i, (case, text) in enumerate(((big, "more than 16777216"), (wide, "more than 134217728 weights"), (padded, "padding"))):
        path = write_netx(tmp_path / f"{i}.net", *case.values())
        with pytest.raises(LimitError, match=text):
            from_netx(path, 5)


def test_compressed_arrays_are_read(intact: Path) -> None:
    with h5py.File(intact, "r+") as file:
        del file["layer/3/weight"]
        file["layer/3"].create_dataset("weight", data=2 * np.ones((2, 8)), compression="gzip")
    assert from_netx(intact).to_dict()["connections"][1]["weight"].tolist() == [[2] * 8] * 2


def test_a_file_on_which_the_library_hangs_or_dies(intact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for it: the reading process sleeps, is killed, or cannot even start."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in {
        "hanging_reader": "import time; time.sleep(60)",
        "dying_reader": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "failing_reader": "import no_such_module",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setattr(foreign_hdf5, "_READER", "hanging_reader")
    begin = time.monotonic()
    with pytest.raises(FileFormatError, match=r"did not finish within 0\.5 s"):
        read_foreign(intact, time_limit=0.5)
    assert time.monotonic() - begin < 30
    monkeypatch.setattr(foreign_hdf5, "_READER", "dying_reader")
    with pytest.raises(FileFormatError, match=r"the HDF5 library died on it \(SIGSEGV\)"):
        read_foreign(intact)
    monkeypatch.setattr(foreign_hdf5, "_READER", "failing_reader")
    with pytest.raises(OSError, match="no_such_module"):
        read_foreign(intact)


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    (tmp_path / "text.net").write_text("hello")
    for path, text in (
        (tmp_path / "text.net", "not an HDF5 file"),
        (tmp_path, "not a file"),
        (tmp_path / "no", "does not exist"),
    ):
        with pytest.raises(FileFormatError, match=text):
            from_netx(path, 5)
