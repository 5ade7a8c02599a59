"""What the options of ``lava-snnlearn run`` mean: which kind of run they ask for, which go together, and texts as values."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import typer

    from lava_snnlearn.continual.settings import TaskSettings

Kind = Literal["one", "tasks", "on chip"]
"""One task, a sequence of tasks, or learning on the chip."""

_NOT_ON_CHIP = ("k", "augment", "frames", "width", "reset", "norm", "batch_size", "threads", "input", "weight_bits")
_SEQUENCE = ("sequence", "base", "compare")


def given(context: typer.Context) -> set[str]:
    """Names of the options that stand on the command line, also where they equal the default."""
    return {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}


def kind_of_run(options: Collection[str], method: str, on_chip: bool) -> Kind:
    """The kind of run that these options (their names) ask for.

    Raises:
        ValueError: options that do not apply to it.
    """
    if on_chip:
        _refuse_on_chip(options, method)
        return "on chip"
    if "replay_samples" in options:
        raise ValueError("--replay-samples are training samples of --on-chip; leave it out")
    from lava_snnlearn.continual.settings import PROTECTING

    if method in PROTECTING or "tasks" in options or "sequence" in options:
        return "tasks"
    wrong = _flags(_SEQUENCE, options)
    if wrong:
        raise ValueError(
            f"{wrong}: of sequences of tasks, but {method} learns one task; give --tasks, or --method {' or '.join(PROTECTING)}"
        )
    return "one"


def _refuse_on_chip(options: Collection[str], method: str) -> None:
    from lava_snnlearn.on_chip.pipeline import RULES

    if method not in RULES:
        raise ValueError(f"--on-chip: {method} does not learn on the chip; give --method {', '.join(RULES)}")
    wrong = _flags(_SEQUENCE, options)
    if wrong:
        raise ValueError(
            f"{wrong} cannot be set with --on-chip, whose tasks are permutations of the features; give --tasks alone"
        )
    wrong = _flags(("update", "leak", *_NOT_ON_CHIP) if method == "spide" else _NOT_ON_CHIP, options)
    if wrong:
        raise ValueError(
            f"{wrong} cannot be set with --on-chip, where dense layers learn 8-bit weights from graded input, one "
            "sample after the other; leave out, or see 'lava-snnlearn methods' for what --option sets"
        )


def _flags(names: Collection[str], options: Collection[str]) -> str:
    """Those of ``names`` that are among the options, as they stand on the command line; "" of none."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names if name in options)


def task_settings_of(
    settings: Mapping[str, Any],
    options: Collection[str],
    tasks: int | None,
    sequence: str | None,
    base: str | None,
    compare: str | None,
) -> TaskSettings:
    """Settings of a run on a sequence of tasks; ``settings``: those of a run on one task, ``options`` the names of those given.

    Raises:
        ValueError: as TaskSettings.
    """
    from lava_snnlearn.continual.settings import BASE_PREFIX, PROTECTING, TaskSettings
    from lava_snnlearn.data.tasks import FIVE_DATASETS

    # "update" and "k" have options of their own on the command line; with a base method they are its.
    prefix = BASE_PREFIX if settings["method"] in PROTECTING else ""
    found = tuple((prefix + key if key in ("update", "k") else key, value) for key, value in settings["options"])
    data = FIVE_DATASETS[0] if sequence == "five" and "data" not in options else settings["data"]
    return TaskSettings(
        **{**settings, "options": found, "data": data},
        sequence="permuted" if sequence is None else sequence,
        tasks=tasks,
        base=base,
        compare=() if compare is None else tuple(compare.split(",")),
    )


def method_options(pairs: Collection[str]) -> tuple[tuple[str, Any], ...]:
    """KEY=VALUE with VALUE in JSON (true, 2, null), or plain text.

    Raises:
        ValueError: a text without "=".
    """
    found = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--option is {pair!r}; give KEY=VALUE, e.g. trace_bias=false")
        try:
            found.append((key, json.loads(text)))
        except json.JSONDecodeError:
            found.append((key, text))
    return tuple(found)


def layer_sizes(text: str) -> tuple[int, ...] | str:
    """Sizes of dense layers; a text with letters and no comma is a conv net or a name, read where the data are known.

    Raises:
        ValueError: neither of them.
    """
    if "," not in text and any(letter.isalpha() for letter in text):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--layers is {text!r}; give sizes separated by commas, e.g. 128,128, or a conv net, e.g. 16C3-P2-32C3-P2-128"
        ) from None
