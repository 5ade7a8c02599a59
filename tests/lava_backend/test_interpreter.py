"""Interpreters that use Lava end by themselves, and import it only when it is used."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

HELPERS = Path(__file__).parent / "failing"
SCRIPT = f"""
import sys
sys.path += [{str(HELPERS)!r}, {str(HELPERS.parent)!r}]
import psutil
from failing_processes import Faulty
from lava_snnlearn.lava_backend import LavaRunError, guarded, run_guarded

def main():
"""


def start_script(body):
    code = SCRIPT + textwrap.indent(textwrap.dedent(body), "    ") + "\nmain()\n"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish_script(script):
    """Wait for the interpreter to end by itself; its output and its errors. Ends what it left, if it did."""
    try:
        output, errors = script.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)
    return output, errors


@pytest.mark.parametrize(
    "body, code",
    [
        ("with guarded(Faulty(fault='spk:none')) as network:\n    network.run(2)", 0),
        ("with guarded(Faulty(fault='spk:none')) as network:\n    network.run(2)\n    sys.exit(5)", 5),
        ("run_guarded(Faulty(fault='spk:raise'), 5)", 1),
        ("global block\nblock = guarded(Faulty(fault='spk:none'))\nblock.__enter__().run(2)", 0),
    ],
)
def test_interpreter_ends(body, code):
    script = start_script(body)
    _, errors = finish_script(script)
    assert script.returncode == code
    assert errors.count("Traceback (most recent call last)") == (2 if code == 1 else 0)  # the model's, inside of ours


def test_ctrl_c_ends_all_children():
    script = start_script(
        """
        with guarded(Faulty(fault='spk:loop')) as network:
            print(*[child.pid for child in psutil.Process().children()], flush=True)
            network.run(5)
        """
    )
    started = [psutil.Process(int(pid)) for pid in script.stdout.readline().split()]
    time.sleep(0.5)  # let the run begin
    os.killpg(script.pid, signal.SIGINT)  # as a terminal does: parent and children alike
    _, errors = finish_script(script)
    assert len(started) >= 3
    assert psutil.wait_procs(started, timeout=10)[1] == []  # the resource tracker ends a moment after its parent
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback (most recent call last)") == 1


def test_ctrl_c_that_the_user_catches_between_runs_does_not_end_the_network():
    script = start_script(
        """
        import os, signal, time
        with guarded(Faulty(fault='spk:none')) as network:
            network.run(1)
            try:
                os.killpg(0, signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                print("caught")
            network.run(2)
        """
    )
    output, errors = finish_script(script)
    assert script.returncode == 0, errors
    assert output == "caught\n"


COMMANDS = """
import numpy as np
import pytest
from conftest import children
from lava.magma.core.run_conditions import RunSteps
from lava.proc.io.extractor import Extractor
from lava.proc.io.injector import Injector
from lava_snnlearn.lava_backend import run_config
process = Faulty(fault='spk:none')

def refused(text, function, *args):
    with pytest.raises(LavaRunError, match=text):
        function(*args)

with guarded(process, time_limit=30) as network:
    network.run(2)
"""


@pytest.mark.parametrize(
    "body",
    [
        "    process.stop()\n    assert children() == []\n    refused('has been stopped', network.run, 2)",
        "    process.stop()\n    process.stop()\nassert children() == []\nprocess.stop()",
        "    network.stop()\n    pytest.raises(RuntimeError, process.count.get).match('not started')",
        "    refused(r'network\\.run', process.run, RunSteps(2))\n    network.run(2)\n    assert process.count.get() == 4",
        "    refused(r'network\\.run', process.run, RunSteps(2, blocking=False))",
        "    refused(r'network\\.run', process.pause)\n    network.run(2)",
        "    refused(r'network\\.run', process.wait)\n    network.run(2)",
        "for command in (process.pause, process.wait):\n    refused('has been stopped', command)",
        "refused('has been stopped', process.run, RunSteps(2))",
    ],
)
def test_lavas_own_commands_are_guarded_or_refused(body):
    check_commands(body)


def test_injector_and_extractor_after_the_block():
    check_commands(
        """
injector, extractor = Injector(shape=(2,)), Extractor(shape=(2,))
injector.out_port.connect(extractor.in_port)
with guarded(injector, run_config('floating_pt'), time_limit=30) as network:
    injector.send(np.ones(2))
    injector.send(np.ones(2))
    network.run(2)
    assert extractor.receive().tolist() == [1, 1]
pytest.raises(AssertionError, extractor.receive).match('Runtime needs to be created')
pytest.raises(AssertionError, injector.send, np.ones(2)).match('Runtime needs to be created')
"""
    )


def check_commands(body):
    """Run them in an interpreter of their own, which crashed or hung before; it has to end by itself, without children."""
    script = start_script(COMMANDS + body + "\nassert children() == []\nprint('end')")
    output, errors = finish_script(script)
    assert script.returncode == 0, errors
    assert output == "end\n"
    assert errors == ""


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_lava_is_imported_only_when_it_is_used():
    code = """
import sys, lava_snnlearn
assert "lava" not in sys.modules
import lava_snnlearn.lava_backend
assert "lava" in sys.modules
"""
    result = python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["lava_backend", "processes"])
def test_missing_lava_says_what_to_do(name):
    result = python(f"import sys; sys.modules['lava'] = None; import lava_snnlearn.{name}")
    assert result.returncode == 1
    assert "pip install lava-nc==0.10.0" in result.stderr
    assert "Python 3.10" in result.stderr


@pytest.mark.parametrize("use", ["set_start_method('fork')", "Queue()"])
def test_start_method_that_was_fixed_before(use):
    result = python(f"import multiprocessing as mp; mp.{use}; import lava_snnlearn.processes")
    assert result.returncode == 0, result.stderr


def test_other_start_method_is_refused():
    result = python("import multiprocessing as mp; mp.set_start_method('spawn'); import lava_snnlearn.processes")
    assert result.returncode == 1
    assert "RuntimeError: multiprocessing's start method is 'spawn', but Lava needs 'fork'" in result.stderr
