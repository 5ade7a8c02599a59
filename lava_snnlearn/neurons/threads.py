"""Compiled kernels in several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any


def in_threads(kernel: Callable[..., Any], edges: Sequence[int], *arguments: Any) -> None:
    """Call ``kernel(edges[i], edges[i + 1], *arguments)`` for every part i, each in a thread; the first part in this one.

    The kernel releases the GIL, and parts share nothing that they write. The threads end with the call, so that none is left
    when Lava forks.

    Raises what a part raises.
    """
    parts = list(pairwise(edges))
    if len(parts) == 1:
        kernel(*parts[0], *arguments)
        return
    with ThreadPoolExecutor(len(parts) - 1) as pool:
        others = [pool.submit(kernel, *part, *arguments) for part in parts[1:]]
        kernel(*parts[0], *arguments)
        for other in others:
            other.result()
