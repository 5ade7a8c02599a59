"""Lava's own processes as oracles: ATRLIF and Dense, written by others, build the neurons and both phases of SPIDE.

ATRLIF fires where v - r >= theta and then adds 2 * theta to r. So v - r is the membrane of a neuron with threshold theta that
subtracts 2 * theta: SPIDE's forward neuron with reset target -V. Started at v = -V/2 with theta = V/2 it is IDE's, which
subtracts V. Two of them that correct each other through Dense are a ternary neuron.
"""

import numpy as np
import pytest
from lava.proc.atrlif.process import ATRLIF
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from lava_snnlearn.lava_backend import run_config, run_guarded
from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF, TernaryIF

TAGS = ["fixed_pt", "floating_pt"]
GRAIN = 1 / 1024
"""Real units are integers times this power of two, so that sums are exact in any order and ties are ties."""


def units(tag, *values):
    """Integers as they are for the fixed-point models, as real numbers for the floating-point ones."""
    return values if tag == "fixed_pt" else tuple(np.asarray(value) * GRAIN for value in values)


def atrlif(tag, shape, theta, v=0, leak=0, **bias):
    """ATRLIF without adaptation and current filter. Fixed, it adds 1/4096 to delta_i, which has to become 1 in all."""
    still = {"theta_step": 0, "delta_v": leak, "delta_theta": 0, "delta_r": leak}
    delta_i = 4095 / 4096 if tag == "fixed_pt" else 1.0
    return ATRLIF(shape=shape, theta=theta, theta_0=theta, v=v, delta_i=delta_i, **still, **bias)


def dense(weights, bits=0):
    return Dense(weights=weights, sign_mode=SignMode.MIXED, num_message_bits=bits)


def connect(source, synapse, target):
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(target.a_in)


def recorded(process, steps):
    recorder = Recorder(shape=process.s_out.shape, steps=steps)
    process.s_out.connect(recorder.s_in)
    return recorder


def couple(tag, theta, delta, bias_p, bias_m, bias_exp=0, leak=0):
    """P and M with cross connections by which a spike adds ``delta`` to the partner: 2 * theta, but for the leak that the
    delay of one step has cost. Biases: one value a neuron."""
    n = len(bias_p)
    p, m = (atrlif(tag, (n,), theta, leak=leak, bias_mant=bias, bias_exp=bias_exp) for bias in (bias_p, bias_m))
    for source, target in ((p, m), (m, p)):
        connect(source, dense(np.diag(np.broadcast_to(delta, n))), target)
    return p, m


def feedback_weights(rng, n, norm):
    """Even integers, as 8-bit weights of mixed sign are, with a spectral norm near ``norm``."""
    weights = rng.normal(size=(n, n))
    return 2 * np.rint(weights * (norm / 2 / np.linalg.norm(weights, 2))).astype(int)


@pytest.mark.parametrize("tag", TAGS)
def test_a_couple_of_atrlif_is_the_ternary_neuron(tag):
    rng = np.random.default_rng(0)
    n, steps = 50, 200
    current = rng.integers(-90, 91, (steps, n))
    theta, delta, plus, minus, silent = units(tag, 80, 160, current, -current, np.zeros(n, int))
    p, m = couple(tag, theta, delta, silent, silent)
    ternary = TernaryIF(shape=(n,), vth=theta)
    source, opposite = SampleSource(data=plus), SampleSource(data=minus)
    source.s_out.connect(p.a_in)
    opposite.s_out.connect(m.a_in)
    source.s_out.connect(ternary.a_in)
    spikes = [recorded(process, steps) for process in (p, m, ternary)]
    run_guarded(ternary, steps, run_config(tag))
    fired_p, fired_m, fired = (recorder.spikes for recorder in spikes)
    assert np.abs(fired).sum() > 2000
    assert np.array_equal(fired_p - fired_m, fired)
    assert not (fired_p * fired_m).any()


