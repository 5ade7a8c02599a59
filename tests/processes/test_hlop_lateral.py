"""HLOPLateral: against its conformance case, and what a subspace is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel, guarded
from lava_snnlearn.processes import HLOPLateral, SampleSource
from lava_snnlearn.testing import check_process
from lava_snnlearn.testing.cases.hlop_lateral import trajectory

ONE = 1 << 14


def lateral(subspace, tag="fixed_pt", **options):
    return InProcessModel(HLOPLateral(subspace=subspace, **{"learn_phase": 0, "reset_interval": 1} | options), tag)


@pytest.mark.parametrize("seed", [0, 1])
def test_conformance(seed):
    check_process(HLOPLateral, seed=seed)


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_models_equal_a_plain_loop_over_200_steps(tag, seed):
    """Integers exactly, reals to 1e-12 of the largest number of a trajectory."""
    case = HLOPLateral.conformance_case()
    rng = np.random.default_rng(seed)
    fixed = tag == "fixed_pt"
    parameters = (case.parameters if fixed else case.float_parameters)(rng)
    arrived = case.inputs(rng, parameters, 200)
    model = InProcessModel(HLOPLateral(**parameters), tag)
    expected = trajectory(parameters, arrived, 200, fixed=fixed)
    found = {name: [] for name in expected}
    for x in arrived["x_in"]:
        found["r_out"].append(model.step(x_in=x)["r_out"])
        for name in ("subspace", "velocity", "sums", "sample"):
            found[name].append(model.read(name))
    for name, wanted in expected.items():
        error = abs(np.array(found[name]) - wanted).max()
        assert error <= (0 if fixed else 1e-12 * abs(wanted).max())


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_old_rows_are_taken_out_of_the_trace(tag):
    """A unit vector takes its component, two orthonormal ones the plane; new rows take nothing."""
    oblique = np.rint(ONE * np.array([[0, 0.6, 0.8, 0]])).astype(int)
    basis = np.concatenate([[[ONE, 0, 0, 0]], oblique, [[0, 0, 0, ONE]]])
    rest = lateral(basis, tag, old=2, learning=False).step(x_in=[90, 60, 80, 70])["r_out"]
    assert rest == pytest.approx([0, 0, 0, 70], abs=0.5 if tag == "fixed_pt" else 0.01)


def test_without_old_rows_the_trace_passes_clipped():
    model = lateral(np.full((2, 3), ONE), old=0)
    assert model.step(x_in=[200, 5, -255])["r_out"].tolist() == [127, 5, -127]


def plane(rng, n, rank, samples):
    """Traces of 7 bits, all near a subspace of that rank in which one direction is not like another."""
    directions = abs(rng.normal(size=(rank, n)))
    strength = rng.random((samples, rank)) ** 2 * np.array([40, 25, 16, 10])[:rank]
    return np.clip(np.rint(strength @ directions + rng.random((samples, n)) * 3), 0, 127).astype(int)


def captured(rows, traces):
    """Share of the traces' energy in the span of the rows."""
    q, _ = np.linalg.qr(np.asarray(rows, float).T)
    return ((traces @ q) ** 2).sum() / (traces**2).sum()


def trained(basis, traces, tag, **options):
    model = lateral(basis, tag, shift=8, average=8, **options)
    for trace in traces:
        model.step(x_in=trace)
    return model.read("subspace")


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_rows_come_to_span_the_principal_subspace_and_then_the_rest(tag):
    """Spec checks H2 (energy against the exact one), H3 (orthonormal rows) and H4 (a second subspace beside the first)."""
    rng = np.random.default_rng(2)
    n, rows = 10, 2
    start = np.rint(ONE * np.linalg.qr(rng.normal(size=(n, n)))[0].T).astype(int)
    first = plane(rng, n, 3, 12_000)
    learned = trained(start[:rows], first, tag, multiplier=1)
    best = np.linalg.eigvalsh(first.T @ first)[-rows:].sum() / (first**2).sum()
    assert captured(learned, first) > 0.99 * best
    gram = learned.astype(float) @ learned.T / ONE**2
    assert abs(gram - np.eye(rows)).max() < 0.01

    second = plane(rng, n, 3, 12_000)
    both = trained(np.concatenate([learned.astype(int), start[rows : 2 * rows]]), second, tag, multiplier=8, old=rows)
    assert np.array_equal(both[:rows], learned.astype(int))  # frozen
    both = both.astype(float)
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    assert abs(unit[rows:] @ unit[:rows].T).max() < 0.02
    fresh = second - second @ np.linalg.pinv(both[:rows]) @ both[:rows]
    best = np.linalg.eigvalsh(fresh.T @ fresh)[-rows:].sum() / (fresh**2).sum()
    assert captured(both[rows:], fresh) > 0.97 * best


