"""The list of methods that ``lava-snnlearn methods`` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from lava_snnlearn.citations import citation
from lava_snnlearn.commands.arguments import GRAPH_METHOD, graph_options
from lava_snnlearn.continual.settings import BASE_PREFIX, PROTECTING
from lava_snnlearn.methods import GRSNN, METHODS
from lava_snnlearn.on_chip.pipeline import RULES


def method_blocks() -> Iterator[str]:
    """A block of lines for each method: what it is, its options, the papers to cite."""
    for name, cls in sorted({**METHODS, GRAPH_METHOD: GRSNN}.items()):
        options = graph_options() if name == GRAPH_METHOD else {f.name: _default(f) for f in dataclasses.fields(cls)}
        lines = [f"{name}: {(cls.__doc__ or '').strip().splitlines()[0]}", f"  options: {_pairs(options)}"]
        if name == GRAPH_METHOD:
            lines.append("  reasons on graphs: --data names one, or a folder of triple files; None: by the data set")
        if name in PROTECTING:
            lines.append(
                "  learns task after task: --sequence, --tasks, --compare; --base names the base method, whose options"
            )
            lines.append(f"  begin with {BASE_PREFIX}, e.g. --base sltt --option {BASE_PREFIX}k=2")
        if name in RULES:
            lines.append(f"  with --on-chip: {_pairs(RULES[name].options)}")
        lines.append("  cite: " + citation(name).replace("\n", "\n        "))
        yield "\n".join(lines)


def _pairs(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _default(field: Any) -> Any:
    value = field.default_factory() if field.default is dataclasses.MISSING else field.default
    return getattr(value, "name", value)
