"""What the tests of bundles share: networks of all kinds with input, and a way to run the scripts of a bundle."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput

SAMPLES = 3


def even(rng, *shape):
    return 2 * rng.integers(-30, 60, shape)


def stock(rng):
    """Lava's LIFs and an accumulator, which is one with a threshold out of reach; delays."""
    first = Population("first", 6, "lif", vth=90, dv=200, bias_mant=rng.integers(0, 60, 6), bias_exp=6, t_start=1)
    out = Population("out", 4, "accumulator", dv=100, t_start=4)
    edges = (Connection("input", "first", even(rng, 6, 5)), Connection("first", "out", even(rng, 4, 6), exponent=1, delay=2))
    return FixedNetwork((first, out), edges, HostInput("spikes", 5), 6, "out")


def stock_current(rng):
    """Input current straight into LIFs, which on a chip needs a synapse."""
    first = Population("first", 5, "lif", vth=300, dv=200)
    out = Population("out", 3, "lif", vth=90, t_start=1)
    return FixedNetwork(
        (first, out), (Connection("first", "out", even(rng, 3, 5)),), HostInput("current", 5, ("first",)), 6, "out"
    )


def stock_filtered(rng):
    """As imported graphs may be: filtered currents, excitatory odd weights, a right shift, signed payloads of 24 bits."""
    first = Population("first", 5, "lif", vth=3000, du=500, dv=100, t_start=1)
    out = Population("out", 3, "lif", vth=60, du=2000, t_start=2)
    entry = Connection("input", "first", rng.integers(0, 255, (5, 6)), exponent=-3, sign_mode="excitatory")
    host = HostInput("graded", 6, largest=2000)
    return FixedNetwork((first, out), (entry, Connection("first", "out", even(rng, 3, 5))), host, 9, "out")


