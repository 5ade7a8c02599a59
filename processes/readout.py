"""Checks of the parameters that the processes with the error of a readout share."""

from __future__ import annotations

import math

import numpy as np
from lava.magma.core.process.variable import Var

from lava_snnlearn.checks import at_least, known_name, real_number
from lava_snnlearn.fixed_point.plasticity import ERRORS, softmax_table
from lava_snnlearn.processes.parameters import plain_var, ranged, single_var

SHIFT_MAX = 30


def classes_of(process: str, shape: tuple[int]) -> tuple[int]:
    """``shape``, checked: ValueError unless it is (classes,) with at least one class."""
    if len(shape) != 1:
        raise ValueError(f"{process}: shape is {shape}; it must be (classes,), the number of classes alone")
    return (at_least(1, f"{process}: the number of classes in shape", shape[0]),)


def error_vars(process: str, kind: str, shift: int, table_step: float) -> dict[str, Var]:
    """The Vars ``table`` (256,), ``table_step`` and ``shift`` (1,) of an error; raises what ``ErrorStage`` documents."""
    known_name(f"{process} kind", kind, ERRORS)
    bits = ranged(process, "shift", shift, 0, SHIFT_MAX, "Choose another scale of the readout's weights.")
    real_number(f"{process}: table_step", table_step)
    if not 0 < table_step < math.inf:
        raise ValueError(f"{process}: table_step is {table_step}; it must be more than 0 and finite, e.g. 1/16")
    table, step = plain_var(softmax_table(table_step)), plain_var(np.array([float(table_step)]))
    return {"table": table, "table_step": step, "shift": single_var(bits)}
