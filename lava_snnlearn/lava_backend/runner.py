"""The guarded runner: a run on Lava's simulator either ends well or with one Python exception, and leaves nothing behind.

Lava itself hangs without a word when a model raises or dies while another one waits for it, when processes wait for each other,
and when ``stop()`` is forgotten. Here the parent watches its children while it waits. Uses private attributes of lava-nc 0.10.0
(archived, pinned), all in this module and in guard.py.
"""

from __future__ import annotations

import atexit
import multiprocessing.connection
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import RunConfig
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime
from threadpoolctl import threadpool_limits

from lava_snnlearn.lava_backend.children import ProgressBoard, run_child
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.guard import Guard, GuardedPort, LavaRunError
from lava_snnlearn.lava_backend.housekeeping import network_of, remove_log_handlers, unregister

TIME_LIMIT = 60.0
_EXIT_LIMIT = 5.0  # seconds for children to leave after they acknowledged the stop


def run_guarded(process: AbstractProcess, steps: int, run_cfg: RunConfig | None = None, time_limit: float = TIME_LIMIT) -> None:
    """Run the network of ``process`` for ``steps`` steps, then stop it. See :func:`guarded`.

    To see results connect a :class:`~lava_snnlearn.processes.recorder.process.Recorder`; Vars cannot be read after the stop.
    """
    _check_steps(steps)
    with guarded(process, run_cfg, time_limit) as network:
        network.run(steps)


@contextmanager
def guarded(process: AbstractProcess, run_cfg: RunConfig | None = None, time_limit: float = TIME_LIMIT) -> Iterator[GuardedRun]:
    """Start the network of ``process``; stop it at the end of the ``with`` block, or kill it if anything went wrong.

    ::

        with guarded(neuron, run_config("fixed_pt"), time_limit=20) as network:
            network.run(100)
            weights = dense.weights.get()   # Var.get and Var.set are guarded, too
            network.run(100)                # goes on where the first run ended

    After the block, left in whatever way, there are no child processes, no shared memory, no handlers of these processes at the
    root logger. Ctrl-C kills the children and is raised again. ``process.stop()`` ends the network early, and is harmless
    afterwards; Lava's other commands (``process.run``, ``wait``, ``pause``) would wait unguarded and raise LavaRunError.

    Parameters
    ----------
    process: any process of the network.
    run_cfg: None means ``run_config("fixed_pt")``.
    time_limit: seconds that may pass without any process finishing a phase of a step (not the time of the whole run).

    Raises
    ------
    ValueError: time_limit <= 0.
    LavaRunError: a model raised (in ``__init__``, ``run_spk``, ``run_post_mgmt``, ...; the message holds its traceback), died
        or was killed, asked to pause or stop, or nothing moved for ``time_limit`` (the message names the processes that had not
        finished); or a process of the network has been compiled before.
    Lava's own errors while the network is compiled (NoProcessModelFound, ...) pass unchanged.
    """
    if not time_limit > 0:
        raise ValueError(f"time_limit is {time_limit}; give the seconds without progress until a run is killed, more than 0")
    processes = network_of(process)
    _check_fresh(processes)
    remove_log_handlers(processes[1:])  # one remains for the run, so that what a model logs appears once
    try:
        network = GuardedRun(process, run_config("fixed_pt") if run_cfg is None else run_cfg, time_limit)
        known = {member.id for member in processes}
        remove_log_handlers(member for member in network.members if member.id not in known)  # parts that the compiler made
        try:
            network.start()
            yield network
            network.stop()
        finally:
            network.release()
            unregister([*processes, *network.members])
    finally:
        remove_log_handlers(processes[:1])


