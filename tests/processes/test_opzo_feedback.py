"""OPZOFeedback: against its conformance case, and what a learned feedback matrix is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel, guarded
from lava_snnlearn.processes import NoiseSource, OPZOFeedback, SampleSource
from lava_snnlearn.testing import check_process

PERIOD = 10


@pytest.mark.parametrize("seed", [0, 1])
def test_conformance(seed):
    check_process(OPZOFeedback, seed=seed)


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_models_equal_a_plain_loop_over_200_steps(tag, seed):
    """Integers exactly, reals to 1e-12 of the largest number of a trajectory."""
    case = OPZOFeedback.conformance_case()
    rng = np.random.default_rng(seed)
    parameters = case.parameters(rng)
    arrived = case.inputs(rng, parameters, 200)
    model = InProcessModel(OPZOFeedback(**parameters), tag)
    fixed = tag == "fixed_pt"
    expected = (case.fixed if fixed else case.floating)(parameters, arrived, 200)
    found = {name: [] for name in expected}
    for step in range(200):
        sent = model.step(**{port: rows[step] for port, rows in arrived.items()})
        for name, rows in found.items():
            rows.append(sent["g_out"] if name == "g_out" else model.read(name))
    for name, wanted in expected.items():
        error = abs(np.array(found[name]) - wanted).max()
        assert error <= (0 if fixed else 1e-12 * abs(wanted).max())


def estimate(weights, *, offset=0, delay=2, told=2, tag="fixed_pt", antithetic=True, samples=400, **options):
    """The matrix after the noise of many samples reached a linear readout ``delay`` steps late."""
    classes, n = weights.shape
    noise = InProcessModel(
        NoiseSource(shape=(n,), seed=1, steps=PERIOD - 4, t_start=1, reset_interval=PERIOD, antithetic=antithetic)
    )
    model = InProcessModel(
        OPZOFeedback(matrix=np.zeros((n, classes), int), delay=told, reset_interval=PERIOD, momentum=10, **options), tag
    )
    past = [np.zeros(n, int)] * delay
    for _ in range(samples * PERIOD):
        past.append(noise.step()["z_out"])
        model.step(z_in=past[-1], o_in=weights @ past[-1 - delay] + offset)
    return model.read("matrix")


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_the_matrix_becomes_the_transposed_weights(tag):
    """Spec check O2 and, for a noise that is misaligned by one step, O6."""
    weights = np.random.default_rng(0).integers(-200, 201, (4, 12))
    matrix = estimate(weights, tag=tag)
    assert cosine(matrix, weights.T) > 0.99
    assert np.linalg.norm(matrix) == pytest.approx(4096 * np.linalg.norm(weights), rel=0.1)
    assert abs(cosine(estimate(weights, told=1, tag=tag, antithetic=False), weights.T)) < 0.1


def test_an_offset_of_the_output_is_cancelled_by_pairs_or_by_the_running_mean():
    """Spec check O5: relative errors with an offset of ten times the answer."""
    weights = np.random.default_rng(1).integers(-100, 101, (3, 8))

    def error(**options):
        matrix = estimate(weights, offset=2000, **options)
        return np.linalg.norm(matrix / 4096 - weights.T) / np.linalg.norm(weights)

    assert error(antithetic=False) > 0.5
    assert error(antithetic=True) < 0.1
    assert error(antithetic=False, baseline=5) < 0.1


def test_the_first_update_replaces_the_start():
    """2 ** 0 of what is missing; then a half, a half, a quarter."""
    model = InProcessModel(OPZOFeedback(matrix=np.full((2, 1), 999), reset_interval=99))
    targets, expected = [40, 80, -8, 4], [40, 60, 26, 20.5]
    for value, mean in zip(targets, expected, strict=True):
        model.step(z_in=[1, -1], o_in=[value])
        assert (model.read("matrix") / 4096).tolist() == [[mean], [-mean]]
    assert model.read("count").tolist() == [4]


def test_noise_does_not_reach_into_the_next_sample():
    model = InProcessModel(OPZOFeedback(matrix=[[5], [6]], delay=2, reset_interval=4))
    for step in range(12):
        noisy = step % 4 >= 2  # answered two steps later: in the next sample
        model.step(z_in=[1, 1] if noisy else [0, 0], o_in=[100], e_in=[1 if step % 4 == 3 else 0])
    assert model.read("matrix").tolist() == [[5], [6]]
    assert model.read("buffer").tolist() == [5, 6]
    assert model.step()["g_out"].tolist() == [0, 0]


def test_fixed_feedback_is_a_product_one_step_late():
    """Direct feedback alignment: rounded, clipped, and untouched by noise."""
    matrix = np.array([[4096, 0], [-2048, 2048], [32767 << 12, 1]])
    model = InProcessModel(OPZOFeedback(matrix=matrix, learning=False, shift=12, reset_interval=9))
    model.step(z_in=[1, -1, 1], o_in=[300, 300], e_in=[3, -128])
    assert model.step()["g_out"].tolist() == [3, -65, 127]  # -65.5 rounds up
    assert np.array_equal(model.read("matrix"), matrix)
    assert model.read("count").tolist() == [0]


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_extremes_stay_within_their_bits(tag):
    """Largest matrix, outputs of 32 bits, largest errors; only the fixed model clips."""
    largest = 32767 << 12
    model = InProcessModel(OPZOFeedback(matrix=[[largest, -largest]], baseline=1, shift=-12, reset_interval=99), tag)
    for sign in (1, -1, 1, 1):
        model.step(z_in=[1], o_in=[sign * (2**31 - 1), -sign * (2**31 - 1)], e_in=[255, -255])
    fixed = tag == "fixed_pt"
    assert (abs(model.read("matrix")).max() <= largest) == fixed
    assert (abs(model.read("mean")).max() <= 32767 << 8) == fixed
    assert (abs(model.read("buffer")) == 127).all() == fixed


def test_host_switches_learning_and_reads_the_record():
    weights = np.array([[40, -8], [16, 24], [0, 80]])
    noise = NoiseSource(shape=(3,), seed=5, steps=4, reset_interval=4)
    ours = OPZOFeedback(matrix=np.zeros((3, 2), int), reset_interval=4, records=6)
    SampleSource(data=np.tile(weights.sum(0), (12, 1))).s_out.connect(ours.o_in)
    noise.z_out.connect(ours.z_in)
    with guarded(ours) as network:
        network.run(4)
        learned, count = ours.matrix.get(), ours.count.get()
        ours.learning.set(np.array([0]))
        network.run(4)
        kept = ours.matrix.get()
        ours.learning.set(np.array([1]))
        network.run(4)
        assert ours.count.get().tolist() == [8]
    assert count.tolist() == [4]
    assert np.array_equal(learned, kept)
    rows = ours.learned
    assert rows.shape == (6, 3, 2)
    assert rows.dtype == np.int32
    assert rows[0].any()
    assert np.array_equal(rows[3:], np.stack([learned] * 3))


@pytest.mark.parametrize(
    "port, value, text",
    [("z_in", 2, "z_in is 2 .*-1, 0 or 1"), ("e_in", -256, "e_in is -256"), ("o_in", 0.5, "received float64 on o_in")],
)
def test_signals_that_do_not_fit_are_refused(port, value, text):
    with pytest.raises((TypeError, LimitError), match=text):
        InProcessModel(OPZOFeedback(matrix=[[1, 2]], reset_interval=3)).step(**{port: [value, 0][: 1 if port == "z_in" else 2]})
