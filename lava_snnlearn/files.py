"""Files that lose nothing and hide nothing: nested dicts of numbers and arrays in HDF5, written atomically, read without pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

VERSION = 1
_MARK = "lava_snnlearn"
_MAX_DEPTH = 16


class FileFormatError(ValueError):
    """A file that is missing, truncated, foreign or not valid. The message names the file and what is wrong with it."""


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path`` in one step, on failure it vanishes.

    Raises:
        OSError: the folder cannot be written; the message says which.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise OSError(f"cannot write {target}: {error}. Choose a folder that exists and is writable.") from error
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes files that only their owner may read; results are shared like any other file.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tree(path: str | PathLike[str], tree: Mapping[str, Any], content: str) -> None:
    """Write a nested dict of dicts, lists, numbers, strings, None and numeric arrays as HDF5; ``content`` names its kind."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = _MARK
        file.attrs["content"] = content
        file.attrs["version"] = VERSION
        _write(file.create_group("content"), tree)


def _write(group: h5py.Group, tree: Mapping[str, Any] | list[Any]) -> None:
    is_list = isinstance(tree, list)
    group.attrs["container"] = "list" if is_list else "dict"
    group.attrs["length"] = len(tree)
    items = enumerate(tree) if isinstance(tree, list) else tree.items()
    for key, value in items:
        name = str(key)
        if not is_list and (not isinstance(key, str) or not name or "/" in name or name == "."):
            raise ValueError(f"cannot store the key {key!r}: keys must be strings without '/'")
        if isinstance(value, (Mapping, list, tuple)):
            _write(group.create_group(name), list(value) if isinstance(value, tuple) else value)
        elif isinstance(value, np.ndarray):
            if value.dtype.kind not in "iufb":
                raise TypeError(f"cannot store {name!r}: dtype {value.dtype} is not numeric")
            group.create_dataset(name, data=value)
        else:
            plain = value.item() if isinstance(value, np.generic) else value
            # A scalar is kept as JSON text, so that None, bool, int and float come back as what they were.
            group.create_group(name).attrs["scalar"] = json.dumps(plain)


def read_tree(path: str | PathLike[str], content: str) -> dict[str, Any]:
    """Read what :func:`write_tree` wrote; only plain values come back, nothing is executed.

    Raises:
        FileFormatError: see there.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"{source} does not exist or is not a file")
    try:
        with h5py.File(source, "r") as file:
            if file.attrs.get("format") != _MARK:
                raise FileFormatError(f"{source} is an HDF5 file, but not one of lava_snnlearn")
            if file.attrs.get("content") != content:
                raise FileFormatError(f"{source} holds {file.attrs.get('content')!r}, expected {content!r}")
            if file.attrs.get("version") != VERSION:
                raise FileFormatError(f"{source} has version {file.attrs.get('version')}; this library reads version {VERSION}")
            tree = _read(file["content"], source.stat().st_size, 0)
    except FileFormatError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{source} is truncated, damaged or not an HDF5 file: {error}") from error
    if not isinstance(tree, dict):
        raise FileFormatError(f"{source}: the content is not a dict")
    return tree


def _read(group: h5py.Group, budget: int, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise FileFormatError(f"{group.name}: nested deeper than {_MAX_DEPTH} levels")
    if "scalar" in group.attrs:
        return json.loads(group.attrs["scalar"])
    values: dict[str, Any] = {}
    for name in group:
        # Soft and external links could lead out of the file or in circles.
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise FileFormatError(f"{group.name}/{name} is a link; only plain content is read")
        item = group[name]
        values[name] = _read_array(item, budget) if isinstance(item, h5py.Dataset) else _read(item, budget, depth + 1)
    length = int(group.attrs["length"])
    if length != len(values):
        raise FileFormatError(f"{group.name} has {len(values)} entries, expected {length}")
    if group.attrs["container"] == "list":
        return [values[str(index)] for index in range(length)]
    return values


def _read_array(item: h5py.Dataset, budget: int) -> np.ndarray:
    if item.dtype.kind not in "iufb" or item.is_virtual or item.external is not None or item.compression is not None:
        raise FileFormatError(f"{item.name} is not a plain numeric array")
    # Uncompressed arrays cannot be larger than their file: a forged shape would exhaust the memory.
    if item.nbytes > budget:
        raise FileFormatError(f"{item.name} claims {item.nbytes} bytes, more than the file has")
    return np.asarray(item[()])