class GuardedRun:
    """A running network; made by :func:`guarded`."""

    def __init__(self, process: AbstractProcess, run_cfg: RunConfig, time_limit: float) -> None:
        self._executable = process.compile(run_cfg)
        self.members: list[AbstractProcess] = list(self._executable.proc_builders)
        services = list(self._executable.runtime_service_builders.values())
        self._builders: dict[Any, str] = {
            builder: f"{member.name} ({type(member).__name__}, model {builder.proc_model.__name__})"
            for member, builder in self._executable.proc_builders.items()
        }
        self._builders.update({builder: f"runtime service {builder.rs_class.__name__}" for builder in services})
        self._board = ProgressBoard(len(self._builders))
        self._guard = Guard(self._board, time_limit)
        self._runtime = Runtime(self._executable, ActorType.MultiProcessing, loglevel=process._log_config.level)
        self._executable.assign_runtime_to_all_processes(self._runtime)
        self._running = False

    def run(self, steps: int) -> None:
        """Run ``steps`` more steps (at least 1, else ValueError). Raises LavaRunError as :func:`guarded` says."""
        steps = _check_steps(steps)
        self._check_running()
        self._guard.doing = f"running {steps} steps"
        self._runtime._run(RunSteps(steps, blocking=False))
        for port in self._runtime.service_to_runtime:
            self._expect(port, MGMT_RESPONSE.DONE)
        self._runtime._is_running = False
        self._guard.doing = "reading or setting Vars between runs"

    def start(self) -> None:
        """Fork the children and wait until every model is built: Lava's ``Runtime.initialize``, guarded."""
        runtime = self._runtime
        atexit.register(self.release)  # multiprocessing would wait for the children of a block that was never left
        runtime._build_watchdog_manager()
        runtime._build_message_infrastructure()
        runtime._build_channels()
        runtime._build_sync_channels()
        infrastructure = runtime._messaging_infrastructure
        infrastructure.build_actor = partial(self._fork, infrastructure.build_actor)
        self._guard.actors = infrastructure.actors
        with threadpool_limits(limits=1):  # the children inherit it: one process a model is parallel enough
            runtime._build_processes()
            runtime._build_runtime_services()
        runtime._start_ports()
        for built in runtime.exception_q:
            self._guard.wait(partial(built.get, True))
        runtime.exception_q = []
        runtime.runtime_to_service = [GuardedPort(port, self._guard) for port in runtime.runtime_to_service]
        runtime.service_to_runtime = [GuardedPort(port, self._guard) for port in runtime.service_to_runtime]
        runtime._is_initialized = runtime._is_started = self._running = True
        self._replace_commands()

    def stop(self) -> None:
        """Let the children end by themselves, then release everything. Once the network has been stopped, does nothing."""
        if not self._running:
            return
        try:
            self._stop_children()
        finally:
            self.release()

    def _stop_children(self) -> None:
        self._guard.doing, self._guard.stopping = "stopping", True
        for port in self._runtime.runtime_to_service:
            port.send(MGMT_COMMAND.STOP)
        for port in self._runtime.service_to_runtime:
            self._expect(port, MGMT_RESPONSE.TERMINATED)
        for actor in self._guard.actors:
            multiprocessing.connection.wait([actor.sentinel], timeout=_EXIT_LIMIT)

    def release(self) -> None:
        """End what still lives and give everything back. The runtime remains as a shell: reading Vars from it is an error."""
        self._running = False
        atexit.unregister(self.release)
        runtime = self._runtime
        for actor in self._guard.actors:
            if actor.is_alive():
                actor.kill()
        for actor in self._guard.actors:
            actor.join()
        for port in [*runtime._open_ports, *_take_external_ports(self.members)]:
            port.join()
        runtime._open_ports.clear()
        runtime._is_running = runtime._is_started = False
        infrastructure = runtime._messaging_infrastructure
        if infrastructure is not None:
            infrastructure.actors.clear()
            infrastructure.smm.shutdown()
        if runtime._watchdog_manager is not None:
            runtime._watchdog_manager.stop()

    def _replace_commands(self) -> None:
        """Processes reach Lava's runtime by process.stop(), run(), wait() and pause(): give them the guarded way or an error.

        Lava's own wait unguarded, on an observer that a GuardedPort never calls, or unmap memory that is still written to,
        which crashes. Only after the fork: a child that collects its copy of a process calls stop().
        """
        runtime = self._runtime
        runtime.stop = self.stop
        runtime.start = runtime.wait = runtime.pause = runtime.join = self._refuse

    def _refuse(self, *_: Any) -> None:
        self._check_running()
        raise LavaRunError(
            "Lava's own process.run(), wait() and pause() do not work on a guarded network: they could wait for ever. "
            "Use network.run(steps) of `with guarded(...) as network`: it returns when the steps are done, and may be repeated."
        )

    def _check_running(self) -> None:
        if not self._running:
            raise LavaRunError("This network has been stopped. Build fresh processes and start a new run.")

    def _fork(self, build_actor: Any, _target: Any, builder: Any, exception_q: Any) -> Any:
        """Stands in for Lava's build_actor: the same fork, but of our own child body."""
        row = len(self._guard.names)
        self._guard.names.append(self._builders[builder])
        server = self._runtime._messaging_infrastructure.smm._manager._process.pid
        return build_actor(partial(run_child, self._board, row, server), builder, exception_q)

    def _expect(self, port: Any, wanted: Any) -> None:
        response = port.recv()
        if enum_equal(response, MGMT_RESPONSE.ERROR):
            raise self._guard.failure("A model told the runtime that it failed, and left nothing else.")
        if not enum_equal(response, wanted):
            raise LavaRunError(
                f"A model asked the runtime to pause or stop (response {response}). A guarded run always runs all its steps: "
                "remove the request from the model."
            )


def _check_steps(steps: int) -> int:
    count = operator.index(steps)
    if count < 1:
        raise ValueError(f"steps is {steps}, and has to be at least 1. Give the number of time steps to run.")
    return count


def _check_fresh(processes: Sequence[AbstractProcess]) -> None:
    used = [process.name for process in processes if process.is_compiled]
    if used:
        raise LavaRunError(
            f"Lava can compile a process only once, and these have been compiled before: {', '.join(used)}. "
            "Build fresh processes for every run (or run several times inside of one `with guarded(...)`)."
        )


def _take_external_ports(processes: Sequence[AbstractProcess]) -> list[Any]:
    """The parent's ends of Injectors' and Extractors' channels, each with a thread that Lava never ends.

    They are taken from their processes: a later send or receive would touch unmapped memory and crash the interpreter; without
    its end it raises Lava's AssertionError.
    """
    ports = [port for process in processes for port in (*process.in_ports.members, *process.out_ports.members)]
    names = ("external_pipe_csp_send_port", "external_pipe_csp_recv_port")
    return [vars(port).pop(name) for port in ports for name in names if name in vars(port)]
