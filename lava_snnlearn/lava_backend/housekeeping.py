"""What Lava leaves behind in the interpreter, and its removal."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lava.magma.compiler.compiler_graphs import find_processes
from lava.magma.core.process.process import AbstractProcess, ProcessServer
from lava.magma.core.process.variable import VarServer


def network_of(process: AbstractProcess) -> list[AbstractProcess]:
    """All processes that run together with ``process``: connected to it or part of one that is. In order of creation."""
    found: dict[int, AbstractProcess] = {}
    waiting = list(find_processes(process))
    while waiting:
        member = waiting.pop()
        if member.id not in found:
            found[member.id] = member
            waiting.extend(member.procs.members)
    return [found[key] for key in sorted(found)]


def remove_log_handlers(processes: Iterable[AbstractProcess]) -> None:
    """Remove the handlers that these processes added to the root logger.

    Every Lava process adds one when it is built, so that a logged line appears once for each process that ever was. The
    handlers carry no mark of their process: for each process the latest one with the process's format and level is removed.
    """
    root = logging.getLogger()
    for process in processes:
        config = process._log_config
        for handler in reversed(root.handlers):
            form = handler.formatter._fmt if handler.formatter else None
            if type(handler) is logging.StreamHandler and form == config.format and handler.level == config.level_console:
                root.removeHandler(handler)
                break


def unregister(processes: Iterable[AbstractProcess]) -> None:
    """Take processes and their Vars off Lava's global lists, which would keep them and their data for good."""
    gone = {process.id for process in processes}
    process_server, var_server = ProcessServer(), VarServer()
    process_server.processes[:] = [process for process in process_server.processes if process.id not in gone]
    var_server.vars[:] = [var for var in var_server.vars if var.process is None or var.process.id not in gone]
