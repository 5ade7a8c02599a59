"""Files that lose nothing and hide nothing: nested dicts of numbers and arrays in HDF5, written atomically, no pickle.

The first 512 bytes are HDF5's user block, which other HDF5 readers skip. It holds one line, ``lava_snnlearn sha256 <hex>``: the
digest of all that follows. So a damaged file is refused before the HDF5 library sees it, which can hang or crash on damage, and
a flipped bit in a weight cannot pass for a weight. The digest is no signature: whoever forges a file can forge it, too.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

Built = TypeVar("Built")

VERSION = 1
_MARK = "lava_snnlearn"
_MAX_DEPTH = 16
_MAX_TEXT = 60_000
_SEAL_SIZE = 512
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEVICE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


class FileFormatError(ValueError):
    """A file that is missing, truncated, foreign or not valid. The message names the file and what is wrong with it."""


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path`` in one step, on failure it vanishes.

    Raises:
        OSError: the folder cannot be written, or the disk is full or broken; the message names the file.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder. Give the name of a file.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise OSError(f"cannot write {target}: {error}. Choose a folder that exists and is writable.") from error
    temporary = Path(name)
    os.close(handle)
    try:
        with naming_the_disk(target):
            # mkstemp makes files that only their owner may read; results are shared like any other file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_the_disk(target: Path) -> Iterator[None]:
    """Let errors of the disk (full, over quota, broken, read-only), which name no file or a temporary one, name ``target``."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in _DEVICE_ERRORS:
            raise
        remedy = "What was there before is unchanged. Free some space, or choose another folder."
        raise OSError(error.errno, f"cannot write {target}: {os.strerror(error.errno)}. {remedy}") from error


def hdf5_image(fill: Callable[[h5py.File], None], user_block: int = 0) -> memoryview:
    """The bytes of a new HDF5 file that ``fill`` fills, with so many bytes of zeros before them.

    Made in memory: the HDF5 library takes the interpreter down with it where a disk is full while it closes a file.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=user_block) as file:
        fill(file)
    return buffer.getbuffer()


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tree(path: str | PathLike[str], tree: Mapping[str, Any], content: str) -> None:
    """Write a nested dict of dicts, lists, numbers, strings, None and numeric arrays as HDF5; ``content`` names its kind.

    Raises:
        OSError: the folder cannot be written. TypeError, ValueError: an entry that a file cannot hold; the message names it.
    """

    def fill(file: h5py.File) -> None:
        file.attrs["format"] = _MARK
        file.attrs["content"] = content
        file.attrs["version"] = VERSION
        _write(file.create_group("content"), tree, 0)

    with replacing(path) as temporary:
        image = hdf5_image(fill, _SEAL_SIZE)
        image[:_SEAL_SIZE] = _seal(hashlib.sha256(image[_SEAL_SIZE:]))
        temporary.write_bytes(image)


def _seal(digest: Any) -> bytes:
    return f"{_MARK} sha256 {digest.hexdigest()}\n".encode().ljust(_SEAL_SIZE, b"\0")


def _write(group: h5py.Group, tree: Mapping[str, Any] | list[Any], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"cannot store {group.name!r}: nested deeper than {_MAX_DEPTH} levels")
    is_list = isinstance(tree, list)
    group.attrs["container"] = "list" if is_list else "dict"
    group.attrs["length"] = len(tree)
    items = enumerate(tree) if isinstance(tree, list) else tree.items()
    for key, value in items:
        name = str(key)
        if not is_list and (not isinstance(key, str) or not name or "/" in name or name == "."):
            raise ValueError(f"cannot store the key {key!r}: keys must be strings without '/'")
        if isinstance(value, (Mapping, list, tuple)):
            _write(group.create_group(name), list(value) if isinstance(value, tuple) else value, depth + 1)
        elif isinstance(value, np.ndarray):
            if value.dtype.kind not in "iufb":
                raise TypeError(f"cannot store {name!r}: dtype {value.dtype} is not numeric")
            group.create_dataset(name, data=value)
        else:
            group.create_group(name).attrs["scalar"] = _scalar(name, value)


def _scalar(name: str, value: Any) -> str:
    """A scalar as JSON text, so that None, bool, int and float come back as what they were."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is not None and not isinstance(plain, (bool, int, float, str)):
        raise TypeError(
            f"cannot store {name!r}: {type(value).__name__} is neither None, a number, a string, a list nor an array"
        )
    text = json.dumps(plain)
    if len(text) > _MAX_TEXT:
        raise ValueError(
            f"cannot store {name!r}: {len(text)} characters as JSON, at most {_MAX_TEXT}. Store long texts in pieces."
        )
    return text


def read_tree(path: str | PathLike[str], content: str) -> dict[str, Any]:
    """Read what :func:`write_tree` wrote; only plain values come back, nothing is executed.

    Raises:
        FileFormatError: see there.
    """
    with _opened(path) as file:
        if file.attrs.get("content") != content:
            raise FileFormatError(f"{path} holds {file.attrs.get('content')!r}, expected {content!r}")
        if file.attrs.get("version") != VERSION:
            raise FileFormatError(f"{path} has version {file.attrs.get('version')}; this library reads version {VERSION}")
        tree = _Reader(Path(path).stat().st_size).group(file["content"], 0)
    if not isinstance(tree, dict):
        raise FileFormatError(f"{path}: the content is not a dict")
    return tree