def test_nothing_is_learned_outside_of_its_time():
    options = {"multiplier": 1000, "learn_phase": 3, "reset_interval": 6, "t_start": 1, "t_stop": 3}
    basis = np.full((2, 3), 4000)
    silent = lateral(basis, **options)
    for step in range(18):
        silent.step(x_in=[0, 0, 0] if step % 6 in (1, 2) else [99, 9, 50])
    assert np.array_equal(silent.read("subspace"), basis)
    assert silent.read("sample").tolist() == [3]
    for still in (lateral(basis, old=2, **options), lateral(basis, learning=False, velocity=np.full((2, 3), 9999), **options)):
        for _ in range(18):
            still.step(x_in=[99, 9, 50])
        assert np.array_equal(still.read("subspace"), basis)
        assert not still.read("sums").any()
    heard = lateral(basis, **options)
    for _ in range(18):
        heard.step(x_in=[99, 9, 50])
    assert not np.array_equal(heard.read("subspace"), basis)


def test_known_step():
    """By hand: y = (1/2 16) 2^6, left 16 - 8 and 3; V = 2 * 512 * (8, 3); H moves by V / 256."""
    model = lateral([[ONE // 2, 0]], multiplier=2)
    assert model.step(x_in=[16, 3])["r_out"].tolist() == [16, 3]
    # What is sent back is y / 2 = 4 of the first trace.
    assert model.read("velocity").tolist() == [[2 * 512 * 12, 2 * 512 * 3]]
    assert model.read("subspace").tolist() == [[ONE // 2 + 48, 12]]
    assert not model.read("sums").any()


def test_extremes_stay_within_their_bits():
    """The largest subspace, rate and traces of both signs: clipped to 16 and 30 bits, and never wrapped."""
    model = lateral(np.full((3, 40), 32767), multiplier=32767, old=1)
    for trace in (255, -255, 127):
        rest = model.step(x_in=np.full(40, trace))["r_out"]
        assert (rest == (-127 if trace > 0 else 127)).all()  # far more is taken out than there is
    assert (abs(model.read("subspace")) == 32767).all()
    assert (abs(model.read("velocity")[1:]) == (1 << 29) - 1).all()
    assert not model.read("velocity")[0].any()


def test_a_run_goes_on_from_its_state_and_is_recorded():
    rng = np.random.default_rng(4)
    traces = rng.integers(0, 128, (24, 4))
    options = {"multiplier": 3, "shift": 9, "average": 3, "learn_phase": 2, "reset_interval": 3, "old": 1}
    whole = lateral(rng.integers(-ONE, ONE, (2, 4)), **options)
    start, states = whole.read("subspace"), []
    for trace in traces:
        whole.step(x_in=trace)
        states.append({name: whole.read(name) for name in ("subspace", "velocity", "sums", "sample")})
    ours = HLOPLateral(subspace=start, records=5, **options)
    SampleSource(data=traces).s_out.connect(ours.x_in)
    with guarded(ours) as network:
        network.run(12)
        assert np.array_equal(ours.sums.get(), states[11]["sums"])
        ours.learning.set(np.array([0]))
        network.run(3)
        assert np.array_equal(ours.subspace.get(), states[11]["subspace"])
    assert np.array_equal(ours.learned, [states[3 * sample + 2]["subspace"] for sample in range(4)])
    kept = {name: value for name, value in states[11].items() if name != "sample"}
    again = lateral(**kept, sample=int(states[11]["sample"][0]), **options)
    for trace in traces[12:]:
        again.step(x_in=trace)
    assert np.array_equal(again.read("subspace"), states[-1]["subspace"])
    assert not np.array_equal(states[-1]["subspace"], states[11]["subspace"])


@pytest.mark.parametrize("value, text", [(256, "x_in is 256.*impulse"), (0.5, "received float64 on x_in")])
def test_traces_that_do_not_fit_are_refused(value, text):
    with pytest.raises((TypeError, LimitError), match=text):
        lateral(np.zeros((1, 2), int)).step(x_in=[value, 0])
