"""Plots and the HTML report of a run."""

from lava_snnlearn.report.html import write_report
from lava_snnlearn.report.plots import confusion_matrix, curves, membranes, raster, rates

__all__ = ["confusion_matrix", "curves", "membranes", "raster", "rates", "write_report"]
