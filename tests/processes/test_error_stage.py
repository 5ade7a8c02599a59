"""ErrorStage: against its conformance case, the exact softmax, and at the ends of its range."""

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel
from lava_snnlearn.processes import ErrorStage
from lava_snnlearn.testing import check_process

PHASE, PERIOD = 4, 6


def stage(classes, tag="fixed_pt", **options):
    return InProcessModel(ErrorStage(shape=(classes,), error_phase=PHASE, reset_interval=PERIOD, **options), tag)


def error(model, z, label):
    """What is sent in the error phase of a sample in which z arrives in parts; nothing may be sent in another one."""
    z, target = np.asarray(z), np.eye(len(z), dtype=int)[label] if label is not None else np.zeros(len(z), int)
    parts = [z - z // 2, z // 2, np.zeros_like(z)]
    sent = [model.step(a_in=part, y_in=target * (t == 1))["e_out"] for t, part in enumerate([*parts, *parts[2:] * 3])]
    assert not np.any(sent[:PHASE])
    assert not np.any(sent[PHASE + 1 :])
    return sent[PHASE]


@pytest.mark.parametrize("seed", [0, 1])
def test_conformance(seed):
    check_process(ErrorStage, seed=seed)


def test_softmax_error_is_the_gradient_of_cross_entropy():
    """To 1/128 of the table's and the quotient's rounding: the index is floored by up to one entry of 1/16."""
    rng = np.random.default_rng(0)
    fixed, real = stage(10, shift=5), stage(10, "floating_pt", shift=5)
    for _ in range(100):
        logits, label = rng.normal(size=10) * 3, int(rng.integers(10))
        z = np.rint(logits * 16 * 32).astype(int)
        p = np.exp(z / 512) / np.exp(z / 512).sum()
        exact = 128 * (p - np.eye(10)[label])
        assert error(real, z, label) == pytest.approx(exact, abs=1e-9)
        assert np.abs(error(fixed, z, label) - exact).max() < 1 + 128 / 16 / 4


def test_certain_answers():
    model = stage(3, shift=0)
    assert error(model, [5000, 0, 0], 0).tolist() == [0, 0, 0]
    assert error(model, [5000, 0, 0], 2).tolist() == [127, 0, -128]
    assert error(model, [7, 7, 7], 1).tolist() == [42, 42 - 128, 42]


def test_squared_error():
    model = stage(3, kind="mse", shift=3)
    assert error(model, [1024, 0, 0], 0).tolist() == [0, 0, 0]
    assert error(model, [1024, 512, -8], 1).tolist() == [127, -64, -1]
    assert error(model, [4, 3, 11], 2).tolist() == [1, 0, 1 - 128]  # rounded to nearest, halves up
    assert error(stage(3, "floating_pt", kind="mse", shift=3), [4, 3, 11], 2).tolist() == [0.5, 0.375, 1.375 - 128]


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("kind", ["softmax", "mse"])
def test_without_a_target_nothing_is_sent(kind, tag):
    model = stage(3, tag, kind=kind)
    assert error(model, [900, -20, 4], 1).any()
    assert not error(model, [900, -20, 4], None).any()
    assert model.read("z").tolist() == [900, -20, 4]


def test_potentials_beyond_int32_are_refused():
    model = stage(2)
    model.step(a_in=[2**31 - 1, 0])
    with pytest.raises(LimitError, match="z is 2147483648"):
        model.step(a_in=[1, 0])


@pytest.mark.parametrize("port", ["a_in", "y_in"])
def test_float_input_is_refused_by_the_fixed_model(port):
    with pytest.raises(TypeError, match=f"received float64 on {port}"):
        stage(2).step(**{port: [0.5, 0]})
