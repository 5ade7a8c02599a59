"""ErrorReadout: against its conformance case, ErrorStage, the kernel of the simulator, and the gradient of the loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.local_learning import step_output_error
from lava_snnlearn.fixed_point.plasticity import ERRORS, softmax_table
from lava_snnlearn.lava_backend import InProcessModel
from lava_snnlearn.processes import ErrorReadout, ErrorStage
from lava_snnlearn.testing import check_process


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_conformance(seed):
    check_process(ErrorReadout, seed=seed)


@st.composite
def readouts(draw):
    start = draw(st.integers(0, 5))
    later = st.none() | st.integers(start + 1, start + 30)
    return {
        "shape": (4,),
        "kind": draw(st.sampled_from(ERRORS)),
        "shift": draw(st.sampled_from([0, 30]) | st.integers(0, 16)),
        "table_step": draw(st.sampled_from([1e-3, 1 / 16, 5.0])),
        "dv": draw(st.sampled_from([0, 4096]) | st.integers(0, 4096)),
        "t_start": start,
        "t_stop": draw(later),
        "reset_interval": draw(later),
    }


@settings(deadline=None, max_examples=30)
@given(parameters=readouts(), seed=st.integers(0, 2**32 - 1))
def test_fixed_model_equals_plain_integers_over_200_steps(parameters, seed):
    case = ErrorReadout.conformance_case()
    arrived = case.inputs(np.random.default_rng(seed), parameters, 200)
    expected = case.fixed(parameters, arrived, 200)
    model = InProcessModel(ErrorReadout(**parameters))
    for step in range(200):
        sent = model.step(**{port: rows[step] for port, rows in arrived.items()})
        for name, rows in expected.items():
            assert np.array_equal(sent[name] if name in sent else model.read(name), rows[step]), (name, step)


@pytest.mark.parametrize("kind", ERRORS)
def test_error_is_that_of_the_simulators_kernel(kind):
    rng = np.random.default_rng(3)
    shift, table = 4, softmax_table(1 / 16)
    for largest in (5, 3000, 2**31 - 1):
        model = InProcessModel(ErrorReadout(shape=(10,), kind=kind, shift=shift, dv=4096, reset_interval=1))
        for _ in range(100):
            output, label = rng.integers(-largest, largest, 10).astype(np.int32), int(rng.integers(10))
            error = np.zeros(10, np.int32)
            step_output_error(ERRORS.index(kind), output, label, table, shift, error)
            assert np.array_equal(model.step(a_in=output, y_in=np.eye(10, dtype=int)[label])["e_out"], error)


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("kind", ERRORS)
def test_without_leak_the_last_error_is_that_of_the_error_stage(kind, tag):
    rng = np.random.default_rng(5)
    shared = {"shape": (3,), "kind": kind, "shift": 5, "reset_interval": 8}
    ours, stage = InProcessModel(ErrorReadout(**shared), tag), InProcessModel(ErrorStage(error_phase=7, **shared), tag)
    for _ in range(20):
        label = np.eye(3, dtype=int)[rng.integers(3)]
        for step in range(8):
            arrived = {"a_in": rng.integers(-300, 300, 3), "y_in": label * (step == 2)}
            sent, wanted = ours.step(**arrived), stage.step(**arrived)
        assert np.array_equal(sent["e_out"], wanted["e_out"])
        assert np.array_equal(ours.read("z"), stage.read("z"))


def test_errors_are_the_gradients_of_each_steps_cross_entropy():
    """A readout that keeps half; logits are output / (16 * 2 ** 3)."""
    rng = np.random.default_rng(0)
    options = {"shape": (5,), "shift": 3, "dv": 2048, "reset_interval": 10}
    fixed, real = InProcessModel(ErrorReadout(**options)), InProcessModel(ErrorReadout(**options), "floating_pt")
    output, label = np.zeros(5), 3
    for step in range(10):
        current = rng.integers(-200, 200, 5)
        output = output / 2 + current
        p = np.exp(output / 128) / np.exp(output / 128).sum()
        exact = 128 * (p - np.eye(5)[label])
        arrived = {"a_in": current, "y_in": np.eye(5, dtype=int)[label] * (step == 0)}
        assert real.step(**arrived)["e_out"] == pytest.approx(exact, rel=1e-12, abs=1e-12)
        assert np.abs(fixed.step(**arrived)["e_out"] - exact).max() < 1 + 128 / 16 / 4 + 128 / 128


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("kind", ERRORS)
def test_nothing_is_wrong_before_a_target_comes_and_after_the_last_active_step(kind, tag):
    model = InProcessModel(ErrorReadout(shape=(2,), kind=kind, shift=3, t_start=1, t_stop=5, reset_interval=6), tag)
    for target in ([0, 1], [0, 0]):
        found = []
        for step in range(6):
            sent = model.step(a_in=[70, -9], y_in=target if step == 2 else [0, 0])
            found.append(bool(sent["e_out"].any()))
            assert sent["o_out"].tolist() == ([70, -9] if 1 <= step < 5 else [0, 0])
        assert found == [any(target) and 2 <= step < 5 for step in range(6)]
        assert model.read("z").tolist() == [280, -36]


def test_outputs_hold_this_step_alone():
    """What a feedback matrix learns from; the evidence is the sum all the same."""
    model = InProcessModel(ErrorReadout(shape=(1,), dv=0))
    assert [model.step(a_in=[value])["o_out"].item() for value in (5, -3, 40)] == [5, -3, 40]
    assert model.read("output").tolist() == model.read("z").tolist() == [42]


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_the_first_outputs_are_recorded(tag):
    process = ErrorReadout(shape=(2,), dv=2048, t_stop=3, reset_interval=4, records=6)
    model = InProcessModel(process, tag)
    for _ in range(8):
        model.step(a_in=[64, -32])
    assert process.outputs.tolist() == [[64, -32], [96, -48], [112, -56], [112, -56], [64, -32], [96, -48]]
    assert process.outputs.dtype == (np.int32 if tag == "fixed_pt" else np.float64)


def test_potentials_beyond_int32_are_refused():
    model = InProcessModel(ErrorReadout(shape=(2,), dv=4096))
    model.step(a_in=[2**31 - 1, 0])
    with pytest.raises(LimitError, match="z is 2147483648"):  # what leaks fits, the sum of all steps does not
        model.step(a_in=[1, 0])
    model = InProcessModel(ErrorReadout(shape=(1,), dv=2048))
    for value in (-(2**31) + 2, 2**31 - 1):  # z is 1 then, output 2 ** 30
        model.step(a_in=[value])
    with pytest.raises(LimitError, match=f"output is {2**29 + 2**31 - 2}"):
        model.step(a_in=[2**31 - 2])


@pytest.mark.parametrize("port", ["a_in", "y_in"])
def test_float_input_is_refused_by_the_fixed_model(port):
    with pytest.raises(TypeError, match=f"received float64 on {port}"):
        InProcessModel(ErrorReadout(shape=(2,))).step(**{port: [0.5, 0]})
