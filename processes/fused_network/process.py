"""FusedNetwork: a whole FixedNetwork in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, flag, instance_of, known_name
from lava_snnlearn.fixed_point.graph import FixedNetwork, check_network
from lava_snnlearn.fixed_point.running import neuron_count, place, prepare
from lava_snnlearn.lava_backend.schedule import scheduled
from lava_snnlearn.processes.parameters import NEVER, ranged, single_var
from lava_snnlearn.processes.recorder.process import SharedRecord

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

_NAME = "FusedNetwork"


class FusedRecords:
    """Shared memory for what a process sends, n_out numbers a step, and for messages and membranes of n_also neurons more."""

    def __init__(self, steps: int, n_out: int, n_also: int) -> None:
        self._answer, self._also = n_out, n_out + n_also
        self._rows = SharedRecord(steps, (n_out + 2 * n_also,))

    def keep(self, row: list[NDArray], dtype: type[np.generic]) -> None:
        """Write a step, as long as there is room: the answer, then messages of all others, then their membranes."""
        self._rows.keep(np.concatenate(row), dtype)

    def answers(self) -> NDArray:
        """The answers: [steps, n_out]."""
        return self._rows.read()[:, : self._answer]

    def sent(self, part: slice) -> NDArray:
        """Messages of some of the others: [steps, n]."""
        return self._rows.read()[:, self._answer : self._also][:, part]

    def membranes(self, part: slice) -> NDArray:
        """Membranes of some of the others: [steps, n]."""
        return self._rows.read()[:, self._also :][:, part]


class FusedNetwork(AbstractProcess):
    """All populations and connections of a :class:`~lava_snnlearn.fixed_point.graph.FixedNetwork` as one Lava process.

    For applications that need a trained network beside other processes. In every step it is equal, bit by bit, to the graph of
    one process a population and a connection (``run_lava``), and takes a fraction of its time: most of that is messages.

    Samples come one after the other, ``reset_interval`` steps each; step ``tau`` of a sample, from 0, is the number of the step
    modulo ``reset_interval``. Membranes are reset as each sample starts. Population p is active in the steps ``t_start <= tau <
    t_start + network.steps`` and idle in the others. Stock LIFs and relays, which on Lava cannot pause, are never idle, unless
    the network is ``one_by_one``. With ``endless=True`` the first sample never ends: populations that have started go on, for
    streams.

    Input. Of the forms "spikes" and "graded", ``s_in`` in step t is what the input sends in step t; it arrives over connections
    in step t + 1 (+ delay), and the process sends before it receives, so that it may close a loop. Of the form "current",
    ``s_in`` is what the target populations, in the order of ``network.host.targets``, hear in this very step, and the process
    receives before it sends. :meth:`rows` makes all rows of a run from data.

    Output. ``s_out`` is what the population ``network.output`` sends: spikes 0 and 1, of graded neurons payloads, of an
    accumulator its membrane in 1/64 weight units. ``also_out`` is the same of the populations ``also``, one behind the other;
    see :meth:`part`.

    A run of one process. With ``data`` the process feeds itself with these samples, and ``s_in`` stays unconnected; with
    ``record`` it keeps what it sends, to be read as ``answers``, and of the populations ``also`` what they send and their
    membranes, see :meth:`sent_by` and :meth:`membranes_of`. These records are shared memory and cost no messages, where a
    Recorder costs those of a process more, and a RefPort a management phase of all processes. Others may listen all the same.

    The ``fixed_pt`` model computes in the chip's integers, by the emulator's arithmetic. The ``floating_pt`` model computes the
    same in real numbers (weights times 2**exponent, no rounding, no clipping), in the same units.

    Ports: InPort ``s_in`` [n_in], OutPorts ``s_out`` [n_out] and ``also_out`` [neurons of ``also``; 1, always 0, if there are
    none]; int32 in the fixed model, float in the floating-point model. Vars: ``v``, the membranes of all populations in the
    order of ``network.populations``, in 1/64 weight units, of relays their sums (see :meth:`place`); ``reset_interval`` (1,).

    Parameters
    ----------
    network: the network.
    also: names of populations to send, and record, as well.
    reset_interval: steps from the start of a sample to that of the next; None means ``network.period``, the least.
    endless: one sample without end; then there is no ``reset_interval``.
    data: samples, as in ``emulate``; behind the last one the input is silent. None: the input is what ``s_in`` receives, which
        the model refuses beside data (ValueError).
    record: of how many steps, from the first one, records are kept.

    Raises
    ------
    TypeError: no FixedNetwork; names that are no sequence; a reset_interval or record that is no integer.
    ValueError: an unknown population or one named twice; a reset_interval below the period, or beside endless; a record below
        0; data that ``network.encode`` refuses, or several samples beside endless.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        network: FixedNetwork,
        also: Sequence[str] = (),
        reset_interval: int | None = None,
        endless: bool = False,
        data: ArrayLike | None = None,
        record: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        check_network(f"{_NAME}: network", network)
        self._also = _populations(network, also)
        flag(f"{_NAME}: endless", endless)
        interval = _interval(network, reset_interval, endless)
        rows = None if data is None else _rows(network, data, interval)
        answer = (network.population(network.output).size,)
        also_size = sum(network.population(other).size for other in self._also)
        kept = at_least(0, f"{_NAME}: record", record)
        self._records = FusedRecords(kept, answer[0], also_size) if kept else None
        prepare()
        super().__init__(
            network=network,
            also=self._also,
            endless=endless,
            data=rows,
            records=self._records,
            name=name,
            log_config=log_config,
        )
        self.s_in = InPort(shape=(network.host.size,))
        self.s_out = OutPort(shape=answer)
        self.also_out = OutPort(shape=(also_size or 1,))
        initial = [np.broadcast_to(p.v_init, (p.size,)) for p in network.populations]
        self.v = Var(shape=(neuron_count(network),), init=np.concatenate(initial).astype(np.int64))
        self.reset_interval = single_var(interval)

    @property
    def network(self) -> FixedNetwork:
        """The network that runs here."""
        network: FixedNetwork = self.proc_params["network"]
        return network

    def place(self, population: str) -> slice:
        """Where the membranes of this population stand in the Var ``v``."""
        return place(self.network, population)

    def part(self, population: str) -> slice:
        """Where this population, one of ``also``, stands in ``also_out``."""
        names = list(self._also)
        before = names[: names.index(known_name("population of also_out", population, names))]
        first = sum(self.network.population(name).size for name in before)
        return slice(first, first + self.network.population(population).size)

    def rows(self, x: ArrayLike) -> NDArray[np.int32]:
        """What ``s_in`` has to receive for data x (as in ``emulate``): [samples * reset_interval, n_in], a row a step.

        For example ``SampleSource(data=fused.rows(x)).s_out.connect(fused.s_in)``. An endless process takes one sample.

        Raises:
            ValueError: several samples for an endless process; and as ``network.encode`` does.
        """
        return _rows(self.network, x, int(self.reset_interval.init[0]))

    @property
    def answers(self) -> NDArray:
        """What ``s_out`` sent in the first ``record`` steps, as far as they have run: [steps, n_out], int32 (``fixed_pt``) or
        float64 (``floating_pt``); no rows where nothing is recorded."""
        # No exception: Lava reads all attributes of a process while it is made.
        if self._records is None:
            return np.zeros((0, self.network.population(self.network.output).size), np.int32)
        return self._records.answers()

    def sent_by(self, population: str) -> NDArray:
        """What this population, one of ``also``, sent in the recorded steps: [steps, n], as :attr:`answers`."""
        part = self.part(population)
        return np.zeros((0, part.stop - part.start), np.int32) if self._records is None else self._records.sent(part)

    def membranes_of(self, population: str) -> NDArray:
        """Its membranes after each recorded step, as in ``v``: [steps, n], as :attr:`answers`."""
        part = self.part(population)
        return np.zeros((0, part.stop - part.start), np.int32) if self._records is None else self._records.membranes(part)

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.fused_network import case

        return case()


