"""DelayConnection: against its conformance case and against stock DelayDense and DelaySparse, which Intel wrote."""

import numpy as np
import pytest
from lava.proc.dense.process import DelayDense
from lava.proc.lif.process import LIF
from lava.proc.sparse.process import DelaySparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.delays import step_deliver
from lava_snnlearn.lava_backend import InProcessModel, LavaRunError, guarded, run_config, run_guarded
from lava_snnlearn.processes import DelayConnection, Recorder, SampleSource
from lava_snnlearn.testing import check_process

STOCK = {"dense": DelayDense, "sparse": DelaySparse}
TAGS = ["fixed_pt", "floating_pt"]
MODES = [SignMode.MIXED, SignMode.EXCITATORY, SignMode.INHIBITORY]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_conformance(seed):
    check_process(DelayConnection, seed=seed)


def matrices(rng, kind, shape, top, fill=0.6, low=-300, high=300):
    """Weights, a third of them absent in a sparse matrix, and delays, in the form that the stock process takes."""
    weights, delays = rng.integers(low, high, shape), rng.integers(0, top + 1, shape)
    if kind == "sparse":
        weights = np.where(rng.random(shape) < fill, weights, 0)
        return csr_matrix(weights), csr_matrix(np.where(weights, delays, 0))
    return weights, delays


@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")  # of stock DelaySparse
@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_stock(kind, tag, seed):
    """Bit by bit: in the float models the weights are integers too, so that sums are exact in any order."""
    rng = np.random.default_rng(seed)
    top = int(rng.choice([0, 1, 7, 62]))
    weights, delays = matrices(rng, kind, (7, 11), top)
    bits = int(rng.choice([0, 8]))
    options = {
        "weight_exp": int(rng.integers(0, 4)),
        "num_message_bits": bits,
        "num_weight_bits": int(rng.choice([8, 5])),
        "sign_mode": MODES[seed % 3],
        "max_delay": max(top, 1),
    }
    stock = InProcessModel(STOCK[kind](weights=weights, delays=delays, **options), tag)
    ours = InProcessModel(DelayConnection.dense(weights, delays, **options), tag)
    size = 9_000_000 if bits and tag == "fixed_pt" else 3  # sums wrap
    for _ in range(90):
        sent = (rng.random(11) < 0.4) * rng.integers(-size, size, 11)
        np.testing.assert_array_equal(ours.step(s_in=sent)["a_out"], stock.step(s_in=sent)["a_out"])


@pytest.mark.parametrize("kind", STOCK)
def test_real_weights_equal_stock_up_to_the_order_of_summation(kind):
    rng = np.random.default_rng(8)
    weights, delays = matrices(rng, kind, (6, 40), 9)
    weights = weights * 0.37
    stock = InProcessModel(STOCK[kind](weights=weights, delays=delays, num_message_bits=8), "floating_pt")
    ours = InProcessModel(DelayConnection.dense(weights, delays, num_message_bits=8), "floating_pt")
    for _ in range(60):
        sent = rng.normal(size=40)
        np.testing.assert_allclose(ours.step(s_in=sent)["a_out"], stock.step(s_in=sent)["a_out"], rtol=1e-12, atol=1e-11)


def loop(connection, steps, tag):
    """Stock LIF neurons that hear each other through the connection; what they spike."""
    n = connection.s_in.shape[0]
    kicks = (np.random.default_rng(5).random((steps, n)) < 0.1) * 400
    source, recorder = SampleSource(data=kicks), Recorder(shape=(n,), steps=steps)
    leak = {"du": 4095, "dv": 400} if tag == "fixed_pt" else {"du": 1, "dv": 0.125}
    neurons = LIF(shape=(n,), vth=60, **leak)
    source.s_out.connect(neurons.a_in)
    neurons.s_out.connect(connection.s_in)
    connection.a_out.connect(neurons.a_in)
    neurons.s_out.connect(recorder.s_in)
    run_guarded(source, steps, run_config(tag), time_limit=30)
    return recorder.spikes


