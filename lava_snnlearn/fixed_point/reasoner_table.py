"""A FixedReasoner as a readable table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.reasoner import FixedReasoner


def table(fixed: FixedReasoner) -> str:
    """The reasoner's numbers as text; costs depend on a graph, see :mod:`lava_snnlearn.placement.reasoner`."""
    rows = {
        "mapping": f"{fixed.mapping}, {fixed.hop} step{'s' if fixed.hop > 1 else ''} a hop besides the delay",
        "1.0 =": f"{fixed.scale} weight units",
        "threshold": fixed.vth,
        "leaks": f"current {(fixed.du + 1) / DECAY_ONE:.4f}, membrane {fixed.dv / DECAY_ONE:.4f} a step",
        "W": _range(fixed.weight) + (f" x 2^-{fixed.weight_shift} with the relation weights" if fixed.weight_shift else ""),
        "relation weights": "1" if fixed.relation_weight is None else _range(fixed.relation_weight),
        "self connection": "none" if fixed.self_weight is None else f"{_range(fixed.self_weight)} << {fixed.self_exp}",
        "w0": "none" if fixed.offset is None else f"{_range(fixed.offset)} << {fixed.offset_exp}",
        "query current": f"{_range(fixed.bias)} << {fixed.bias_exp}, in 1/{MEMBRANE_UNIT} weight unit",
        "delays": f"{_range(fixed.delays)} of 0..{fixed.max_delay} steps, mean {np.asarray(fixed.delays).mean():.2f}",
        "score": f"{_range(fixed.head.hidden_weight)}, >> {fixed.head.shift}, {_range(fixed.head.output_weight)}",
    }
    title = f"FixedReasoner: {fixed.relations} relations, {fixed.width} neurons a node, T = {fixed.steps} steps"
    lines = [title, "-" * len(title), *(f"{name:17} {value}" for name, value in rows.items())]
    return "\n".join([*lines, *fixed.notes])


def _range(values: Any) -> str:
    array = np.asarray(values)
    return f"{array.min()}..{array.max()}"