def _rows(network: FixedNetwork, x: ArrayLike, interval: int) -> NDArray[np.int32]:
    signal = network.encode(x)
    if interval == NEVER:
        if signal.shape[1] != 1:
            raise ValueError(f"{_NAME}: data are {signal.shape[1]} samples, and an endless process runs one; leave endless out")
        interval = network.period
    if network.host.form != "current":
        return scheduled(signal, interval).astype(np.int32)
    parts = [
        scheduled(signal[:, :, network.current_part(name)], interval, network.population(name).t_start)
        for name in network.host.targets
    ]
    return np.concatenate(parts, axis=1).astype(np.int32)


def _populations(network: FixedNetwork, also: Sequence[str]) -> tuple[str, ...]:
    instance_of(f"{_NAME}: also", also, (tuple, list), "it must be a tuple of population names, e.g. ('hidden',)")
    names = [population.name for population in network.populations]
    for population in also:
        known_name(f"{_NAME}: population in also", population, names)
    if len(set(also)) != len(also):
        raise ValueError(f"{_NAME}: also is {tuple(also)}; name each population once")
    return tuple(also)


def _interval(network: FixedNetwork, reset_interval: int | None, endless: bool) -> int:
    if endless:
        if reset_interval is not None:
            raise ValueError(f"{_NAME}: reset_interval is {reset_interval}, but an endless process never starts a new sample")
        return NEVER
    if reset_interval is None:
        return network.period
    remedy = f"A sample of this network takes {network.period} steps."
    return ranged(_NAME, "reset_interval", reset_interval, network.period, NEVER - 1, remedy)
