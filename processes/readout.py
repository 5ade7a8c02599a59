"""Checks of the parameters that the processes with the error of a readout share."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.variable import Var

from lava_snnlearn.checks import known_name, positive
from lava_snnlearn.fixed_point.plasticity import ERRORS, softmax_table
from lava_snnlearn.processes.parameters import plain_var, ranged, single_var

SHIFT_MAX = 30


def error_vars(process: str, kind: str, shift: int, table_step: float) -> dict[str, Var]:
    """The Vars ``table`` (256,), ``table_step`` and ``shift`` (1,) of an error; raises what ``ErrorStage`` documents."""
    known_name(f"{process} kind", kind, ERRORS)
    bits = ranged(process, "shift", shift, 0, SHIFT_MAX, "Choose another scale of the readout's weights.")
    positive(f"{process}: table_step", table_step)
    table, step = plain_var(softmax_table(table_step)), plain_var(np.array([float(table_step)]))
    return {"table": table, "table_step": step, "shift": single_var(bits)}