@pytest.mark.parametrize("tag", TAGS)
def test_the_forward_phases_of_spide_and_ide(tag):
    """Recurrent networks of ATRLIF and of SoftResetLIF, driven alike: both variants, 2 * 4000 spike times."""
    rng = np.random.default_rng(1)
    n, steps = 40, 100
    drive = np.tile(rng.integers(-80, 240, n), (steps, 1))
    theta, delta, drive, weights = units(tag, 80, 160, drive, feedback_weights(rng, n, 80))
    start = -theta * (64 if tag == "fixed_pt" else 1)  # of membranes, which the fixed model counts in 1/64
    pairs = {
        "SPIDE": (atrlif(tag, (n,), theta), SoftResetLIF(shape=(n,), vth=theta, delta=delta)),
        "IDE": (atrlif(tag, (n,), theta, v=start), SoftResetLIF(shape=(n,), vth=delta, delta=delta)),
    }
    source = SampleSource(data=drive)
    for neuron in (neuron for pair in pairs.values() for neuron in pair):
        source.s_out.connect(neuron.a_in)
        connect(neuron, dense(weights), neuron)
    recorders = {name: [recorded(neuron, steps) for neuron in pair] for name, pair in pairs.items()}
    run_guarded(source, steps, run_config(tag))
    fired = {name: [recorder.spikes for recorder in pair] for name, pair in recorders.items()}
    for name, (stock, own) in fired.items():
        assert np.array_equal(stock, own), name
        assert 1000 < own.sum() < 3000, name
    assert not np.array_equal(fired["SPIDE"][1], fired["IDE"][1])


def stock_backward(tag, theta, delta, weights, g, mask):
    """P and M of a backward phase in which W^T carries signed spikes as four copies. Silent neurons are held down by a bias."""
    fixed = tag == "fixed_pt"
    lowest = -4096 if fixed else -4096 * 2 * GRAIN  # with an exponent of 7, in weight units
    bias_p, bias_m = np.where(mask, g, lowest), np.where(mask, -g, lowest)
    p, m = couple(tag, theta, delta, bias_p, bias_m, np.where(mask, 6, 7) if fixed else 0)
    for source, target, sign in ((p, p, 1), (p, m, -1), (m, p, -1), (m, m, 1)):
        connect(source, dense(sign * weights.T), target)
    return p, m


@pytest.mark.parametrize("tag", TAGS)
def test_the_backward_phase_of_spide(tag):
    """Its spikes on stock processes are those of TernaryIF and one Dense; and its rates approach the adjoint with 1/(4T)."""
    rng = np.random.default_rng(2)
    n, steps = 40, 150
    whole, injected, mask = feedback_weights(rng, n, 80), np.rint(rng.normal(0, 16, n)).astype(int), rng.random(n) < 0.8
    theta, delta, weights, g = units(tag, 80, 160, whole, injected)
    p, m = stock_backward(tag, theta, delta, weights, g, mask)
    ternary, source = TernaryIF(shape=(n,), vth=theta, mask=mask), SampleSource(data=g[None])
    source.s_out.connect(ternary.g_in)
    connect(ternary, dense(weights.T, bits=1), ternary)
    recorders = [recorded(neuron, steps) for neuron in (p, m, ternary)]
    run_guarded(p, steps, run_config(tag))
    run_guarded(ternary, steps, run_config(tag))
    fired_p, fired_m, fired = (recorder.spikes for recorder in recorders)
    assert np.array_equal(fired_p - fired_m, fired)
    assert not fired[:, ~mask].any()
    assert np.abs(fired).sum() > 300
    adjoint = np.linalg.solve(160 * np.eye(n) - whole.T * mask, injected)
    error = np.abs(fired.cumsum(axis=0) - adjoint * np.arange(1, steps + 1)[:, None])
    assert error[50:, mask].mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("leak", [1 / 32, 1 / 4])
def test_leaky_neurons_in_real_numbers(leak):
    """Forward neuron and couple. Real numbers only: in integers ATRLIF rounds v and r each for itself."""
    rng = np.random.default_rng(3)
    n, steps, theta = 40, 100, 80 * GRAIN
    drive = GRAIN * rng.integers(-80, 240, (steps, n))
    source, opposite = SampleSource(data=drive), SampleSource(data=-drive)
    forward = atrlif("floating_pt", (n,), theta, leak=leak), SoftResetLIF(shape=(n,), vth=theta, delta=2 * theta, dv=leak)
    silent = np.zeros(n)
    p, m = couple("floating_pt", theta, (1 - leak) * 2 * theta, silent, silent, leak=leak)
    ternary = TernaryIF(shape=(n,), vth=theta, dv=leak)
    for neuron in (*forward, p, ternary):
        source.s_out.connect(neuron.a_in)
    opposite.s_out.connect(m.a_in)
    recorders = [recorded(neuron, steps) for neuron in (*forward, p, m, ternary)]
    run_guarded(source, steps, run_config("floating_pt"))
    stock, own, fired_p, fired_m, fired = (recorder.spikes for recorder in recorders)
    assert np.array_equal(stock, own)
    assert np.array_equal(fired_p - fired_m, fired)
    assert 1000 < own.sum() < 3000
    assert (fired == -1).sum() > 30
