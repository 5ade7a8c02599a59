"""A full disk, Ctrl-C and a kill, each in the middle of writing: what was there stays, nothing half-made takes its place.

The HDF5 library crashes where a disk is full while it closes a file, so that nothing here may let it write to the disk.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lava_snnlearn.files import naming_the_disk, read_tree, replacing, write_tree

WORKERS = Path(__file__).parent / "workers"
KINDS = ["network", "reasoner", "weights", "local", "spide", "netx", "nir", "checkpoint", "report", "bundle"]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By kind of file, what came of each attempt to write it."""
    command = [sys.executable, str(WORKERS / "full_disk.py"), str(tmp_path_factory.mktemp("disk"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def chosen(attempts: dict[str, list[dict[str, Any]]], kind: str, how: str) -> list[dict[str, Any]]:
    found = [attempt for attempt in attempts[kind] if attempt["how"] == how]
    assert len(found) >= 3
    assert all(not attempt["lost"] for attempt in found)
    return found


def test_all_kinds_are_tried(attempts: dict[str, list[dict[str, Any]]]) -> None:
    assert list(attempts) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(attempts: dict[str, list[dict[str, Any]]], kind: str) -> None:
    for attempt in chosen(attempts, kind, "fail"):
        assert (attempt["status"], attempt["outcome"], attempt["left"]) == (0, "OSError", []), attempt
        text = f"cannot write {attempt['path']}"
        assert text in attempt["message"]
        assert "File too large. What was there before is unchanged. Free some space" in attempt["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_in_the_middle_of_a_write(attempts: dict[str, list[dict[str, Any]]], kind: str) -> None:
    for attempt in chosen(attempts, kind, "interrupt"):
        assert (attempt["status"], attempt["outcome"], attempt["left"]) == (0, "KeyboardInterrupt", []), attempt


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_in_the_middle_of_a_write(attempts: dict[str, list[dict[str, Any]]], kind: str) -> None:
    """What is left has a hidden name, which no reader looks at."""
    for attempt in chosen(attempts, kind, "kill"):
        assert attempt["status"] == -signal.SIGXFSZ, attempt
        assert attempt["left"]
        assert all(any(part.startswith(".") for part in Path(file).parts) for file in attempt["left"])


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace", "write"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_errors_of_other_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    """Some file systems notice only then that they are full."""
    path = tmp_path / "file.h5"
    write_tree(path, {"old": 1}, "tree")

    def broken(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", broken)
    else:
        monkeypatch.setattr(Path, "write_bytes" if call == "write" else call, broken)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        write_tree(path, {"new": 2}, "tree")
    monkeypatch.undo()
    assert caught.value.errno == code
    assert str(path) in str(caught.value)
    assert read_tree(path, "tree") == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.h5"]


def test_errors_that_are_not_the_disks_pass_unchanged(tmp_path: Path) -> None:
    for error in (OSError("of another kind"), FileNotFoundError(errno.ENOENT, "a missing input"), OSError(errno.EPIPE, "pipe")):
        with pytest.raises(OSError) as caught, replacing(tmp_path / "file"):
            raise error
        assert caught.value is error
    with pytest.raises(OSError, match=f"cannot write {tmp_path}: No space left on device"), naming_the_disk(tmp_path):
        raise OSError(errno.ENOSPC, "text that names a temporary file")
