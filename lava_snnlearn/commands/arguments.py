"""What the options of ``lava-snnlearn run`` mean: which kind of run they ask for, which go together, and texts as values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import typer

    from lava_snnlearn.continual.settings import TaskSettings
    from lava_snnlearn.reasoning.pipeline import Settings as GraphSettings

Kind = Literal["one", "tasks", "on chip", "graph"]
"""One task, a sequence of tasks, learning on the chip, or reasoning on a graph."""
GRAPH_METHOD, DEFAULT_GRAPH = "grsnn", "umls"

_NOT_ON_CHIP = ("k", "augment", "frames", "width", "reset", "norm", "batch_size", "threads", "input", "weight_bits", "against")
_SEQUENCE = ("sequence", "base", "compare")
_NOT_OF_GRAPHS = (
    "frames",
    "augment",
    "update",
    "k",
    "tasks",
    *_SEQUENCE,
    "layers",
    "leak",
    "reset",
    "norm",
    "train_size",
    "input",
    "against",
    "replay_samples",
)
_OF_GRAPHS = (
    "width",
    "steps",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "threads",
    "weight_bits",
    "verify_samples",
)
"""Settings of a run on a graph that have options of their own."""


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
    if method == GRAPH_METHOD:
        wrong = _flags(_NOT_OF_GRAPHS, options)
        if wrong:
            raise ValueError(
                f"{wrong}: does not apply to {method}, which reasons on a graph of facts; leave it out, or see 'lava-snnlearn "
                "methods' for what --option sets"
            )
        return "graph"
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


def refuse_graph(data: str) -> None:
    """Raise ValueError if ``data`` is a graph: for all methods but that of graphs."""
    from lava_snnlearn.data import GRAPHS

    if data in GRAPHS:
        raise ValueError(f"data {data!r} is a graph of facts; give --method {GRAPH_METHOD}, which reasons on graphs")


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


def graph_options() -> dict[str, Any]:
    """What ``--option`` sets in a run on a graph, and the defaults; None: those of the data's recipe."""
    from lava_snnlearn.reasoning.pipeline import Settings

    own = {"data", "options", *_OF_GRAPHS}
    fields = {field.name: field.default for field in dataclasses.fields(Settings) if field.name not in own}
    return dict.fromkeys(_learning_options()) | fields


def _learning_options() -> list[str]:
    from lava_snnlearn.methods.grsnn import GRSNN

    return [field.name for field in dataclasses.fields(GRSNN)]


def graph_settings_of(settings: Mapping[str, Any], options: Collection[str]) -> GraphSettings:
    """Settings of a run on a graph; ``settings``: those of a run on one task, ``options`` the names of those given.

    Raises:
        ValueError, TypeError, UnknownNameError: as Settings; an unknown option, a width that is not whole.
    """
    from lava_snnlearn.checks import known_name
    from lava_snnlearn.reasoning.pipeline import Settings

    chosen = {name: settings[name] for name in _OF_GRAPHS if name in options}
    if "width" in chosen:
        if not float(chosen["width"]).is_integer():
            raise ValueError(f"--width is {chosen['width']:g}; of {GRAPH_METHOD} it is the neurons of a node, a whole number")
        chosen["width"] = int(chosen["width"])
    for name, _ in settings["options"]:
        known_name(f"option of {GRAPH_METHOD}", name, graph_options())
    learning = _learning_options()
    of_method = tuple((name, value) for name, value in settings["options"] if name in learning)
    others = {name: value for name, value in settings["options"] if name not in learning}
    data = settings["data"] if "data" in options else DEFAULT_GRAPH
    return Settings(data, options=of_method, **chosen, **others)


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
