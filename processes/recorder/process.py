"""Recorder: spikes (or currents) and membranes of a run, read as whole arrays."""

from __future__ import annotations

import math
import mmap
import operator
from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

_KINDS: tuple[type[np.generic], ...] = (np.int32, np.float64)


class SharedRecord:
    """Rows that a model in a child process writes and the parent reads: anonymous shared memory, gone with its last user.

    ``steps`` rows of shape ``shape``, int32 or float64; the writer says which with its first row. Memory that is not written is
    not used either.
    """

    _HEADER = 2  # int64: rows written, index of the dtype in _KINDS

    def __init__(self, steps: int, shape: tuple[int, ...]) -> None:
        self.steps = steps
        self.shape = shape
        self._memory = mmap.mmap(-1, 8 * (self._HEADER + steps * math.prod(shape)))
        self._state = np.frombuffer(self._memory, dtype=np.int64, count=self._HEADER)

    def _rows(self, dtype: type[np.generic]) -> NDArray:
        count = self.steps * math.prod(self.shape)
        rows = np.frombuffer(self._memory, dtype=dtype, count=count, offset=8 * self._HEADER)
        return rows.reshape(self.steps, *self.shape)

    def append(self, row: NDArray, dtype: type[np.generic]) -> None:
        """Write the next row as ``dtype``, np.int32 or np.float64.

        Raises IndexError if all rows are written, and TypeError if the row holds floats and ``dtype`` is int32.
        """
        written = int(self._state[0])
        if written >= self.steps:
            raise IndexError(f"Recorder holds {self.steps} steps, and the run is longer. Build it with a larger steps=.")
        if row.dtype.kind == "f" and dtype is np.int32:
            raise TypeError(
                f"Recorder's fixed_pt model received {row.dtype}, and would have to cut fractions. "
                "Record integers, or select the tag floating_pt."
            )
        self._rows(dtype)[written] = row
        self._state[:] = written + 1, _KINDS.index(dtype)

    def keep(self, row: NDArray, dtype: type[np.generic]) -> None:
        """As :meth:`append`, as long as there is room."""
        if self._state[0] < self.steps:
            self.append(row, dtype)

    def read(self) -> NDArray:
        """Copy of the rows written so far: [rows, *shape], int32 or float64."""
        written, kind = (int(value) for value in self._state)
        return self._rows(_KINDS[kind])[:written].copy()


class Recorder(AbstractProcess):
    """Records in every step what arrives at ``s_in`` and, if ``v_ref`` is connected, the Var behind it.

    ``network.s_out.connect(recorder.s_in)``; ``recorder.v_ref.connect_var(neuron.v)`` for any Var of the same shape, of this
    library's and of stock processes. A Var is read after the update of the same step (in Lava's POST_MGMT phase); without a
    connection there is no such phase and no cost. The arrays can be read at any time, also after the run; nothing is copied
    from element to element and no named memory is left behind.

    Ports: InPort ``s_in`` and RefPort ``v_ref``, of shape ``shape``. No Vars.

    Parameters
    ----------
    shape: shape of the recorded population.
    steps: largest number of steps of the run, at least 1. A longer run fails with IndexError in the model.

    Raises
    ------
    ValueError: steps < 1.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self, *, shape: tuple[int, ...], steps: int, name: str | None = None, log_config: LogConfig | None = None
    ) -> None:
        shape = tuple(operator.index(n) for n in shape)
        if operator.index(steps) < 1:
            raise ValueError(f"Recorder: steps is {steps}, and has to be at least 1. Give the number of steps of the run.")
        self._spikes = SharedRecord(steps, shape)
        self._membranes = SharedRecord(steps, shape)
        super().__init__(shape=shape, spikes=self._spikes, membranes=self._membranes, name=name, log_config=log_config)
        self.s_in = InPort(shape=shape)
        self.v_ref = RefPort(shape=shape)

    @property
    def spikes(self) -> NDArray:
        """What arrived at ``s_in``: [steps run, *shape], int32 (``fixed_pt``) or float64 (``floating_pt``)."""
        return self._spikes.read()

    @property
    def membranes(self) -> NDArray:
        """The Var behind ``v_ref`` after each step: [steps run, *shape], int32 or float64; no rows if it is not connected."""
        return self._membranes.read()

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.input_output import recorder_case

        return recorder_case()
