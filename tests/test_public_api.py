"""The public names, and what importing them costs: no torch, Lava or matplotlib before they are used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lava_snnlearn as snn

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lava", "matplotlib", "sklearn", "h5py", "numba", "tonic", "typer")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running this."""
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", snn.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(snn, name)
    assert value is not None
    assert name in dir(snn)
    if callable(value):
        assert value.__doc__, f"{name} has no docstring"


def test_all_holds_what_the_design_promises() -> None:
    promised = {"Trainer", "quantize", "prepare_qat", "emulate", "verify", "run_lava", "from_lava", "citation"}
    promised |= {"data", "networks", "methods", "neurons"}
    assert promised <= set(snn.__all__)
    assert len(set(snn.__all__)) == len(snn.__all__)


@pytest.mark.parametrize(
    "module",
    [
        "data",
        "fixed_point",
        "graphs",
        "lava_backend",
        "methods",
        "networks",
        "neurons",
        "reasoning",
        "report",
        "testing",
        "training",
    ],
)
def test_names_of_subpackages_resolve(module: str) -> None:
    imported = importlib.import_module(f"lava_snnlearn.{module}")
    for name in getattr(imported, "__all__", []):
        assert getattr(imported, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        imported.no_such_name  # noqa: B018


def test_a_reasoner_is_trained_deployed_and_proven_from_one_place() -> None:
    named = {"ReasoningTrainer", "evaluate", "explain", "FixedReasoner", "emulate_reasoner", "prepare_reasoner_qat"}
    named |= {"reasoner_costs", "run_lava_reasoner", "run_float_reasoner", "verify_reasoner"}
    assert named <= set(dir(snn.reasoning))
    for name in snn.reasoning.__all__:
        assert getattr(snn.reasoning, name).__doc__, f"{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lava_snnlearn' has no attribute 'trainer'"):
        snn.trainer  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert snn.__version__ == version("lava-snnlearn")


def test_importing_the_library_loads_nothing_heavy() -> None:
    loaded = loaded_by("import lava_snnlearn")
    assert "lava_snnlearn" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("module", ["lava_snnlearn.fixed_point.arithmetic", "lava_snnlearn.checks", "lava_snnlearn.citations"])
def test_light_modules_stay_light(module: str) -> None:
    """Lava's forked children import the arithmetic, and torch is not safe there."""
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_training_and_emulation_load_no_lava() -> None:
    loaded = loaded_by(
        "import numpy as np, lava_snnlearn as snn\n"
        "network = snn.networks.mlp([4, 5, 3])\n"
        "snn.emulate(snn.quantize(network), np.zeros((2, 4), np.float32))\n"
        "snn.Trainer, snn.data.load, snn.verify\n"
        "model, graph = snn.networks.GraphReasoner(1, width=4, steps=3), snn.graphs.Graph(2, 1, [0], [0], [1])\n"
        "snn.reasoning.emulate_reasoner(snn.quantize(model), graph, [0], [0])\n"
        "snn.reasoning.ReasoningTrainer, snn.reasoning.explain, snn.graphs.shortest_paths([(0, 1)], 3, 0)"
    )
    assert "torch" in loaded
    assert not loaded & {"lava", "matplotlib"}


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a source file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_lava_is_imported_in_its_places_only() -> None:
    """Processes and models have folders of their own; of the library itself only the backend and the suites know Lava.

    So does the script that ``deploy`` copies into bundles, which the library never imports.
    """
    sources = (ROOT / "lava_snnlearn").rglob("*.py")
    users = [path.relative_to(ROOT / "lava_snnlearn") for path in sources if "lava" in imported_packages(path)]
    users.remove(Path("deployment/scripts/run.py"))
    assert {path.parts[0] for path in users} == {"lava_backend", "testing"}


def test_models_import_neither_torch_nor_relatively() -> None:
    """Lava's compiler executes these files again and again, under other names."""
    files = [path for folder in ("models", "processes") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 6
    for path in files:
        assert "torch" not in imported_packages(path), path
        relative = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.level]
        assert not relative, path
