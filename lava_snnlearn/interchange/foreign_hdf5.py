"""Foreign HDF5 files (netx, NIR) read in a process of their own.

The HDF5 library can crash, hang or ask for endless memory on damaged files, and those of others carry no checksum. So another
process, with limits on time and memory, makes a sealed copy of what the file holds as plain values, and that is read here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from lava_snnlearn.files import FileFormatError, is_own, read_tree
from lava_snnlearn.interchange.plain_hdf5 import CONTENT, EXPANSION, REFUSED

TIME_LIMIT = 30.0
_READER = "lava_snnlearn.interchange.plain_hdf5"
_START = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class NotSaidError(ValueError):
    """Neither the file nor the caller say the steps of a sample."""


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Let errors of what a file or graph holds begin with its name; they keep their types."""
    try:
        yield
    except ValueError as error:
        raise type(error)(f"{where}: {error}") from error


def read_foreign(path: str | PathLike[str], time_limit: float = TIME_LIMIT, expansion: int = EXPANSION) -> dict[str, Any]:
    """The content of an HDF5 file: groups as dicts, arrays of numbers as numpy arrays, texts as str or lists of str.

    Args:
        path: the file. Compressed arrays are read as well; attributes are left out.
        time_limit: seconds after which the file counts as damaged.
        expansion: bytes that all arrays together may have, as a multiple of the file's size.

    Raises:
        FileFormatError: the file is missing, no HDF5 file, truncated or damaged; it holds links, arrays in other files, other
        types than numbers and text, or shapes beyond ``expansion`` times the file's size or 1 GiB.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"{source} does not exist or is not a file")
    with source.open("rb") as file:
        first = file.read(len(_SIGNATURE))
    if first != _SIGNATURE:
        if is_own(source):
            raise FileFormatError(
                f"{source} is a file of lava_snnlearn, not of netx or NIR: FixedNetwork.load reads it, and so do the commands "
                "if its name does not end in .net or .nir"
            )
        raise FileFormatError(f"{source} is not an HDF5 file of netx or NIR, or its beginning is damaged")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "plain.h5"
        _convert(source, copy, time_limit, expansion)
        return read_tree(copy, content=CONTENT)


def _convert(source: Path, copy: Path, time_limit: float, expansion: int) -> None:
    arguments = json.dumps(_search_path()), _READER, str(source.absolute()), str(copy), str(expansion)
    command = [sys.executable, "-I", "-c", _START, *arguments]
    # No threads, which would reserve memory.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, cwd=copy.parent, capture_output=True, text=True, errors="replace", timeout=time_limit
        )
    except subprocess.TimeoutExpired as error:
        raise FileFormatError(f"{source} is damaged: the HDF5 library did not finish within {time_limit:g} s") from error
    if done.returncode == REFUSED:
        raise FileFormatError(f"{source} is damaged or not a plain HDF5 file: {done.stderr.strip()}")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise FileFormatError(f"{source} is damaged: the HDF5 library died on it ({name})")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(f"{source} could not be read: the reading process ended with status {done.returncode}: {last}")


def _search_path() -> list[str]:
    """The packages of this process, behind Python's own: a script's folder may hold files with names of Python's modules."""
    own = sysconfig.get_paths()["stdlib"]
    search = [part or os.getcwd() for part in sys.path]
    return sorted(search, key=lambda part: not (part.startswith(own) and "-packages" not in part))
