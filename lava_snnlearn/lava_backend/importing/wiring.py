"""Which OutPort of a Lava process graph feeds which InPort, through virtual ports and the ports of containers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from lava.magma.core.process.ports.ports import AbstractVirtualPort, ConcatPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from numpy.typing import NDArray


class LavaImportError(ValueError):
    """A Lava process graph, or a process of it, that cannot be imported. The message names it and says what can be."""


class Feed(NamedTuple):
    """What an InPort hears from one process: at flat index k, what that process sends at the flat index ``place[k]``."""

    process: AbstractProcess
    place: NDArray[np.int64]


def full_name(process: AbstractProcess) -> str:
    """The process's name after those of the containers that it is part of, with dots between them."""
    # Lava tells a process that was made in a container's __init__ of its container as it tells ports and Vars.
    container = process.parent_proc or getattr(process, "process", None)
    return process.name if container is None else f"{full_name(container)}.{process.name}"


def described(process: AbstractProcess) -> str:
    """The process in a message."""
    return f"process {full_name(process)!r} ({type(process).__name__})"


def feeds(port: Any) -> list[Feed]:
    """All that arrives at an InPort of a process without parts; Lava adds it up.

    Raises:
        LavaImportError: virtual ports that Lava itself does not carry out.
    """
    found = [Feed(origin.process, index.reshape(-1)) for origin, index in _arriving(port, port)]
    senders = [feed.process.id for feed in found]
    if len(set(senders)) != len(senders):
        raise LavaImportError(f"{_named(port)} is connected more than once with one process; Lava keeps only one of these ways")
    return found


def check_fed(process: AbstractProcess, port: Any) -> None:
    """Raise LavaImportError if nothing at all arrives at this InPort; the message names where the way to it begins."""
    if feeds(port):
        return
    while port.in_connections:
        [port, *_] = port.in_connections
    raise LavaImportError(
        f"nothing feeds {_named(port)}, so that {described(process)} would never do anything; connect a source with it, e.g. a "
        "RingBuffer"
    )


def _arriving(port: Any, end: Any) -> list[tuple[OutPort, NDArray[np.int64]]]:
    """Origins of what arrives at ``port`` on its way to ``end``, with the origin's flat index at every place of the port."""
    if not port.in_connections:
        return [(port, np.arange(port.size).reshape(port.shape))] if isinstance(port, OutPort) else []
    if isinstance(port, ConcatPort):
        raise LavaImportError(f"{_named(end)} is fed by a concatenation of ports, which Lava does not simulate")
    found = [arrival for before in port.in_connections for arrival in _arriving(before, end)]
    turned = any((index.reshape(-1) != np.arange(index.size)).any() for _, index in found)
    if port is not end and len(port.in_connections) > 1 and turned:
        raise LavaImportError(
            f"{_named(end)} is fed through a port of a container that several transposed ports lead to; Lava mixes up their "
            "transpositions. Connect them with the inner process one by one"
        )
    if isinstance(port, AbstractVirtualPort):
        transform = port.get_transform_func_fwd()
        found = [(origin, transform(index)) for origin, index in found]
    return found


def _named(port: Any) -> str:
    return f"port {port.name!r} of process {full_name(port.process)!r}"
