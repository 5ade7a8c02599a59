"""SampleSource: sends the rows of an array, one each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from numpy.typing import ArrayLike

from lava_snnlearn.checks import finite, within

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

_INT32 = np.iinfo(np.int32)


class SampleSource(AbstractProcess):
    """Sends ``s_out[t] = data[t]``, t counted from 0, and zeros after the last row.

    The data reach Lava's child process by fork, whole and at once, whatever their size.

    Port: ``s_out`` of shape ``data.shape[1:]``; int32 in the ``fixed_pt`` model, float in the ``floating_pt`` model. No Vars.
    The fixed model refuses float data (TypeError); the floating-point model takes both.

    Parameters
    ----------
    data: [steps, *shape], integers or floats; at least one step, and at least one dimension behind the steps. A copy is kept.

    Raises
    ------
    ValueError: no step, no neuron, NaN, infinity, or an integer outside of int32.
    TypeError: data that are no numbers.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(self, *, data: ArrayLike, name: str | None = None, log_config: LogConfig | None = None) -> None:
        rows = np.array(data)
        if rows.dtype.kind not in "biuf":
            raise TypeError(f"SampleSource: data are of type {rows.dtype}. Give integers (spikes, graded values) or floats.")
        if rows.ndim < 2 or rows.size == 0:
            raise ValueError(
                f"SampleSource: data have shape {rows.shape}. Give [steps, *shape] with at least one step and one neuron."
            )
        finite("SampleSource: data", rows)
        if rows.dtype.kind in "iu":
            within("SampleSource: data", rows, _INT32.min, _INT32.max, "The port sends int32: scale the data down.")
        rows.setflags(write=False)
        shape = rows.shape[1:]
        super().__init__(shape=shape, data=rows, name=name, log_config=log_config)
        self.s_out = OutPort(shape=shape)

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.input_output import source_case

        return source_case()
