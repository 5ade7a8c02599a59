"""Experimental: Lava on Python 3.11 and newer.

lava-nc 0.10.0, the last release, asks for Python 3.10. Newer Pythons refuse one of its modules: since 3.11 the default of a
dataclass's field must be hashable, and three encoders of ``lava.magma.compiler.var_model`` are not. Nothing else is known to
fail, but nobody but this library's tests has ever tried.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EXPERIMENTAL_LAVA = "LAVA_SNNLEARN_EXPERIMENTAL_LAVA"
"""Environment variable; any value but "" and "0" lets Lava be imported on newer Pythons by :func:`hashable_encoders`."""
_MODULE = "lava.magma.compiler.var_model"


def experimental() -> bool:
    """Whether the user asked for Lava on a Python that it does not support."""
    return os.environ.get(EXPERIMENTAL_LAVA, "") not in ("", "0")


@contextmanager
def hashable_encoders() -> Iterator[None]:
    """While Lava is imported in this block, the encoders of its compiler are made hashable (by their fields).

    Only dataclasses of that one module whose names end in "Encoder" are touched; ``dataclasses.dataclass`` itself is put back
    afterwards. Where the module was imported before, nothing happens.
    """
    if _MODULE in sys.modules:
        yield
        return
    original = dataclasses.dataclass

    def patched(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(decorated: type) -> Any:
            encoder = decorated.__module__ == _MODULE and decorated.__name__.endswith("Encoder")
            return original(decorated, **(options | {"unsafe_hash": True} if encoder else options))

        return decorate if cls is None else decorate(cls)

    replaced: Callable[..., Any] = patched
    dataclasses.dataclass = replaced
    try:
        yield
    finally:
        dataclasses.dataclass = original