@pytest.mark.parametrize("tag", TAGS)
def test_a_loop_with_stock_neurons(tag):
    rng = np.random.default_rng(6)
    weights, delays = matrices(rng, "dense", (9, 9), 8, low=-30, high=60)
    options = {"weight_exp": 0, "sign_mode": SignMode.MIXED}
    ours = loop(DelayConnection.dense(weights, delays, **options), 120, tag)
    np.testing.assert_array_equal(ours, loop(DelayDense(weights=weights, delays=delays, **options), 120, tag))
    assert 0.05 < ours.mean() < 0.95


@pytest.mark.parametrize("form", ["a_out", "spikes of before"])
def test_tables_set_between_runs_hold_for_spikes_from_then_on(form):
    """As in stock, whose Vars are matrices. What is under way keeps the delay and the weight that it left with."""
    rng = np.random.default_rng(7)
    weights, delays = 2 * rng.integers(-100, 100, (4, 6)), rng.integers(0, 9, (4, 6))
    later = 2 * rng.integers(-100, 100, (4, 6)), rng.integers(0, 13, (4, 6))
    sent = rng.integers(0, 2, (40, 6))
    if form == "spikes of before":
        sent[15:] = 0

    def run(connection):
        source, recorder = SampleSource(data=sent), Recorder(shape=(4,), steps=40)
        source.s_out.connect(connection.s_in)
        connection.a_out.connect(recorder.s_in)
        with guarded(source, time_limit=30) as network:
            network.run(15)
            for var, values in zip((connection.weights, connection.delays), later, strict=True):
                var.set(values.reshape(var.shape))
            network.run(25)
        return recorder.spikes

    options = {"max_delay": 12, "sign_mode": SignMode.MIXED}
    ours = run(DelayConnection.dense(weights, delays, **options))
    np.testing.assert_array_equal(ours, run(DelayDense(weights=weights, delays=delays, **options)))
    assert ours[15:].any()


def test_weights_that_are_set_are_cut_too_and_can_be_read():
    connection = DelayConnection.dense(np.array([[2, 5]]), sign_mode=SignMode.MIXED)
    source, recorder = SampleSource(data=np.ones((4, 2), int)), Recorder(shape=(1,), steps=4)
    source.s_out.connect(connection.s_in)
    connection.a_out.connect(recorder.s_in)
    with guarded(source, time_limit=30) as network:
        network.run(2)
        assert connection.weights.get().tolist() == [2, 4]
        connection.weights.set(np.array([-7, 999]))
        network.run(2)
        assert connection.weights.get().tolist() == [-8, 254]
    assert recorder.spikes[:, 0].tolist() == [0, 6, 6, 246]


@pytest.mark.parametrize("tag", TAGS)
def test_a_delay_set_beyond_max_delay_is_an_error_and_no_hang(tag):
    connection = DelayConnection.dense(np.array([[2, 4]]), np.array([[0, 3]]), max_delay=5)
    source = SampleSource(data=np.ones((4, 2), int))
    source.s_out.connect(connection.s_in)

    def run():
        with guarded(source, run_config(tag), time_limit=30) as network:
            network.run(2)
            connection.delays.set(np.array([0, 6]))
            network.run(2)

    with pytest.raises(LavaRunError, match=r"delays is 6 at index 1.*at most 5 steps: give max_delay="):
        run()


def test_a_table_that_a_ref_port_replaced_holds_from_then_on():
    """A VarPort leaves another array in the model, without a word."""
    model = InProcessModel(DelayConnection.dense(np.array([[2]]), max_delay=2))
    found = [model.step(s_in=[1])["a_out"][0] for _ in range(2)]
    model.model.weights = np.array([9])
    found += [model.step(s_in=[1])["a_out"][0] for _ in range(2)]
    model.model.delays = np.array([1])
    found += [model.step(s_in=[1])["a_out"][0] for _ in range(3)]
    assert found == [0, 2, 2, 8, 8, 0, 8]


@pytest.mark.parametrize("tag", TAGS)
def test_a_child_of_lava_has_nothing_to_compile(tag):
    connection = DelayConnection.dense(np.array([[2, 4]]), [[0, 1]], num_message_bits=8)
    known = list(step_deliver._dispatcher.signatures)
    model = InProcessModel(connection, tag)
    sent = np.array([[3, 0], [7, 0]])[:, 0]  # a view that skips
    assert [model.step(s_in=sent)["a_out"][0] for _ in range(3)] == [0, 6, 34]
    assert step_deliver._dispatcher.signatures == known