def read_object(path: str | PathLike[str], content: str, build: Callable[[dict[str, Any]], Built]) -> Built:
    """What ``build`` makes of the tree of :func:`read_tree`.

    Raises:
        FileFormatError: as there, or for a tree that ``build`` refuses.
    """
    tree = read_tree(path, content=content)
    try:
        return build(tree)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path} does not hold a valid {content}: {error}") from error


def content_of(path: str | PathLike[str]) -> str:
    """The kind of content that :func:`write_tree` was told, e.g. "FixedNetwork".

    Raises:
        FileFormatError: see there.
    """
    with _opened(path) as file:
        return str(file.attrs.get("content"))


@contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[h5py.File]:
    """A file of this library, whose errors are FileFormatErrors."""
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"{source} does not exist or is not a file")
    try:
        _check_seal(source)
        with h5py.File(source, "r") as file:
            if file.attrs.get("format") != _MARK:
                raise FileFormatError(f"{source} is an HDF5 file, but not one of lava_snnlearn")
            yield file
    except FileFormatError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
        raise FileFormatError(f"{source} is truncated, damaged or not an HDF5 file: {error}") from error


def is_own(path: Path) -> bool:
    """Whether a file begins as those of this library do."""
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK.encode()


def _check_seal(source: Path) -> None:
    with source.open("rb") as file:
        first = file.read(_SEAL_SIZE)
    if first.startswith(_HDF5_SIGNATURE):
        raise FileFormatError(f"{source} is an HDF5 file, but not one of lava_snnlearn")
    if not first.startswith(_MARK.encode()):
        raise FileFormatError(f"{source} is not a file of lava_snnlearn, or its beginning is damaged")
    if first != _seal(_digest(source)):
        raise FileFormatError(f"{source} is truncated or damaged: its checksum does not fit its content. Take a backup copy.")


def _digest(path: Path) -> Any:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_SEAL_SIZE)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest


class PlainContent:
    """What the readers of HDF5 share: everything lies in the file itself and is there once, and arrays stay within a budget.

    Args:
        budget: bytes that all arrays together may have.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._seen: set[int] = set()

    def members(self, group: h5py.Group) -> Iterator[tuple[str, Any]]:
        """Names and items of a group.

        Raises:
            FileFormatError: soft and external links, which could lead out of the file.
        """
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise FileFormatError(f"{group.name}/{name} is a link; only plain content is read")
            yield name, group[name]

    def once(self, item: h5py.Group | h5py.Dataset) -> int:
        """How many items were met, with this one.

        Raises:
            FileFormatError: it was met before; hard links could lead in circles, or to the same array a million times.
        """
        address = h5py.h5o.get_info(item.id).addr
        if address in self._seen:
            raise FileFormatError(f"{item.name} is linked twice; only plain content is read")
        self._seen.add(address)
        return len(self._seen)

    def claim(self, item: h5py.Dataset) -> None:
        """Take an array's bytes from the budget; a forged shape would exhaust the memory.

        Raises:
            FileFormatError: it has no shape, or the budget is too small.
        """
        if item.shape is None:
            raise FileFormatError(f"{item.name} is empty of values and shape")
        if item.nbytes > self._budget:
            raise FileFormatError(f"{item.name} claims {item.nbytes} bytes, more than the file can hold")
        self._budget -= item.nbytes


class _Reader(PlainContent):
    """Reads a tree. Arrays, stored plainly, cannot have more bytes than their file."""

    def group(self, group: Any, depth: int) -> Any:
        if not isinstance(group, h5py.Group):
            raise FileFormatError("the content is not a group")
        if depth > _MAX_DEPTH + 1:
            raise FileFormatError(f"{group.name}: nested deeper than {_MAX_DEPTH} levels")
        self.once(group)
        if "scalar" in group.attrs:
            return json.loads(group.attrs["scalar"])
        values: dict[str, Any] = {}
        for name, item in self.members(group):
            values[name] = self._array(item) if isinstance(item, h5py.Dataset) else self.group(item, depth + 1)
        length = int(group.attrs["length"])
        if length != len(values):
            raise FileFormatError(f"{group.name} has {len(values)} entries, expected {length}")
        if group.attrs["container"] == "list":
            return [values[str(index)] for index in range(length)]
        return values

    def _array(self, item: h5py.Dataset) -> np.ndarray:
        self.once(item)
        filters = item.id.get_create_plist().get_nfilters()
        if item.dtype.kind not in "iufb" or item.is_virtual or item.external is not None or filters:
            raise FileFormatError(f"{item.name} is not a plain numeric array")
        self.claim(item)
        # h5py gives the one value of a 0-d array in the machine's byte order.
        return np.asarray(item[()], dtype=item.dtype)
