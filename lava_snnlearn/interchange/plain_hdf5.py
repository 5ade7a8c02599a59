"""What foreign HDF5 files hold, as plain values: run as a process of its own by
:mod:`~lava_snnlearn.interchange.foreign_hdf5`.

``python -m lava_snnlearn.interchange.plain_hdf5 FILE COPY EXPANSION`` reads FILE, whose arrays may have up to EXPANSION times
its size, and writes COPY, a sealed file of this library. Exit status 0, or 3 with a line on stderr that says what is wrong
with FILE.
"""

from __future__ import annotations

import sys
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lava_snnlearn.files import FileFormatError, PlainContent, write_tree

CONTENT = "plain HDF5"
LARGEST = 1 << 30
"""Bytes that all arrays of a file may have together."""
EXPANSION = 64
"""Largest ratio of these bytes to the file's; more is a forged shape, or a decompression bomb."""
REFUSED = 3
_MAX_DEPTH = 12
_MAX_ITEMS = 100_000
_MAX_TEXTS = 1024


def plain_tree(path: str | PathLike[str], expansion: int = EXPANSION) -> dict[str, Any]:
    """Groups as dicts, numeric arrays (also those of no dimension) as numpy arrays, texts as str (of one element) or lists.

    Attributes are left out.

    Raises:
        FileFormatError: links (soft, external, or twice to the same place), external or virtual arrays, other types, shapes
        that claim more than the file can hold, deep nesting. Errors of the HDF5 library pass unchanged.
    """
    size = Path(path).stat().st_size
    with h5py.File(path, "r") as file:
        return _Reader(min(LARGEST, expansion * size)).group(file, 0)


class _Reader(PlainContent):
    def group(self, group: h5py.Group, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise FileFormatError(f"{group.name} is nested deeper than {_MAX_DEPTH} levels")
        self._count(group)
        values: dict[str, Any] = {}
        for name, item in self.members(group):
            if isinstance(item, h5py.Dataset):
                values[name] = self._dataset(item)
            elif isinstance(item, h5py.Group):
                values[name] = self.group(item, depth + 1)
            else:
                raise FileFormatError(f"{group.name}/{name} is neither a group nor an array")
        return values

    def _count(self, item: h5py.Group | h5py.Dataset) -> None:
        if self.once(item) > _MAX_ITEMS:
            raise FileFormatError(f"the file has more than {_MAX_ITEMS} entries")

    def _dataset(self, item: h5py.Dataset) -> Any:
        self._count(item)
        if item.is_virtual or item.external is not None:
            raise FileFormatError(f"{item.name} lies in another file; only plain content is read")
        self.claim(item)
        if h5py.check_string_dtype(item.dtype) is not None:
            return self._text(item)
        if item.dtype.kind not in "iufb" or item.dtype.itemsize > 8:
            raise FileFormatError(f"{item.name} has the type {item.dtype}; expected numbers or text")
        # Of the machine's byte order, also the one value of an array of no dimension.
        return np.array(item[()], dtype=item.dtype.newbyteorder("="))

    def _text(self, item: h5py.Dataset) -> str | list[str]:
        if item.size > _MAX_TEXTS:
            raise FileFormatError(f"{item.name} holds {item.size} texts, more than {_MAX_TEXTS}")
        texts = [str(text) for text in np.ravel(item.asstr("utf-8", "replace")[()])]
        return texts[0] if len(texts) == 1 else texts


def _limit_memory(size: int, expansion: int) -> None:
    """Let a forged file fail here instead of exhausting the machine; not every system can."""
    try:
        import resource
    except ImportError:
        return
    limit = (2 << 30) + 4 * min(LARGEST, expansion * size)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _main(source: str, copy: str, expansion: str) -> int:
    _limit_memory(Path(source).stat().st_size, int(expansion))
    try:
        write_tree(copy, plain_tree(source, int(expansion)), content=CONTENT)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
