"""What the tests of the command line share: a way to call it, and one finished run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lava_snnlearn import cli, verification
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace

SMALL = ("--epochs", "1", "--train-size", "200", "--layers", "32", "--verify-samples", "2")


class Result(NamedTuple):
    """What a command left: exit status, stdout, stderr."""

    code: int
    out: str
    err: str


def run_command(hear_lava: Callable[[str], None], *arguments: object) -> Result:
    """Run the command line in this process, as its entry point does; ``hear_lava``: the fixture of this name."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["lava-snnlearn", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    hear_lava(err.getvalue())
    return Result(code, out.getvalue(), err.getvalue())


def refusal(run: Callable[..., Result], *arguments: object) -> str:
    """The one line with which a command is refused."""
    result = run(*arguments)
    assert result.code == 2, result
    lines = result.err.strip().splitlines()
    assert lines[-1].startswith("error: "), result
    assert "Traceback" not in result.err
    return lines[-1]


@pytest.fixture(scope="session")
def call_once(hear_lava: Callable[[str], None]) -> Callable[..., Result]:
    """:func:`run_command`, for fixtures of a module."""
    return partial(run_command, hear_lava)


@pytest.fixture
def call(call_once: Callable[..., Result]) -> Callable[..., Result]:
    """:func:`run_command`."""
    return call_once


@pytest.fixture
def leaky_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is verified is not what is emulated: the emulator's neurons leak a little more."""
    real = verification.emulate

    def wrong(network: FixedNetwork, *arguments: Any, **options: Any) -> Trace:
        leaky = tuple(dataclasses.replace(p, dv=p.dv + 1) if p.counted else p for p in network.populations)
        return real(dataclasses.replace(network, populations=leaky), *arguments, **options)

    monkeypatch.setattr(verification, "emulate", wrong)


@pytest.fixture
def refused(call: Callable[..., Result]) -> Callable[..., str]:
    """:func:`refusal`."""
    return partial(refusal, call)


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Options of a run that takes a few seconds."""
    return SMALL


@pytest.fixture
def results() -> Callable[[Path], dict[str, Any]]:
    """Results that a run wrote into its summary.json."""
    return lambda folder: json.loads((folder / "summary.json").read_text())["results"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, call_once: Callable[..., Result]) -> Path:
    """Folder of a small run, which no test changes."""
    runs = tmp_path_factory.mktemp("runs")
    result = call_once("run", *SMALL, "--runs-dir", runs)
    assert result.code == 0, result
    return runs / "ottt-digits"


@pytest.fixture(scope="session")
def network(finished: Path) -> Path:
    return finished / "network.h5"
