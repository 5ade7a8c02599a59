"""Every benchmark runs in its quick form and prints its table. What it measures is not tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def test_there_are_benchmarks() -> None:
    assert {"accuracy", "emulator"} <= {script.stem for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_quick_run_prints_a_table(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), "--quick"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len([line for line in lines if line.startswith("| ")]) >= 3
    columns = None
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith("|---"):
            columns = line.count("|")
        if line.startswith("| "):
            assert line.count("|") == columns, "all rows have the columns of their head"
