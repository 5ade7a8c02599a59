"""Networks of every kind to place, and loads counted neuron by neuron from the laid-out matrices."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population


def brute_loads(laid_out, network, core, cores, shared_kernels):
    """Loads of every core, one synapse at a time."""
    loads = {name: [0] * cores for name in ("neurons", "synaptic_bits", "input_axons", "output_axons", "delay_entries")}
    destinations = {"input": [set() for _ in range(network.host.size)]}
    destinations |= {p.name: [set() for _ in range(p.size)] for p in network.populations}
    heard = [set() for _ in range(cores)]
    kernels = [set() for _ in range(cores)]
    longest = {(p.name, i): 8 for p in network.populations for i in range(p.size)}
    for connection in network.connections:
        kernel, bits = np.asarray(connection.weight), 14 if np.any(connection.delay) else 8
        matrix = kernel if connection.geometry is None else laid_out(kernel, connection.geometry)
        delay = np.broadcast_to(connection.delay, matrix.shape)
        channel = len(matrix) // len(connection.weight)
        for i, j in zip(*np.nonzero(matrix), strict=True):
            at = core[connection.target][i]
            longest[connection.target, i] = max(longest[connection.target, i], delay[i, j])
            heard[at].add((connection.source, j))
            destinations[connection.source][j].add(at)
            if connection.geometry is None or not shared_kernels:
                loads["synaptic_bits"][at] += bits
        if connection.geometry is not None and shared_kernels:
            for i in range(len(matrix)):
                at, o = core[connection.target][i], i // channel
                if (connection.name, o) not in kernels[at]:
                    kernels[at].add((connection.name, o))
                    loads["synaptic_bits"][at] += bits * int(np.count_nonzero(connection.weight[o]))
    for p in network.populations:
        for i, at in enumerate(core[p.name]):
            loads["neurons"][at] += 1
            loads["delay_entries"][at] += longest[p.name, i]
            loads["output_axons"][at] += len(destinations[p.name][i])
    loads["input_axons"] = [len(sources) for sources in heard]
    return loads, {name: [len(cores) for cores in each] for name, each in destinations.items()}


def dense(seed, sizes, *, share=1.0, delay=0, feedback=False, skips=False, kind="soft_reset_lif", form="spikes"):
    """Input -> p0 -> p1 ...; a share of the weights is not zero; with feedback the last also goes to the
    first, with skips the input goes to all."""
    draw = np.random.default_rng(seed)
    populations = [Population(f"p{i}", n, kind, vth=9, t_start=i + 1) for i, n in enumerate(sizes[1:])]
    names = ["input", *(p.name for p in populations)]
    ends = list(zip(names, names[1:], sizes, sizes[1:], strict=False))
    if feedback:
        ends.append((names[-1], names[1], sizes[-1], sizes[1]))
    if skips:
        ends += [("input", target, sizes[0], after) for target, after in zip(names[2:], sizes[2:], strict=True)]
    connections = []
    for source, target, before, after in ends:
        weight = 2 * draw.choice([-3, -1, 1, 2, 5], (after, before)) * (draw.random((after, before)) < share)
        late = draw.integers(0, delay + 1, (after, before)) if delay else 0
        connections.append(Connection(source, target, weight, delay=late))
    return FixedNetwork(tuple(populations), tuple(connections), HostInput(form, sizes[0]), 6, names[-1])


def images(seed, image, layers, *, share=1.0, classes=0):
    """A chain of convolutions: of each layer (channels, kernel, stride, padding, groups); then perhaps a dense layer."""
    draw = np.random.default_rng(seed)
    shape, source, populations, connections = image, "input", [], []
    for number, (channels, taps, stride, padding, groups) in enumerate(layers):
        geometry = ConvShape(shape, stride=stride, padding=padding, groups=groups)
        kernel = 2 * draw.choice([-3, -1, 1, 2], (channels, shape[0] // groups, taps, taps))
        kernel *= draw.random(kernel.shape) < share
        shape = geometry.output_shape(kernel.shape)
        name = f"c{number}"
        populations.append(Population(name, int(np.prod(shape)), vth=9, t_start=number + 1, shape=shape))
        connections.append(Connection(source, name, kernel, geometry=geometry))
        source = name
    if classes:
        weight = 2 * draw.integers(-3, 4, (classes, int(np.prod(shape))))
        populations.append(Population("out", classes, "accumulator", t_start=len(layers) + 1))
        connections.append(Connection(source, "out", weight))
    host = HostInput("spikes", int(np.prod(image)))
    return FixedNetwork(tuple(populations), tuple(connections), host, 6, populations[-1].name)


def parallel(seed):
    """Several connections between the same two populations, told apart by labels: matrices, loops, convolutions."""
    draw = np.random.default_rng(seed)
    near, far = ConvShape((2, 5, 5), padding=1), ConvShape((2, 5, 5))

    def sparse(*shape):
        return 2 * draw.integers(1, 9, shape) * (draw.random(shape) < 0.3)

    populations = (
        Population("a", 50, vth=9, t_start=1, shape=(2, 5, 5)),
        Population("b", 12, vth=9, t_start=2),
        Population("c", 75, vth=9, t_start=2, shape=(3, 5, 5)),
    )
    edges = (
        Connection("input", "a", sparse(50, 30), label="excitatory", sign_mode="excitatory"),
        Connection("input", "a", -sparse(50, 30), label="inhibitory", sign_mode="inhibitory", delay=9),
        Connection("a", "a", sparse(50, 50)),
        Connection("a", "a", -sparse(50, 50), label="late", delay=3),
        Connection("a", "b", np.full((12, 50), 2), label="whole"),
        Connection("a", "b", np.full((12, 50), -2), label="again"),
        Connection("a", "c", sparse(3, 2, 3, 3), geometry=near, label="x"),
        Connection("a", "c", -sparse(3, 2, 3, 3), geometry=near, label="y"),
        Connection("a", "c", sparse(3, 2, 1, 1), geometry=far, label="z"),
        Connection("b", "c", sparse(75, 12)),
    )
    return FixedNetwork(populations, edges, HostInput("spikes", 30), 6, "c")


@pytest.fixture(scope="session")
def make(laid_out):
    return SimpleNamespace(dense=dense, images=images, parallel=parallel, brute_loads=partial(brute_loads, laid_out))
