"""A reasoner's file on the command line: verified on Lava, and asked for the test triples of its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lava_snnlearn.checks import LimitError, at_least, known_name
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.placement import LOIHI1
from lava_snnlearn.placement.reasoner import partition, reasoner_costs
from lava_snnlearn.reasoning.evaluation import evaluate
from lava_snnlearn.reasoning.pipeline import Settings, asked_graph, told
from lava_snnlearn.reasoning.proof import Proof, prove, spread_queries

if TYPE_CHECKING:
    from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph

VERIFIED = 4
"""Queries that are verified if nothing else is said."""


def verify_file(
    file: Path, data: str | None, samples: int | None, against: str | None, time_limit: float, **others: Any
) -> Proof:
    """Verify test queries on Lava.

    Args:
        file: of a reasoner. data: graph, or None: that of the run beside the file. samples: queries; None: :data:`VERIFIED`.
        against: None or "lava". time_limit: of the guarded run. others: options that must be None.

    Raises:
        ValueError, FileFormatError, LavaRunError.
    """
    _refuse(others)
    for backend in [] if against is None else against.split(","):
        known_name("backend of a reasoner", backend, ("lava",))
    reasoner = FixedReasoner.load(file)
    graph = asked_graph(_data_of(file, data, reasoner))
    count = VERIFIED if samples is None else at_least(1, "--samples", samples)
    return prove(reasoner, graph.graph(), spread_queries(graph, graph.test, count), time_limit=time_limit)


def emulate_file(file: Path, data: str | None, samples: int | None, **others: Any) -> str:
    """The reasoner as a table, and how it answers the test triples (``samples`` of them; None: all) in integers, as text.

    Raises:
        As :func:`verify_file`.
    """
    _refuse(others)
    reasoner = FixedReasoner.load(file)
    found = _data_of(file, data, reasoner)
    count = None if samples is None else at_least(1, "--samples", samples)
    answered = evaluate(reasoner, found, limit=count)
    speed = answered.queries / answered.seconds
    return f"{reasoner}\n\ntest of {found.name}: {told(answered)} ({speed:.0f} a second)"


def check_file(file: Path, data: str | None, *, target: str, **others: Any) -> tuple[str, bool]:
    """What a reasoner takes on its graph, and its nodes dealt to cores, as text; and whether they fit.

    Args:
        file, data: as in :func:`verify_file`. target: "loihi1"; there is no partition for another chip. others: options that
            must be None.

    Raises:
        ValueError, FileFormatError.
    """
    _refuse(others)
    if target != LOIHI1.name:
        raise ValueError(
            f"--target is {target}, but the nodes of a reasoner are dealt to the cores of {LOIHI1.name}; leave it out"
        )
    reasoner = FixedReasoner.load(file)
    graph = asked_graph(_data_of(file, data, reasoner)).graph()
    costs = reasoner_costs(reasoner, graph)
    try:
        return f"{costs}\n\n{partition(reasoner, graph)}", True
    except LimitError as error:
        return f"{costs}\n\nerror: {error}", False


def _refuse(others: dict[str, Any]) -> None:
    wrong = [f"--{name}" for name, value in others.items() if value is not None]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}: for networks that classify samples, but this file holds a reasoner, which answers queries on "
            "a graph; leave it out, and name another graph by --data"
        )


def _data_of(file: Path, data: str | None, reasoner: FixedReasoner) -> KnowledgeGraph | InductiveTask:
    """The named data, or those of the run that the file belongs to."""
    found = Settings(_of_run(file) if data is None else data).load()
    graph = asked_graph(found)
    if (graph.query_relations, graph.homogeneous) != (reasoner.relations, reasoner.homogeneous):
        raise ValueError(
            f"{file} was trained for {reasoner.relations} relations, inverse ones included, and {graph.name} has "
            f"{graph.query_relations}; name the graph that it was trained on, or one with the same relations, by --data"
        )
    return found


def _of_run(file: Path) -> str:
    summary = file.parent / "summary.json"
    if not summary.is_file():
        raise ValueError(f"{summary} is not there to say which graph {file} reasons on; name it with --data, e.g. --data umls")
    try:
        return str(json.loads(summary.read_text(encoding="utf-8"))["settings"]["data"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{summary} does not say which graph the run used ({error!r}); name it with --data") from error
