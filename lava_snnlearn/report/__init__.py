"""Plots and the HTML report of a run."""

from lava_snnlearn.report.html import write_report
from lava_snnlearn.report.pages import Figures, activity, alignment_table, inference_figures, training_figures, verdict
from lava_snnlearn.report.plots import (
    confusion_matrix,
    curves,
    diagnostics,
    membranes,
    raster,
    rates,
    states,
    task_accuracies,
    ternary_raster,
    weight_pictures,
)
from lava_snnlearn.report.reasoning_plots import plot_explanation
from lava_snnlearn.report.resources import Resources, resources

__all__ = [
    "Figures",
    "Resources",
    "activity",
    "alignment_table",
    "confusion_matrix",
    "curves",
    "diagnostics",
    "inference_figures",
    "membranes",
    "plot_explanation",
    "raster",
    "rates",
    "resources",
    "states",
    "task_accuracies",
    "ternary_raster",
    "training_figures",
    "verdict",
    "weight_pictures",
    "write_report",
]
