"""Where Lava is missing: clear errors before any work, and everything that needs no Lava. Lava's absence is simulated here;
``make test-newer`` runs the suite on a Python that has none."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lava_snnlearn.newer_python import hashable_encoders

BLOCKED = "import sys\nsys.modules['lava'] = None\n"
"""Python then says that there is no module of this name."""
REMEDY = "Use Python 3.10 and run: pip install lava-nc==0.10.0."


def without_lava(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds no Lava."""
    command = [sys.executable, "-c", BLOCKED + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "200"})


@pytest.mark.parametrize(
    "use",
    [
        "snn.run_lava",
        "snn.from_lava",
        "snn.lava_backend.run_guarded",
        "snn.processes.SoftResetLIF",
        "snn.testing.check_process",
        "snn.verify(snn.quantize(snn.networks.mlp([4, 5, 3])), numpy.zeros((2, 4), numpy.float32))",
    ],
)
def test_what_needs_lava_says_what_to_do(use: str) -> None:
    found = without_lava(f"import numpy, lava_snnlearn as snn\n{use}")
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("lava_snnlearn.checks.LavaMissingError: Lava cannot be imported here"), found.stderr
    assert REMEDY in last
    assert "work without it" in last


def test_the_rest_works() -> None:
    found = without_lava(
        "import numpy, lava_snnlearn as snn\n"
        "chip = snn.quantize(snn.networks.mlp([4, 5, 3]))\n"
        "report = snn.verify(chip, numpy.ones((2, 4), numpy.float32), against=('torch',))\n"
        "assert report.ok and set(report.mismatches) == {'torch'}"
    )
    assert found.returncode == 0, found.stderr


COMMAND = "import sys\nfrom lava_snnlearn import cli\nsys.argv = ['lava-snnlearn', *sys.argv[1:]]\ncli.main()"
SMALL = ("--epochs", 1, "--train-size", 200, "--layers", 16, "--verify-samples", 2)


@pytest.mark.parametrize("kind", [(), ("--on-chip", "--method", "spide"), ("--method", "grsnn"), ("--tasks", 2)])
def test_a_run_that_would_need_lava_is_refused_before_the_training(kind: tuple[object, ...], tmp_path: Path) -> None:
    small = ("--epochs", 1, "--verify-samples", 1)
    found = without_lava(COMMAND, "run", *kind, *small, "--runs-dir", tmp_path)
    assert found.returncode == 2
    assert REMEDY in found.stderr
    assert ("--against torch" in found.stderr) == (kind in ((), ("--tasks", 2)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [(), ("--tasks", 2)])
def test_a_run_goes_all_the_way_with_torch_alone(kind: tuple[object, ...], tmp_path: Path) -> None:
    found = without_lava(COMMAND, "run", *kind, *SMALL, "--against", "torch", "--runs-dir", tmp_path, "--name", "here")
    assert found.returncode == 0, found.stderr
    report = (tmp_path / "here" / "report.html").read_text()
    assert "0 mismatches" in report
    assert '"torch": 0' in (tmp_path / "here" / "summary.json").read_text()
    assert '"lava"' not in (tmp_path / "here" / "summary.json").read_text()


def test_the_shim_touches_the_encoders_alone() -> None:
    """Where the module is not imported yet, as on a newer Python."""
    original = dataclasses.dataclass
    module = sys.modules.pop("lava.magma.compiler.var_model", None)
    try:
        with hashable_encoders():
            encoder = type("OneEncoder", (), {"__annotations__": {"a": int}, "__module__": "lava.magma.compiler.var_model"})
            other = type("Another", (), {"__annotations__": {"a": int}, "__module__": "lava.magma.compiler.var_model"})
            made, bare = dataclasses.dataclass(encoder), dataclasses.dataclass()(other)
            with pytest.raises(ZeroDivisionError), hashable_encoders():
                _ = 1 // 0
    finally:
        if module is not None:
            sys.modules["lava.magma.compiler.var_model"] = module
    assert dataclasses.dataclass is original
    assert hash(made(1)) == hash(made(1))
    with pytest.raises(TypeError, match="unhashable"):
        hash(bare(1))
