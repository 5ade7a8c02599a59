"""Stream: a FixedNetwork that runs without end, fed piece by piece, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, known_name, whole_number
from lava_snnlearn.fixed_point.engine.batch import SUMS
from lava_snnlearn.fixed_point.engine.program import program_of
from lava_snnlearn.fixed_point.engine.run import Block, Records, Signal, empty_records
from lava_snnlearn.fixed_point.engine.signal import input_dtype
from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork, check_network

_WINDOW = 64


class Stream:
    """A network between two pieces of its input; what comes out does not depend on where the input is cut.

    Time is that of the chip: row t holds what was sent in step t, and a population is silent before its ``t_start``. So, for an
    input of L steps in all, the rows from ``lag`` on are the first L - lag rows of what ``emulate`` finds in a network of so
    many steps; feed ``lag`` steps of silence at the end to see the rest (where layers keep step; in other graphs early
    populations go on and may be heard). ``network.steps`` is not used, and there is no reset but :meth:`reset`.

    Args:
        network: the network.
        batch: B, samples side by side, each with a state of its own.
        record: names of populations whose spikes are kept of the last piece.

    Attributes:
        step: chip steps since the start.
        lag: chip step in which the output population begins.
        spikes: of the recorded populations in the last piece: uint8 (of relays int32) [T, B, n].

    Raises:
        TypeError: no FixedNetwork, a batch that is no whole number, one string to record. ValueError: a batch below 1, an
            accumulator to record.
        UnknownNameError: an unknown population.
    """

    def __init__(self, network: FixedNetwork, batch: int = 1, *, record: Iterable[str] = ()) -> None:
        check_network("Stream", network)
        self.network = network
        self.batch = at_least(1, "batch", whole_number("batch", batch))
        if isinstance(record, str):
            raise TypeError(f"record is {record!r}; it must be names of populations, e.g. ({record!r},)")
        self._record = tuple(record)
        for name in self._record:
            known_name("population to record", name, [p.name for p in network.populations if p.spiking])
        self._output = network.population(network.output)
        self.lag = self._output.t_start
        widest = max(population.size for population in network.populations)
        self._window = max(1, min(_WINDOW, SUMS // (widest * self.batch)))
        self._program = program_of(network)
        # Steps back in time that the input is still heard: by connections, and as a current of populations that start later.
        late = [network.population(name).t_start for name in network.host.targets]
        self._heard = max([self._program.history.get(INPUT, 0), *late])
        self.reset()

    def reset(self) -> None:
        """Back to the start: states, and all that is under way."""
        self.step = 0
        self.spikes: dict[str, NDArray[Any]] = {}
        self._block = Block(self._program, self.batch, self._window)
        shape = self._heard + self._window, self.batch, self.network.host.size
        self._input = np.zeros(shape, input_dtype(self.network))

    @property
    def outputs(self) -> NDArray[np.int64]:
        """What the network answers so far: spike counts, or the last membranes or states of the output; [B, n]."""
        return self._block.result().copy()

    @property
    def saturated(self) -> dict[str, int]:
        """Per population, how many neuron-steps were clipped to 24 bits so far."""
        return dict(self._block.saturated)

    def run(self, chunk: ArrayLike) -> NDArray[Any]:
        """Go on by the steps of ``chunk``.

        Args:
            chunk: [T, B, n], T at least 1: floats or integers as for :func:`~lava_snnlearn.fixed_point.emulator.emulate`.

        Returns:
            What the output population sent, uint8 (of relays int32) [T, B, n]; of accumulators their membranes, int32.

        Raises:
            ValueError, LimitError, TypeError: input that does not fit. The state is that of before.
        """
        x = np.asarray(chunk)
        if x.ndim != 3 or x.shape[1] != self.batch or not len(x):
            raise ValueError(
                f"a piece of a stream of {self.batch} sample(s) has the shape [T, {self.batch}, n], T at least 1, got {x.shape}"
            )
        values = self.network.host.integers(x, len(x))
        records = self._records(len(values))
        for first in range(0, len(values), self._window):
            self._run_window(values[first : first + self._window], records)
        sent = records.spikes if self._output.spiking else records.membranes
        self.spikes = {name: records.spikes[name] for name in self._record}
        return sent[self._output.name]

    def _records(self, steps: int) -> Records:
        names = {*self._record, self._output.name}
        nodes = [population for population in self.network.populations if population.name in names]
        silent = [population for population in nodes if not population.spiking]
        return Records(*empty_records(nodes, silent, steps, self.batch), origin=self.step)

    def _run_window(self, values: NDArray[Any], records: Records) -> None:
        before, steps = self._heard, len(values)
        self._input[before : before + steps] = values
        signal = Signal(self._input, self.step - before, 0, self.network.host.form == "spikes")
        self._block.run(signal, self.step, self.step + steps, records)
        self._input[:before] = self._input[steps : steps + before].copy()
        self.step += steps
