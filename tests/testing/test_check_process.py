"""check_process passes good processes and names what is wrong with broken ones."""

import multiprocessing
from dataclasses import replace

import custom_processes as custom
import numpy as np
import pytest

from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF
from lava_snnlearn.testing import ProcessCase, check_process, processes

STEPS = 8


def running_sum(parameters, inputs, steps):
    total = np.zeros(2, dtype=int)
    rows = []
    for step in range(steps):
        total = (0 if step % parameters["period"] == 0 else total) + inputs["a_in"][step]
        rows.append(total)
    return {"a_out": parameters["gain"] * np.array(rows), "total": np.array(rows)}


CASE = ProcessCase(
    parameters=lambda rng: {"gain": int(rng.integers(1, 9)), "period": int(rng.integers(5, 20))},
    inputs=lambda rng, parameters, steps: {"a_in": rng.integers(-5, 6, (steps, 2))},
    fixed=running_sum,
    floating=running_sum,
    refused=[{"gain": -1}, {"gain": 101}],
    reset=lambda parameters, period: {**parameters, "period": period},
    steps=STEPS,
    trials=5,
)
NEVER_RESET = replace(CASE, parameters=lambda rng: {"gain": 3, "period": 1000})


@pytest.mark.parametrize("process_class", [SoftResetLIF, SampleSource, Recorder])
def test_the_librarys_own_processes(process_class):
    check_process(process_class, seed=1)


def test_a_users_process():
    check_process(custom.RunningSum, CASE)


@pytest.mark.parametrize(
    "process_class, case, texts",
    [
        (custom.OffByOne, CASE, ["fixed_pt model against its reference", "step 3", "model", "reference", "Parameters"]),
        (custom.OneModel, CASE, ["found by a plain run configuration", "floating_pt"]),
        (custom.ScalarVar, CASE, ["Vars are arrays", "gain", "int"]),
        (custom.NoLimit, CASE, ["bad arguments are refused", "accepted {'gain': 101}"]),
        (custom.NoReset, NEVER_RESET, ["state is reset", "a_out", "differ between two equal samples"]),
        (custom.FloatOutput, CASE, ["fixed_pt model", "float64", "cut fractions"]),
    ],
)
def test_broken_processes(process_class, case, texts):
    with pytest.raises(AssertionError) as caught:
        check_process(process_class, case)
    assert process_class.__name__ in str(caught.value)
    for text in texts:
        assert text in str(caught.value)
    assert multiprocessing.active_children() == []


def test_a_process_that_loops_is_noticed(monkeypatch):
    monkeypatch.setattr(processes, "_TIME_LIMIT", 1.0)
    with pytest.raises(AssertionError, match=r"on Lava's runtime' failed\. LavaRunError: Lava is blocked"):
        check_process(custom.Loops, CASE)
    assert multiprocessing.active_children() == []


def test_a_wrong_floating_reference_is_noticed():
    def wrong(parameters, inputs, steps):
        return {name: rows + 1e-6 for name, rows in running_sum(parameters, inputs, steps).items()}

    with pytest.raises(AssertionError, match="floating_pt model against its reference"):
        check_process(custom.RunningSum, replace(CASE, floating=wrong))


def test_a_refusal_has_to_name_the_argument():
    with pytest.raises(AssertionError, match="does not name the argument"):
        check_process(custom.RunningSum, replace(CASE, refused=[{"period": 0}]))


def test_a_reset_case_that_proves_nothing_is_refused():
    silent = replace(CASE, inputs=lambda rng, parameters, steps: {"a_in": np.zeros((steps, 2), int)})
    with pytest.raises(AssertionError, match="proves nothing"):
        check_process(custom.RunningSum, silent)
