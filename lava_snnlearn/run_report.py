"""summary.json and report.html of a run, and what the reports of all kinds of runs share."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from lava_snnlearn.citations import citation
from lava_snnlearn.data import Dataset
from lava_snnlearn.files import write_text
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.table import connection_rows, population_rows
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.methods import Method
from lava_snnlearn.pipeline import Settings, Summary, time_first
from lava_snnlearn.report import (
    activity,
    alignment_table,
    inference_figures,
    resources,
    training_figures,
    verdict,
    write_report,
)
from lava_snnlearn.verification import Report

PICTURED = 64
"""Test samples whose full traces go into the report's pictures."""


def write(settings: Settings, data: Dataset, method: Method, summary: Summary, answer: Trace) -> None:
    """Write summary.json, report.html and its PNGs into the folder of ``summary``.

    Args:
        settings, data, method: what was run. summary: what it gave. answer: the integers' answers to all test samples.
    """
    proof = summary.verification
    pictured = time_first(data.test.x[:PICTURED])
    trace = emulate(summary.network, pictured)
    taken = resources(summary.network, trace, pictured)
    results = {
        "float_accuracy": summary.float_accuracy,
        "fixed_accuracy": summary.fixed_accuracy,
        "agreement": summary.agreement,
        **({"alignment": summary.alignment} if summary.alignment else {}),
        "saturated": dict(answer.saturated),
        "spike_rates": trace.spike_rates(),
        "best_epoch": summary.history.best_epoch,
        **verified(proof),
        "seconds": summary.seconds,
    }
    content = {"settings": dataclasses.asdict(settings) | {"options": dict(settings.options)}, "results": results}
    write_text(summary.folder / "summary.json", json.dumps(content, indent=2) + "\n")
    write_report(
        summary.folder,
        title=f"{method.name.upper()} on {data.name}",
        verdict=verdict(proof),
        ok=proof.ok,
        tables={
            "Result": [["", "test accuracy"], *summary.rows(), *activity(trace, answer)],
            **alignment_table(summary.alignment),
            "Populations": population_rows(summary.network),
            "Connections": connection_rows(summary.network),
            **taken.tables,
        },
        figures=training_figures(summary.history.epochs)
        | inference_figures(summary.network, data, answer, trace)
        | taken.figures,
        text={
            "Verification": str(proof),
            "Resources and quantisation": taken.text,
            "Settings": "\n".join(f"{key} = {value}" for key, value in content["settings"].items()),
            "Please cite": citation(method),
        },
    )


def verified(proof: Report) -> dict[str, Any]:
    """What summary.json tells of a verification."""
    return {
        "verified": proof.ok,
        "verified_samples": proof.samples,
        "verified_values": dict(proof.compared),
        "mismatches": dict(proof.mismatches),
    }
