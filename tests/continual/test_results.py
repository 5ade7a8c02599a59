"""ACC and BWT by hand, the files, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lava_snnlearn.continual import Results

ROWS = [[0.9], [0.7, 0.8], [0.5, 0.6, 1.0]]
NAMES = ("a", "b", "c")


def test_averages_by_hand() -> None:
    results = Results.of_rows(NAMES, ROWS, [1.0, 2.0, 3.0])
    assert results.acc == pytest.approx((0.5 + 0.6 + 1.0) / 3, abs=1e-15)
    assert results.bwt == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2, abs=1e-15)
    np.testing.assert_array_equal(results.new_task, [0.9, 0.8, 1.0])
    nan = math.nan
    np.testing.assert_array_equal(results.accuracies, [[0.9, nan, nan], [0.7, 0.8, nan], [0.5, 0.6, 1.0]])
    assert (results.names, results.seconds) == (NAMES, (1.0, 2.0, 3.0))


def test_what_is_learnt_later_can_help() -> None:
    assert Results.of_rows(("a", "b"), [[0.5], [0.75, 0.9]], [0, 0]).bwt == 0.25


def test_one_task_forgets_nothing() -> None:
    results = Results.of_rows(("a",), [[0.25]], [1.0])
    assert results.acc == 0.25
    assert math.isnan(results.bwt)


def test_files(tmp_path: Path) -> None:
    Results.of_rows(NAMES, ROWS, [1.0, 2.0, 3.0]).save(tmp_path)
    assert (tmp_path / "matrix.csv").read_text() == "after,a,b,c\na,0.9,,\nb,0.7,0.8,\nc,0.5,0.6,1.0\n"
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["ACC"] == pytest.approx(0.7)
    assert summary["BWT"] == pytest.approx(-0.3)
    assert (summary["tasks"], summary["accuracies"], summary["new_task"]) == (list(NAMES), ROWS, [0.9, 0.8, 1.0])
    Results.of_rows(("a",), ROWS[:1], [1.0]).save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["BWT"] is None


@pytest.mark.parametrize(
    "accuracies, message",
    [
        (np.full((2, 2), 0.5), "be NaN for j > i"),
        (np.array([[0.5, np.nan], [np.nan, 0.5]]), r"must lie in \[0, 1\] for j <= i"),
        (np.array([[0.5, np.nan], [1.5, 0.5]]), r"must lie in \[0, 1\]"),
        (np.full((3, 3), 0.5), r"2 names, accuracies of shape \(3, 3\)"),
    ],
)
def test_refusals(accuracies: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Results(("a", "b"), accuracies, (0.0, 0.0))