def stock_image(rng):
    """A convolution of payloads, into LIFs."""
    shape = ConvShape(input_shape=(1, 4, 4), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    maps = Population("maps", 32, "lif", vth=4000, t_start=1, shape=(2, 4, 4))
    out = Population("out", 3, "lif", vth=90, t_start=2)
    edges = (Connection("input", "maps", even(rng, 2, 1, 3, 3), geometry=shape), Connection("maps", "out", even(rng, 3, 32)))
    return FixedNetwork((maps, out), edges, HostInput("graded", 16), 5, "out")


def stock_parallel(rng):
    """Connections that labels tell apart, as imports make them of odd weights of both signs: convolutions and matrices."""
    shape = ConvShape(input_shape=(1, 4, 4), padding=1)
    kernel = rng.integers(-250, 255, (2, 1, 3, 3))
    maps = Population("maps", 32, "lif", vth=300, t_start=1, shape=(2, 4, 4))
    out = Population("out", 3, "lif", vth=90, t_start=2)
    edges = (
        Connection("input", "maps", np.maximum(kernel, 0), geometry=shape, sign_mode="excitatory", label="excitatory"),
        Connection("input", "maps", np.minimum(kernel, 0), geometry=shape, sign_mode="inhibitory", label="inhibitory"),
        Connection("maps", "out", even(rng, 3, 32)),
        Connection("maps", "out", even(rng, 3, 32), label="again"),
    )
    return FixedNetwork((maps, out), edges, HostInput("spikes", 16), 5, "out")


def apart_states(rng):
    """Samples that Lava runs one by one: states at the start, resets at fixed times, early biases, a loop with mixed delays."""
    first = Population(
        "first", 5, "lif", vth=60, du=900, dv=100, bias_mant=rng.integers(-9, 40, 5), bias_exp=6,
        v_init=rng.integers(-900, 4000, 5), u_init=rng.integers(-500, 900, 5),
    )  # fmt: skip
    out = Population("out", 3, "lif", vth=70, dv=50, bias_mant=30, bias_exp=5, reset_interval=4, reset_offset=2)
    edges = (
        Connection("input", "first", even(rng, 5, 6), delay=1),
        Connection("first", "first", even(rng, 5, 5) - 40, delay=rng.integers(0, 4, (5, 5))),
        Connection("first", "out", even(rng, 3, 5)),
    )
    return FixedNetwork((first, out), edges, HostInput("spikes", 6), 9, "out")


def apart_current(rng):
    """Trained recurrent nets with reset to zero: an input current, loops, layers a step apart, a bias above the threshold."""
    first = Population("first", 5, "lif", vth=500, dv=300, bias_mant=rng.integers(200, 500, 5), bias_exp=6)
    second = Population("second", 4, "lif", vth=90, dv=200, bias_mant=[30, 95, 30, -9], bias_exp=6, t_start=1)
    out = Population("out", 3, "accumulator", t_start=2)
    edges = (
        Connection("first", "first", even(rng, 5, 5) - 40),
        Connection("first", "second", even(rng, 4, 5)),
        Connection("second", "second", even(rng, 4, 4) - 50),
        Connection("second", "out", even(rng, 3, 4)),
    )
    return FixedNetwork((first, second, out), edges, HostInput("current", 5, ("first",)), 8, "out")


def soft(rng):
    """Reset by subtraction: synaptic delays, a loop, a delayed convolution, an accumulator that starts above 0."""
    shape = ConvShape(input_shape=(1, 3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
    hidden = Population("hidden", 9, vth=90, dv=300, bias_mant=rng.integers(-9, 40, 9), bias_exp=5, v_init=-800, t_start=1)
    maps = Population("maps", 8, vth=60, t_start=3, shape=(2, 2, 2))
    out = Population("out", 3, "accumulator", v_init=77, t_start=4)
    edges = (
        Connection("input", "hidden", even(rng, 9, 5), exponent=1, delay=rng.integers(0, 3, (9, 5))),
        Connection("hidden", "hidden", even(rng, 9, 9), delay=rng.integers(0, 3, (9, 9))),
        Connection("hidden", "maps", even(rng, 2, 1, 2, 2), delay=1, geometry=shape),
        Connection("maps", "out", even(rng, 3, 8), exponent=2),
    )
    return FixedNetwork((hidden, maps, out), edges, HostInput("spikes", 5), 6, "out")


def soft_current(rng):
    """Input current into two populations that start at different steps; graded neurons behind them."""
    near, far = Population("near", 4, vth=150, dv=100), Population("far", 3, vth=120, t_start=2)
    out = Population("out", 3, "graded", shift=6, top=200, bias_mant=9, bias_exp=3, t_start=3)
    last = Population("last", 2, vth=4000, t_start=4)
    edges = (
        Connection("near", "far", even(rng, 3, 4)),
        Connection("near", "out", even(rng, 3, 4), exponent=3),
        Connection("far", "out", even(rng, 3, 3), exponent=4),
        Connection("out", "last", even(rng, 2, 3)),
    )
    return FixedNetwork((near, far, out, last), edges, HostInput("current", 7, targets=("near", "far")), 6, "last")


_ALL = (stock, stock_current, stock_filtered, stock_image, stock_parallel, apart_states, apart_current, soft, soft_current)
KINDS = {kind.__name__: kind for kind in _ALL}


def built(kind, samples=SAMPLES):
    """A network by its name and integer input for it."""
    rng = np.random.default_rng(5)
    network = KINDS[kind](rng)
    low, high = {"spikes": (0, 2), "graded": (0, 256), "current": (-100, 600)}[network.host.form]
    return network, rng.integers(low, high, (network.steps, samples, network.host.size))


def run_script(folder, *command, hidden=None):
    """Run a script of the bundle; ``hidden``: a folder with packages that refuse to be imported."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({} if hidden is None else {"PYTHONPATH": str(hidden)})
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="session")
def made():
    """Call it with the name of a kind: the network and integer input of 3 samples, or of ``samples=``."""
    return built


@pytest.fixture(scope="session")
def script():
    """:func:`run_script`."""
    return run_script
