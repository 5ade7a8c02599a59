"""Readers of all kinds of files, fed with damage, with sound files of senseless content, and with what would run as code.

Those of netx and NIR are fuzzed in tests/interchange; links, claims of memory and foreign HDF5 in tests/fixed_point and there.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lava_snnlearn.checkpoints import read_weights, save_weights
from lava_snnlearn.commands.samples import samples_for
from lava_snnlearn.deployment.scripts import compare
from lava_snnlearn.deployment.scripts.compare import arrays
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.interchange import from_netx, from_nir
from lava_snnlearn.networks import mlp
from lava_snnlearn.on_chip.local import LocalState
from lava_snnlearn.on_chip.spide import OnChipState

WORKERS = Path(__file__).parent / "workers"
KINDS = ["network", "reasoner", "weights", "local", "spide", "checkpoint"]
NUMBER = 60


def read_samples(path: Path) -> object:
    return samples_for(path, None, None, path, None)  # type: ignore[arg-type]  # of an --npy the network is not asked


READERS: dict[str, Callable[[Path], object]] = {
    "network": FixedNetwork.load,
    "reasoner": FixedReasoner.load,
    "weights": lambda path: read_weights(path, mlp([4, 5, 3])),
    "local": LocalState.load,
    "spide": OnChipState.load,
    "netx": lambda path: from_netx(path, 5),
    "nir": from_nir,
    "npy": read_samples,
    "results": arrays,
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [sys.executable, str(WORKERS / "fuzz.py"), str(tmp_path_factory.mktemp("fuzz")), str(NUMBER), *KINDS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"died with {done.returncode} after {done.stdout[-300:]}: {done.stderr[-3000:]}"
    return {found["kind"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_and_senseless_content(fuzzed: dict[str, Any], kind: str) -> None:
    """All damage is refused; senseless content is refused, or does no harm."""
    assert fuzzed[kind]["wrong"] == []
    outcomes = fuzzed[kind]["outcomes"]
    assert outcomes["damage refused"] == NUMBER
    assert outcomes["change refused"] > NUMBER // 2
    assert outcomes["change read"] > 0


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("form", ["pickle", "torch", "npy", "npz"])
def test_nothing_is_executed(tmp_path: Path, kind: str, form: str) -> None:
    path, marker = tmp_path / "file", tmp_path / "ran"
    content = Runs(marker)
    with path.open("wb") as opened:
        if form == "pickle":
            pickle.dump(content, opened)
        elif form == "torch":
            torch.save({"weight": content}, opened)
        elif form == "npy":
            np.save(opened, np.array([content], object), allow_pickle=True)
        else:
            np.savez(opened, x=np.array([content], object))
    with pytest.raises(ValueError, match=str(path)):
        READERS[kind](path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(content))
    assert marker.exists(), "the file would have done nothing anyway"


def npy(shape: str, kind: str = "<f8") -> bytes:
    """An array with this text as its shape, and 64 bytes of values."""
    header = f"{{'descr':'{kind}','fortran_order':False,'shape':{shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


FORGED = {
    "32 TiB": npy("(1099511627776,4)"),
    "a product beyond 64 bits": npy("(4294967296,4294967296,4)"),
    "no end": npy("[" * 9000),
    "deep": npy("(" * 3000 + ")" * 3000),
    "texts as shape": npy("('a','b')"),
    "fractions as shape": npy("(1e3,2)"),
    "texts": npy("(2,2)", "<U4"),
    "objects": npy("(2,4)", "|O"),
    "no type": npy("(2,4)", "<q99"),
    "cut off": npy("(4,4)"),
    "another version": npy("(2,4)").replace(b"\x01\x00", b"\x09\x00", 1),
    "empty": b"",
    "text": b"hello",
    "an archive without an end": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_arrays(tmp_path: Path, case: str) -> None:
    """As the user's samples, and within results that come back from a chip."""
    path, archive = tmp_path / "samples.npy", tmp_path / "results.npz"
    path.write_bytes(FORGED[case])
    with pytest.raises(ValueError, match=str(path)):
        read_samples(path)
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("spikes/out.npy", FORGED[case])
    with pytest.raises(ValueError, match=str(archive)):
        arrays(archive)


def test_an_archive_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.npz"
    np.savez_compressed(path, x=np.zeros(1 << 17))
    assert path.stat().st_size < 1 << 12
    arrays(path)
    monkeypatch.setattr(compare, "MOST", 1 << 20)
    with pytest.raises(ValueError, match="bytes, more than 1048576"):
        arrays(path)


@pytest.mark.parametrize("reader", [read_samples, arrays])
def test_damaged_arrays(tmp_path: Path, damaged: Any, reader: Callable[[Path], object]) -> None:
    path = tmp_path / "file"
    with path.open("wb") as opened:
        if reader is arrays:
            np.savez_compressed(opened, x=np.arange(300), y=np.ones((3, 4)))
        else:
            np.save(opened, np.arange(300).reshape(30, 10))
    reader(path)
    whole, refused, fine = path.read_bytes(), 0, 0
    for seed in range(400):
        path.write_bytes(damaged(whole, seed))
        try:
            reader(path)
        except ValueError as error:
            refused += str(path) in str(error)
        else:
            fine += 1
    assert refused > 50
    assert refused + fine == 400


def test_no_file_is_mistaken_for_one_of_another_kind(tmp_path: Path) -> None:
    """A file of one kind, given to the readers of all others."""
    path = tmp_path / "net.h5"
    save_weights(path, mlp([4, 5, 3]))
    for kind, read in READERS.items():
        if kind in ("weights", "npy", "results"):
            continue
        with pytest.raises(FileFormatError):
            read(path)
