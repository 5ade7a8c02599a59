"""Compilation by numba: told to the user once, kept on disk, safe when several processes compile at the same time."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from numba import njit
from numba.core import event as numba_event

ERROR_MODEL: Literal["numpy"] = "numpy"
"""A division gives inf or NaN. Numba's other model branches to an exception, which keeps loops from becoming vector code."""

inlined: Any = partial(njit, nogil=True, error_model=ERROR_MODEL)
"""Decorator of functions that only compiled functions call."""


class compiled:  # noqa: N801 (a decorator)
    """Decorator of functions that Python calls: compiled at the first call with new types of arguments, without the GIL.

    The machine code is kept in numba's cache (NUMBA_CACHE_DIR, beside the source, or in the user's cache folder); where no such
    folder can be written, each process compiles for itself.
    """

    def __init__(self, function: Callable[..., Any], *, nogil: bool = True) -> None:
        self.function = function
        try:
            self._dispatcher = inlined(cache=True, nogil=nogil)(function)
            _drop_stale(self._dispatcher.stats.cache_path, function)
        except RuntimeError:  # numba found no folder for its cache
            self._dispatcher = inlined(nogil=nogil)(function)
        self._ready: set[tuple[Any, ...]] = set()

    def __call__(self, *arguments: Any) -> Any:
        types = tuple(getattr(value, "dtype", type(value)) for value in arguments)
        if types in self._ready:
            return self._dispatcher(*arguments)
        with _alone(self._dispatcher.stats.cache_path):
            result = self._dispatcher(*arguments)
        self._ready.add(types)
        return result


holding: Any = partial(compiled, nogil=False)
"""Decorator as :class:`compiled`, of functions that take microseconds and run among many threads, as in Lava's child processes:
they keep the GIL, for whoever gives it away there has to wait for it. Not for a function that is ``compiled`` as well: numba's
cache would take one for the other."""


def _drop_stale(folder: str, function: Callable[..., Any]) -> None:
    """Delete cached code older than a source that it was made of: numba only looks at the file of the function itself."""
    newest = max(Path(source).stat().st_mtime for source in _sources(function, set()))
    stem = Path(function.__code__.co_filename).stem
    for index in Path(folder).glob(f"{stem}.{function.__qualname__}-*.nbi"):
        if index.stat().st_mtime < newest:
            index.unlink(missing_ok=True)


def _sources(function: Callable[..., Any], known: set[Callable[..., Any]]) -> set[str]:
    """Files of a function and of the inlined ones that it calls, by name or as ``module.name``."""
    known.add(function)
    found = {function.__code__.co_filename}
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    spaces = [vars(value) for value in named if isinstance(value, ModuleType)]
    named += [space.get(name) for space in spaces for name in function.__code__.co_names]
    for value in named:
        inner = getattr(value, "py_func", None)
        if inner is not None and inner not in known:
            found |= _sources(inner, known)
    return found


@contextmanager
def _alone(folder: str | None) -> Iterator[None]:
    """Hold off other processes that compile into this cache: numba's index of it is not made for two writers at once."""
    lock = None
    if folder is not None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock = (Path(folder) / "lava_snnlearn.lock").open("w")
        except OSError:
            pass  # a cache that can only be read needs no lock
    if lock is None:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Notice(numba_event.Listener):
    """One line to the user before this process compiles for the first time; what comes from the cache makes no event."""

    def __init__(self) -> None:
        self.given = False

    def on_start(self, event: numba_event.Event) -> None:
        module = event.data["dispatcher"].py_func.__module__ or ""  # None for functions made by exec
        if not self.given and module.startswith("lava_snnlearn."):
            self.given = True
            print(
                "lava_snnlearn: compiling neuron kernels for this machine, once (some seconds) ...", file=sys.stderr, flush=True
            )

    def on_end(self, event: numba_event.Event) -> None:
        """Nothing more to say."""


numba_event.register("numba:compile", _Notice())
