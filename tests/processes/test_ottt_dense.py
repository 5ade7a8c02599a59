"""OTTTDense: against its conformance case, stock Dense, the library's rules in numpy, and the gradient it stands for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.plasticity import RULES, count_update, nearest_update, stochastic_update
from lava_snnlearn.lava_backend import InProcessModel, guarded, run_guarded
from lava_snnlearn.processes import ErrorReadout, OTTTDense, PerturbedLIF, Recorder, SampleSource
from lava_snnlearn.testing import check_process


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_conformance(seed):
    check_process(OTTTDense, seed=seed)


@st.composite
def synapses(draw):
    rule = draw(st.sampled_from(RULES))
    weight = st.integers(-32767, 32767) if rule == "shadow" else st.integers(-128, 127).map(lambda w: 2 * w)
    period = draw(st.integers(1, 40))
    return {
        "memory": np.array(draw(st.lists(weight, min_size=12, max_size=12))).reshape(3, 4),
        "rule": rule,
        "update": draw(st.sampled_from(["online", "accumulate"])),
        "exponent": draw(st.integers(0, 7)),
        "back_exponent": draw(st.integers(-40, 31)),
        "impulse": draw(st.integers(1, 127)),
        "dv": draw(st.sampled_from([0, 4096]) | st.integers(0, 4096)),
        "delay": draw(st.integers(0, min(period - 1, 8))),
        "spike_bits": draw(st.sampled_from([0, 2, 3, 12])),
        "multiplier": draw(st.sampled_from([0, 32767]) | st.integers(0, 32767)),
        "shift": draw(st.sampled_from([0, 40]) | st.integers(6, 20)),
        "projected": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**62 - 1)),
        "sample": draw(st.integers(0, 2**40 - 201)),
        "learn_phase": draw(st.none() | st.integers(0, period - 1)),
        "reset_interval": period,
    }


@settings(deadline=None, max_examples=30)
@given(parameters=synapses(), seed=st.integers(0, 2**32 - 1))
def test_fixed_model_equals_plain_integers_over_200_steps(parameters, seed):
    case = OTTTDense.conformance_case()
    arrived = case.inputs(np.random.default_rng(seed), parameters, 200)
    expected = case.fixed(parameters, arrived, 200)
    model = InProcessModel(OTTTDense(**parameters))
    for step in range(200):
        sent = model.step(**{port: rows[step] for port, rows in arrived.items()})
        for name, rows in expected.items():
            assert np.array_equal(sent[name] if name in sent else model.read(name), rows[step]), (name, step)


@pytest.mark.parametrize("rule", RULES)
def test_updates_are_those_of_the_rules_in_numpy(rule):
    """Online, with the number of the step in place of the sample's; a trace by a plain loop."""
    rng = np.random.default_rng(4)
    n_out, n_in, period, sample = 7, 11, 6, 5
    memory = (100 if rule == "shadow" else 2) * rng.integers(-90, 90, (n_out, n_in))
    rate = {"multiplier": 1234, "shift": 9}
    model = InProcessModel(
        OTTTDense(memory=memory, rule=rule, impulse=30, dv=2048, seed=8, sample=sample, reset_interval=period, **rate)
    )
    changes, trace = 0, np.zeros(n_in, int)
    for step in range(240):
        spikes, factor = rng.integers(0, 2, n_in), rng.integers(-128, 128, n_out)
        trace = np.minimum((0 if step % period == 0 else trace // 2) + 30 * spikes, 127)
        model.step(s_in=spikes, m_in=factor)
        before = memory
        if rule == "stochastic":
            memory = stochastic_update(memory, trace, factor, **rate, seed=8, sample=sample * period + step)
        else:
            memory = (count_update if rule == "shadow" else nearest_update)(memory, trace, factor, **rate)
        assert np.array_equal(model.read("memory"), memory)
        changes += np.count_nonzero(memory != before)
    assert changes > 1000
    assert model.read("sample").tolist() == [sample + 40]


def test_both_directions_equal_stock_dense():
    rng = np.random.default_rng(3)
    weights = 2 * rng.integers(-128, 128, (6, 9))
    ours = InProcessModel(OTTTDense(memory=weights, rule="nearest", exponent=2, reset_interval=99))
    shared = {"num_message_bits": 24, "sign_mode": SignMode.MIXED}
    forward = InProcessModel(Dense(weights=weights, weight_exp=2, **shared))
    backward = InProcessModel(Dense(weights=weights.T.copy(), **shared))
    for _ in range(50):
        s, m = rng.integers(0, 256, 9), rng.integers(-1, 2, 6)
        sent = ours.step(s_in=s, m_in=m)
        assert np.array_equal(sent["a_out"], forward.step(s_in=s)["a_out"])
        assert np.array_equal(sent["b_out"], np.clip(backward.step(s_in=m)["a_out"], -127, 127))


@pytest.mark.parametrize("update", ["online", "accumulate"])
def test_float_model_is_the_gradient_of_ottt(update):
    """Eq. 8: sum over t of g[t] times sum over s <= t of lambda^(t - s) s[s], with factors that come three steps late."""
    rng = np.random.default_rng(1)
    steps, late, decay = 12, 3, 0.75
    spikes, factors = rng.integers(0, 2, (steps, 5)), rng.normal(size=(steps, 4))
    start = rng.integers(-3000, 3000, (4, 5))
    options = {"dv": 1024, "delay": late, "multiplier": 5, "shift": 3, "reset_interval": steps + late}
    model = InProcessModel(OTTTDense(memory=start, update=update, **options), "floating_pt")
    for _ in range(2):
        for step in range(steps + late):
            s = spikes[step] if step < steps else np.zeros(5)
            model.step(s_in=s, m_in=factors[step - late] if step >= late else np.zeros(4))
    gradient = sum(np.outer(factors[t], sum(decay ** (t - s) * spikes[s] for s in range(t + 1))) for t in range(steps))
    assert model.read("memory") == pytest.approx(start - 2 * 5 / 8 * gradient, rel=1e-12)


def test_noise_on_spikes_is_carried_but_leaves_no_trace():
    memory = np.array([[2, -4, 6]])
    model = InProcessModel(OTTTDense(memory=memory, rule="nearest", spike_bits=2, impulse=10, reset_interval=9))
    for sent, spikes in (([4, 1, -1], [1, 0, 0]), ([3, 5, 0], [1, 1, 0]), ([-1, 4, 1], [0, 1, 0])):
        trace = model.read("trace")
        model.step(s_in=sent)
        assert model.read("a_buffer").tolist() == (memory @ sent).tolist()
        assert (model.read("trace") - trace).tolist() == [10 * s for s in spikes]


def test_a_projected_trace_replaces_the_trace_only_where_it_learns():
    start = np.zeros((2, 3), int)
    model = InProcessModel(OTTTDense(memory=start, projected=True, multiplier=1, reset_interval=9))
    sent = model.step(s_in=[1, 1, 0], m_in=[2, -3], r_in=[5, 0, -7])
    assert sent["x_out"].tolist() == [1, 1, 0]
    assert np.array_equal(model.read("memory"), -np.outer([2, -3], [5, 0, -7]))


def test_random_bits_are_those_of_the_sample():
    """A run that goes on at sample 3 draws what the long run drew; another seed or sample draws something else."""
    rng = np.random.default_rng(2)
    period = 5
    spikes, factors = rng.integers(0, 2, (6 * period, 7)), rng.integers(-128, 128, (6 * period, 4))

    def memories(start, first, update, **options):
        model = InProcessModel(
            OTTTDense(
                memory=start, rule="stochastic", update=update, impulse=20, multiplier=50, reset_interval=period, **options
            )
        )
        rows = []
        for s, m in zip(spikes[first * period :], factors[first * period :], strict=True):
            model.step(s_in=s, m_in=m)
            rows.append(model.read("memory"))
        return np.array(rows)

    for update in ("online", "accumulate"):
        whole = memories(np.zeros((4, 7), int), 0, update, seed=9)
        middle = whole[3 * period - 1]
        assert np.array_equal(memories(middle, 3, update, seed=9, sample=3), whole[3 * period :])
        for other in ({"seed": 10, "sample": 3}, {"seed": 9, "sample": 4}):
            assert not np.array_equal(memories(middle, 3, update, **other), whole[3 * period :])


def test_host_sets_memory_and_rate_between_samples():
    start = np.array([[256, -512], [1024, 0]])
    ours = OTTTDense(memory=start, reset_interval=2, records=3)
    SampleSource(data=np.tile([[3, 1], [0, 0]], (3, 1))).s_out.connect(ours.s_in)
    SampleSource(data=np.tile([[0, 0], [1, -2]], (3, 1))).s_out.connect(ours.m_in)
    with guarded(ours) as network:
        network.run(2)
        unchanged = ours.memory.get()
        ours.memory.set(start // 2)
        ours.multiplier.set(np.array([64]))
        ours.shift.set(np.array([1]))
        network.run(2)
        changed, count = ours.memory.get(), ours.sample.get()
    expected = start // 2 - 32 * np.outer([1, -2], [3, 1])
    assert np.array_equal(unchanged, start)
    assert np.array_equal(changed, expected)
    assert count.tolist() == [2]
    assert np.array_equal(ours.memories, [start, start, start // 2])
    assert ours.memories.dtype == np.int32


def parts(update, position):
    """Two plastic connections, hidden neurons and a readout; three samples of eight steps, factors aligned by delays."""
    rng = np.random.default_rng(6)
    times = {"reset_interval": 12}
    shared = {"impulse": 40, "dv": 2048, "multiplier": 9000, "shift": 8, "update": update, "rule": "stochastic", **times}
    hidden = OTTTDense(memory=2 * rng.integers(-60, 90, (6, 5)), delay=3, seed=1, **shared)
    neurons = PerturbedLIF(
        shape=(6,), vth=120, table_shift=7, delay=2, t_start=1, t_stop=9, spike_bits=2, position=position, amplitude=90, **times
    )
    readout = OTTTDense(
        memory=2 * rng.integers(-60, 61, (3, 6)), delay=1, seed=2, spike_bits=2, back_exponent=-6, records=36, **shared
    )
    error = ErrorReadout(shape=(3,), shift=5, dv=2048, t_start=2, t_stop=10, **times)
    phase = np.arange(36) % 12
    spikes = rng.integers(0, 2, (36, 5)) * (phase < 8)[:, None]
    noise = rng.choice([-1, 1], (36, 6))
    targets = np.eye(3, dtype=int)[rng.integers(0, 3, 36)] * (phase == 0)[:, None]
    return (hidden, neurons, readout, error), (spikes, noise, targets)


@pytest.mark.parametrize("update, position", [("online", "post"), ("accumulate", "pre")])
def test_a_network_with_feedback_learns_on_lava_without_blocking(update, position):
    """Equal to its parts stepped one after the other in this interpreter: neurons, readout, connections."""
    (hidden, neurons, readout, error), (spikes, noise, targets) = parts(update, position)
    for data, port in ((spikes, hidden.s_in), (noise, neurons.z_in), (targets, error.y_in)):
        SampleSource(data=data).s_out.connect(port)
    hidden.a_out.connect(neurons.a_in)
    neurons.s_out.connect(readout.s_in)
    neurons.m_out.connect(hidden.m_in)
    readout.a_out.connect(error.a_in)
    readout.b_out.connect(neurons.d_in)
    error.e_out.connect(readout.m_in)
    seen = Recorder(shape=(6, 5), steps=36)
    seen.v_ref.connect_var(hidden.memory)
    run_guarded(hidden, 36)

    models = [InProcessModel(process) for process in parts(update, position)[0]]
    hidden_model, neuron_model, readout_model, error_model = models
    expected, last = [], []
    for step in range(36):
        going = step % 12 > 0
        sums, back, evidence = (
            going * model.read(name)
            for model, name in ((hidden_model, "a_buffer"), (readout_model, "b_buffer"), (readout_model, "a_buffer"))
        )
        fired = neuron_model.step(a_in=sums, d_in=back, z_in=noise[step])
        wrong = error_model.step(a_in=evidence, y_in=targets[step])["e_out"]
        readout_model.step(s_in=fired["s_out"], m_in=wrong)
        hidden_model.step(s_in=spikes[step], m_in=fired["m_out"])
        expected.append(hidden_model.read("memory"))
        last.append(readout_model.read("memory"))
    assert np.array_equal(seen.membranes, expected)
    assert np.array_equal(readout.memories, last)
    assert np.count_nonzero(expected[-1] != hidden.memory.init) > 10
    assert np.count_nonzero(last[-1] != readout.memory.init) > 5


@pytest.mark.parametrize(
    "port, value, text",
    [
        ("s_in", 0.5, "fixed_pt model received float64 on s_in"),
        ("s_in", 1 << 40, "s_in is 1099511627776"),
        ("m_in", -129, "m_in is -129"),
        ("r_in", 128, "r_in is 128"),
    ],
)
def test_signals_that_do_not_fit_are_refused(port, value, text):
    with pytest.raises((TypeError, LimitError), match=text):
        InProcessModel(OTTTDense(memory=np.zeros((2, 2), int), reset_interval=3)).step(**{port: [value, 0]})


def test_sums_beyond_int32_are_refused():
    """Instead of being cut by the channel."""
    model = InProcessModel(OTTTDense(memory=[[254]], rule="nearest", exponent=7, reset_interval=3))
    model.step(s_in=[66052])
    with pytest.raises(LimitError, match=rf"a_out is {254 * 128 * 66053} .*2147483647"):
        model.step(s_in=[66053])
