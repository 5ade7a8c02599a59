"""SpideSynapse: against its conformance case, stock Dense in both directions, and what its three memories are for."""

import numpy as np
import pytest
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel, guarded
from lava_snnlearn.processes import SampleSource, SpideSynapse
from lava_snnlearn.testing import check_process

PERIOD = 4


def synapse(memory, **options):
    return SpideSynapse(memory=memory, learn_phase=PERIOD - 1, reset_interval=PERIOD, **options)


def learn(model, pre, post, samples=1):
    """Samples of one forward and one backward signal each; returns the view after each."""
    views = []
    for _ in range(samples):
        model.step(s_in=pre)
        model.step(b_in=post)
        model.step()
        model.step()
        views.append(model.read("view"))
    return np.array(views)


@pytest.mark.parametrize("seed", [0, 1])
def test_conformance(seed):
    check_process(SpideSynapse, seed=seed)


def test_both_directions_equal_stock_dense():
    rng = np.random.default_rng(3)
    weights = 2 * rng.integers(-128, 128, (6, 9))
    ours = InProcessModel(
        SpideSynapse(memory=weights, rule="nearest", exponent=2, back_exponent=3, learn_phase=0, reset_interval=99)
    )
    shared = {"num_message_bits": 8, "sign_mode": SignMode.MIXED}
    forward = InProcessModel(Dense(weights=weights, weight_exp=2, **shared))
    backward = InProcessModel(Dense(weights=weights.T.copy(), weight_exp=3, **shared))
    for _ in range(50):
        s, b = rng.integers(0, 256, 9), rng.integers(-1, 2, 6)
        sent = ours.step(s_in=s, b_in=b)
        assert np.array_equal(sent["a_out"], forward.step(s_in=s)["a_out"])
        assert np.array_equal(sent["b_out"], backward.step(s_in=b)["a_out"])


def test_the_memories_take_small_steps_in_their_own_ways():
    """80 updates of 1/8 of an 8-bit step: ten steps in the shadow; about ten at random; none when each is rounded away."""
    small = {"multiplier": 32, "shift": 0}  # 32 of the 256 shadow units of a step
    n = 40
    last = {}
    for rule in ("shadow", "stochastic", "nearest"):
        model = InProcessModel(synapse(np.zeros((n, n), int), rule=rule, seed=5, **small))
        last[rule] = learn(model, np.ones(n, int), -np.ones(n, int), samples=80)[-1]
    assert (last["shadow"] == 20).all()
    assert (last["nearest"] == 0).all()
    spread = last["stochastic"] / 2
    assert abs(spread.mean() - 10) < 4 * np.sqrt(80 * 7 / 64 / n**2)  # binomial: 80 draws of 1/8
    assert spread.std() == pytest.approx(np.sqrt(80 * 7 / 64), rel=0.1)


def test_random_bits_are_those_of_the_sample():
    """A run that goes on at sample 3 draws what the long run drew; another seed or sample draws something else."""
    options = {"rule": "stochastic", "multiplier": 100, "shift": 0}
    start = np.zeros((5, 7), int)
    pre, post = np.arange(7), np.array([1, -1, 2, 0, -3])
    whole = InProcessModel(synapse(start, seed=9, **options))
    views = learn(whole, pre, post, samples=6)
    assert whole.read("sample")[0] == 6
    again = learn(InProcessModel(synapse(views[2], seed=9, sample=3, **options)), pre, post, samples=3)
    assert np.array_equal(again, views[3:])
    for other in ({"seed": 10, "sample": 3}, {"seed": 9, "sample": 4}):
        assert not np.array_equal(learn(InProcessModel(synapse(views[2], **other, **options)), pre, post, samples=3), views[3:])


def test_nothing_is_learned_where_there_is_no_synapse():
    mask = np.array([[True, False], [False, True]])
    for rule in ("shadow", "stochastic", "nearest"):
        model = InProcessModel(synapse(np.full((2, 2), 64), rule=rule, mask=mask, multiplier=1000))
        view = learn(model, [3, 3], [1, 1])[-1]
        assert (view[~mask] == 0).all()
        assert (model.read("memory")[~mask] == 64).all()
        assert (model.read("memory")[mask] < 64).all()


def test_host_sets_memory_and_rate_between_samples():
    start = np.array([[256, -512], [1024, 0]])
    ours = synapse(start, multiplier=0, records=2)
    forward = SampleSource(data=np.tile([[3, 1], [0, 0], [0, 0], [0, 0]], (3, 1)))
    backward = SampleSource(data=np.tile([[0, 0], [1, -2], [0, 0], [0, 0]], (3, 1)))
    forward.s_out.connect(ours.s_in)
    backward.s_out.connect(ours.b_in)
    with guarded(ours) as network:
        network.run(PERIOD)
        unchanged = ours.memory.get()
        ours.memory.set(start // 2)
        ours.multiplier.set(np.array([64]))
        ours.shift.set(np.array([1]))
        network.run(PERIOD)
        changed, view = ours.memory.get(), ours.view.get()
        network.run(PERIOD)
        count = ours.sample.get()
    memories, views = ours.learned  # of the first two of three updates
    assert np.array_equal(unchanged, start)
    expected = start // 2 - 32 * np.outer([1, -2], [3, 1])
    assert np.array_equal(changed, expected)
    assert np.array_equal(view, 2 * ((expected + 128) // 256))
    assert count[0] == 3
    assert np.array_equal(memories, [start, expected])
    assert np.array_equal(views, [start // 128, view])
    assert memories.dtype == views.dtype == np.int32


def test_float_model_is_the_plain_rule():
    """Four samples of SPIDE's update in real numbers: W - 4 eta post pre^T, of which the view is 1/128."""
    rng = np.random.default_rng(1)
    start = rng.integers(-3000, 3000, (3, 4))
    pre, post = rng.random(4), rng.normal(size=3)
    model = InProcessModel(synapse(start, multiplier=5, shift=3), "floating_pt")
    view = learn(model, pre, post, samples=4)[-1]
    assert view == pytest.approx((start - 4 * 5 / 8 * np.outer(post, pre)) / 128, rel=1e-12)


@pytest.mark.parametrize(
    "port, value, text",
    [("s_in", 0.5, "fixed_pt model received float64 on s_in"), ("b_in", 0.5, "b_in"), ("s_in", 256, "s_in is 256")],
)
def test_signals_that_do_not_fit_are_refused(port, value, text):
    with pytest.raises((TypeError, LimitError), match=text):
        InProcessModel(synapse(np.zeros((2, 2), int))).step(**{port: [value, 0]})


def test_sums_beyond_int32_are_refused():
    """Instead of being cut by the channel."""
    model = InProcessModel(synapse(np.full((2, 2), 32767), back_exponent=30))
    with pytest.raises(LimitError, match=r"b_out .*2147483647"):
        model.step(b_in=[1, 0])
