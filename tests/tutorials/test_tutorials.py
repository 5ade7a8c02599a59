"""Every tutorial runs from top to bottom in a fresh kernel, as a user would run it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_tutorials() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "01_first_network.ipynb",
        "02_feedback_at_equilibrium.ipynb",
        "03_digits_learnt_on_the_lava_simulator.ipynb",
        "04_continual_learning_without_forgetting.ipynb",
        "05_graph_reasoning_with_learned_delays.ipynb",
        "06_quantisation_and_what_it_costs.ipynb",
        "07_your_own_method.ipynb",
        "08_your_own_process.ipynb",
        "09_deploy_to_loihi_with_netx.ipynb",
        "10_import_your_lava_graph.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert set(re.findall(r"(\d+) mismatches", printed)) == {"0"}
    assert "DIFFERENT" not in printed
    assert len(pictures) >= 3
