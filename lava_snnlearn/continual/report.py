"""summary.json and report.html of a run on a sequence of tasks."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lava_snnlearn.checkpoints import METRICS, EpochMetrics, read_metrics
from lava_snnlearn.citations import citation
from lava_snnlearn.continual.settings import Plan
from lava_snnlearn.files import write_text
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.table import connection_rows, population_rows
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.pipeline import time_first
from lava_snnlearn.report import (
    Figures,
    activity,
    confusion_matrix,
    inference_figures,
    resources,
    task_accuracies,
    training_figures,
    verdict,
    write_report,
)
from lava_snnlearn.run_report import PICTURED, verified

if TYPE_CHECKING:
    from lava_snnlearn.continual.pipeline import Summary


def write(plan: Plan, summary: Summary) -> None:
    """Write summary.json, report.html and its PNGs into the folder of ``summary``.

    Args:
        plan: what was run. summary: what it gave.
    """
    settings, chip, last = plan.settings, summary.chips[-1], plan.tasks.tasks[-1]
    pictured = time_first(last.test.x[:PICTURED])
    trace = emulate(chip, pictured)
    taken = resources(chip, trace, pictured)
    answer = Trace({}, {}, trace.outputs, summary.answers.saturated)
    shown = dataclasses.asdict(settings) | {"options": dict(settings.options)}
    content = {"settings": shown, "results": _results(summary, trace)}
    write_text(summary.folder / "summary.json", json.dumps(content, indent=2) + "\n")
    cited = dict.fromkeys("\n".join(citation(name) for name in _cited(plan)).splitlines())
    write_report(
        summary.folder,
        title=f"{settings.method.upper()} on {plan.tasks.name}, {len(plan.tasks)} tasks",
        verdict=verdict(summary.verification),
        ok=summary.ok,
        tables={
            "Result": [["", "test accuracy"], *summary.rows(), *activity(trace, answer)],
            "Accuracies": _accuracy_rows(summary),
            "Populations": population_rows(chip),
            "Connections": connection_rows(chip),
            **taken.tables,
        },
        figures=_figures(plan, summary, trace) | taken.figures,
        text={
            "Verification": str(summary.verification),
            "Resources and quantisation": taken.text,
            "Settings": "\n".join(f"{key} = {value}" for key, value in shown.items()),
            "Please cite": "\n".join(cited),
        },
    )


def _cited(plan: Plan) -> list[str]:
    settings = plan.settings
    return list(dict.fromkeys([settings.method, settings.base_name, *(rival.name for rival in plan.rivals.values())]))


def _accuracy_rows(summary: Summary) -> list[list[str]]:
    """A row a task: when it was new, at the end, and in integers; then what was compared."""
    results, names = summary.results, list(summary.comparisons)
    columns = [
        results.new_task,
        results.accuracies[-1],
        summary.answers.accuracies,
        *(summary.comparisons[name].accuracies for name in names),
    ]
    head = [
        "task",
        "when new (float)",
        "at the end (float)",
        "at the end (fixed point)",
        *(f"{name} (float)" for name in names),
    ]
    return [head, *([name, *(f"{cell:.4f}" for cell in row)] for name, *row in zip(results.names, *columns, strict=True))]


def _results(summary: Summary, trace: Trace) -> dict[str, Any]:
    """What summary.json tells; results.json has the float accuracies in full."""
    results, answers = summary.results, summary.answers
    return {
        "ACC": results.acc,
        "BWT": results.bwt,
        "new_task": results.new_task.tolist(),
        "float_accuracies": results.accuracies[-1].tolist(),
        "fixed_accuracies": list(answers.accuracies),
        "agreement": answers.agreement,
        "comparisons": {
            name: {"ACC": one.acc, "accuracies": one.accuracies.tolist()}
            | ({} if one.results is None else {"BWT": one.results.bwt, "new_task": one.results.new_task.tolist()})
            for name, one in summary.comparisons.items()
        },
        "saturated": dict(answers.saturated),
        "spike_rates": trace.spike_rates(),
        **verified(summary.verification),
        "seconds": summary.seconds,
    }


def _epochs(summary: Summary) -> list[EpochMetrics]:
    """Those of all tasks, counted through."""
    folders = [summary.folder / f"task_{index:02d}" for index in range(len(summary.results.names))]
    rows = [row for folder in folders for row in read_metrics(folder / METRICS)]
    return [dataclasses.replace(row, epoch=number) for number, row in enumerate(rows, 1)]


def _figures(plan: Plan, summary: Summary, trace: Trace) -> Figures:
    figures: Figures = {"Tasks": (task_accuracies(summary.results), "How well each task is done after each (float).")}
    for name, one in summary.comparisons.items():
        if one.results is not None:
            figures[f"Tasks {name}"] = (task_accuracies(one.results), f"The same with {name}, from the same weights.")
    answers, tasks = summary.answers, plan.tasks
    classes = tasks.first_classes[-1] + tasks.tasks[-1].classes
    side_by_side = ", the classes of the tasks side by side" * (tasks.heads == "own")
    figures |= training_figures(_epochs(summary))
    last = tasks.tasks[-1]
    pictured = dataclasses.replace(last, test=last.test.take(np.arange(len(trace.outputs))))
    figures["Curves"] = (
        figures["Curves"][0],
        "Training, the epochs of all tasks one after another; each keeps its last weights.",
    )
    return (
        figures
        | inference_figures(summary.chips[-1], pictured, trace, trace)
        | {
            "Confusion matrix": (
                confusion_matrix(answers.labels, answers.predictions, classes),
                f"The fixed-point network on the test sets of all tasks{side_by_side}. What follows is of the last task.",
            )
        }
    )
