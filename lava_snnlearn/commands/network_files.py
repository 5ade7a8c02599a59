"""The files that commands take as networks: those of this library, and by their endings those of lava-dl and NIR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.graph import FixedNetwork

FORMATS = ("netx", "nir")
"""Formats of other tools."""
TAKEN = "A network: a file of this library (network.h5), of lava-dl (.net) or of NIR (.nir)."
TAKEN_OR_REASONER = f"{TAKEN[:-1]}; or a graph reasoner (reasoner.h5)."
"""Help of the argument."""
_ENDINGS = {".net": "netx", ".nir": "nir"}


def format_of(file: Path) -> str | None:
    """The format of another tool that the ending says; None: a file of this library."""
    return _ENDINGS.get(file.suffix.lower())


def is_reasoner(file: Path) -> bool:
    """Whether the file holds a graph reasoner.

    Raises:
        FileFormatError: no valid file of this library, and no ending of another tool.
    """
    from lava_snnlearn.files import content_of

    return format_of(file) is None and content_of(file) == "FixedReasoner"


def read_network(file: Path, *, steps: int | None = None, input_shape: tuple[int, int, int] | None = None) -> FixedNetwork:
    """The network of a file, of this library or of another tool.

    Raises:
        FileFormatError: no valid file. ValueError: steps or input_shape for a file that says them itself; steps that nobody
        says; a network that is no FixedNetwork.
    """
    kind = format_of(file)
    if kind is not None:
        return read_foreign_network(file, kind, steps=steps, input_shape=input_shape)
    from lava_snnlearn.fixed_point.graph import FixedNetwork

    if steps is not None:
        raise ValueError(f"--steps is for files of other tools; {file} says its own")
    _refuse_shape(input_shape)
    return FixedNetwork.load(file)


def read_foreign_network(
    file: Path,
    kind: str,
    *,
    steps: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    timing: str | None = None,
    reset: str | None = None,
) -> FixedNetwork:
    """The network of a file of another tool, ``kind`` of FORMATS; arguments as those of ``from_netx`` and ``fixed_from_nir``.

    Raises:
        FileFormatError: no valid file. ValueError: options of the other format; what these functions refuse.
    """
    from lava_snnlearn import interchange
    from lava_snnlearn.interchange.foreign_hdf5 import NotSaidError

    try:
        if kind == "netx":
            if reset is not None:
                raise ValueError("--reset is for NIR; netx's neurons reset to zero")
            return interchange.from_netx(file, steps, timing=timing, input_shape=input_shape)
        if timing is not None:
            raise ValueError("--timing is for netx; leave it out")
        _refuse_shape(input_shape)
        return interchange.fixed_from_nir(file, steps=steps, reset=reset)
    except NotSaidError:
        raise ValueError(
            f"{file} does not say the steps of a sample; check and import take --steps, e.g. lava-snnlearn import {file} "
            "-o network.h5 --steps N"
        ) from None


def image_size(text: str | None) -> tuple[int, int, int] | None:
    """The value of --input-shape.

    Raises:
        ValueError: not three sizes.
    """
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ValueError(f"--input-shape is {text!r}; give C,H,W, e.g. 1,28,28")
    channels, height, width = map(int, parts)
    return channels, height, width


def _refuse_shape(shape: tuple[int, int, int] | None) -> None:
    if shape is not None:
        raise ValueError("--input-shape is for netx files; leave it out")