def test_parallel_synapses_add_up():
    """Two with the same delay, one with another, and one that shares weight and delay with a synapse elsewhere."""
    edges = {"target": [0, 0, 0, 1], "source": [1, 1, 1, 0], "weights": [10, 4], "delays": [0, 2]}
    connection = DelayConnection(shape=(2, 2), weight_index=[0, 0, 1, 1], delay_index=[0, 0, 1, 1], **edges)
    model = InProcessModel(connection)
    found = [model.step(s_in=row)["a_out"].tolist() for row in ([1, 1], [0, 0], [0, 0], [0, 0])]
    assert found == [[0, 0], [20, 0], [0, 0], [4, 4]]


@pytest.mark.parametrize("interval, last", [(None, 6), (3, 0), (4, 6)])
def test_what_is_under_way_is_dropped_when_a_sample_starts(interval, last):
    model = InProcessModel(DelayConnection.dense(np.array([[6]]), 2, reset_interval=interval))
    found = [model.step(s_in=[step == 0])["a_out"][0] for step in range(5)]
    assert found == [0, 0, 0, last, 0]


@pytest.mark.parametrize("empty", [csr_matrix((3, 2), dtype=int), np.zeros((3, 2), int)])
@pytest.mark.parametrize("tag", TAGS)
def test_no_synapse_carries_nothing(empty, tag):
    model = InProcessModel(DelayConnection.dense(empty, 3), tag)
    assert not any(model.step(s_in=[1, 1])["a_out"].any() for _ in range(9))


def test_matrices_of_all_forms_are_the_same_connection():
    rng = np.random.default_rng(9)
    weights, delays = matrices(rng, "sparse", (5, 6), 4)
    full, waits = weights.toarray(), delays.toarray()
    stored = full.nonzero()
    forms = [
        DelayConnection.dense(weights, delays),
        DelayConnection.dense(full, waits),
        DelayConnection.dense(weights, waits),
        DelayConnection.dense(full, delays),
        DelayConnection(shape=(5, 6), target=stored[0], source=stored[1], weights=full[stored], delays=waits[stored]),
    ]
    models = [InProcessModel(process) for process in forms]
    for _ in range(20):
        sent = rng.integers(0, 2, 6)
        rows = [model.step(s_in=sent)["a_out"].tolist() for model in models]
        assert all(row == rows[0] for row in rows)
    assert forms[0].weights.shape == (weights.nnz,)
    assert forms[1].weights.shape == (30,)


@pytest.mark.parametrize(
    "weights, delays, error, match",
    [
        (np.ones(3, int), 0, ValueError, r"weights has shape \(3,\)"),
        (np.ones((2, 2), int), np.zeros((2, 3), int), ValueError, r"delays has shape \(2, 3\), and weights \(2, 2\)"),
        (np.ones((2, 2), int), csr_matrix((3, 2), dtype=int), ValueError, r"delays has shape \(3, 2\)"),
        (np.ones((2, 2), int), np.zeros((2, 2)), TypeError, "delays is of type float64"),
        (np.ones((2, 2), int), 63, LimitError, "delays is 63.*relay neurons"),
    ],
)
def test_refused_matrices(weights, delays, error, match):
    with pytest.raises(error, match=match):
        DelayConnection.dense(weights, delays)


def test_negative_exponents_are_refused_with_the_reason():
    with pytest.raises(LimitError, match=r"weight_exp is -1.*right shift would cut each arrival bucket"):
        DelayConnection.dense(np.ones((2, 2), int), weight_exp=-1)


def test_the_fixed_model_refuses_what_it_would_have_to_cut():
    with pytest.raises(TypeError, match="float weights"):
        InProcessModel(DelayConnection.dense(np.array([[0.5]])))
    with pytest.raises(TypeError, match="received float64 on s_in"):
        InProcessModel(DelayConnection.dense(np.array([[2]]))).step(s_in=[0.5])
