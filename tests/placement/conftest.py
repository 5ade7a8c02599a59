"""Networks of every kind to place, and loads counted neuron by neuron from the laid-out matrices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population


def laid_out(connection):
    """[n_target, n_source], channel by channel, place by place and tap by tap."""
    kernel, shape = np.asarray(connection.weight), connection.geometry
    if shape is None:
        return kernel
    channels, height, width = shape.input_shape
    out, depth, *taps = kernel.shape
    reach = [d * (k - 1) + 1 for d, k in zip(shape.dilation, taps, strict=True)]
    sizes = zip((height, width), shape.padding, reach, shape.stride, strict=True)
    rows, columns = ((size + 2 * pad - long) // step + 1 for size, pad, long, step in sizes)
    result = np.zeros((out, rows, columns, channels, height, width), int)
    for o, r, c, i, a, b in np.ndindex(out, rows, columns, *kernel.shape[1:]):
        y = r * shape.stride[0] + a * shape.dilation[0] - shape.padding[0]
        x = c * shape.stride[1] + b * shape.dilation[1] - shape.padding[1]
        if 0 <= y < height and 0 <= x < width:
            result[o, r, c, o // (out // shape.groups) * depth + i, y, x] = kernel[o, i, a, b]
    return result.reshape(out * rows * columns, -1)


def brute_loads(network, core, cores, shared_kernels):
    """Loads of every core, one synapse at a time."""
    loads = {name: [0] * cores for name in ("neurons", "synaptic_bits", "input_axons", "output_axons", "delay_entries")}
    destinations = {"input": [set() for _ in range(network.host.size)]}
    destinations |= {p.name: [set() for _ in range(p.size)] for p in network.populations}
    heard = [set() for _ in range(cores)]
    kernels = [set() for _ in range(cores)]
    longest = {(p.name, i): 8 for p in network.populations for i in range(p.size)}
    for connection in network.connections:
        matrix, bits = laid_out(connection), 14 if np.any(connection.delay) else 8
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


@pytest.fixture(scope="session")
def make():
    return SimpleNamespace(dense=dense, images=images, laid_out=laid_out, brute_loads=brute_loads)
