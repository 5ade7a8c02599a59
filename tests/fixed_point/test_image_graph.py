"""The graph of images: sizes, limits, sums of every target, the table."""

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError, write_tree
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput


def build(geometry=None, kernel=(2, 1, 2, 2), source=None, target=None, **options):
    """input -> a -> out, images (1, 3, 4) -> (2, 2, 3), with parts replaced by keyword."""
    nodes = (
        Population(**{"name": "a", "size": 12, "vth": 4, "t_start": 1} | dict(source or {})),
        Population(**{"name": "out", "size": 12, "kind": "accumulator", "t_start": 2} | dict(target or {})),
    )
    weight = 2 * np.arange(np.prod(kernel)).reshape(kernel)
    link = Connection("a", "out", weight, geometry=geometry or ConvShape((1, 3, 4)), **options)
    feed = Connection("input", "a", np.full((nodes[0].size, 1), 2))
    return FixedNetwork(nodes, (feed, link), HostInput("spikes", 1), 3, "out")


def test_connections_know_their_size():
    dense = Connection("input", "a", [[2, 0, 4], [0, 0, 0]])
    assert (dense.shape, dense.synapses, dense.stored_weights) == ((2, 3), 2, 2)
    conv = build().connections[1]
    assert (conv.shape, conv.synapses, conv.stored_weights) == ((12, 12), 7 * 6, 7)
    assert conv.weight.shape == (2, 1, 2, 2)


@pytest.mark.parametrize(
    "parts, error, match",
    [
        ({"geometry": ConvShape((1, 4, 4))}, ValueError, r"a_to_out: the convolution has a matrix of shape \(18, 16\)"),
        (
            {"kernel": (3, 1, 2, 2)},
            ValueError,
            r"a_to_out: the convolution has a matrix of shape \(18, 12\), expected \(12, 12\)",
        ),
        ({"kernel": (2, 2, 2, 2)}, ValueError, "connection a_to_out: kernel of shape"),
        ({"kernel": (12, 12)}, ValueError, "connection a_to_out: kernel of shape"),
        ({"kernel": (2, 1, 9, 9)}, ValueError, "connection a_to_out: kernel of shape .* larger than the padded image"),
        ({"delay": np.zeros((12, 12), int)}, ValueError, r"delay has shape \(12, 12\); expected a number, the same"),
        ({"delay": 63}, LimitError, "delay is 63"),
        ({"exponent": 8}, LimitError, "exponent is 8"),
        ({"source": {"shape": (1, 4, 3)}}, ValueError, r"'a' has the shape \(1, 4, 3\), expected \(1, 3, 4\)"),
        ({"target": {"shape": (12,)}}, ValueError, r"'out' has the shape \(12,\), expected \(2, 2, 3\)"),
        ({"source": {"shape": (2, 5)}}, ValueError, r"'a': shape \(2, 5\) has 10 neurons, but size is 12"),
        ({"source": {"shape": (2, -6)}}, LimitError, "'a': shape is -6 at index 1"),
        ({"source": {"shape": (2.0, 6)}}, TypeError, "'a': shape is 2.0"),
        ({"source": {"shape": ()}}, ValueError, r"'a': shape is \(\)"),
        ({"source": {"shape": 12}}, TypeError, "'a': shape is 12; it must be a tuple"),
        ({"source": {"kind": "lif"}, "target": {"t_start": 3}}, ValueError, "stock LIF"),
    ],
)
def test_images_that_do_not_fit(parts, error, match):
    assert build(source={"shape": (1, 3, 4)}, target={"shape": (2, 2, 3)}, delay=4).connections[1].max_delay == 4
    with pytest.raises(error, match=match):
        build(**parts)


def test_kernels_have_the_limits_of_weights():
    geometry = ConvShape((1, 3, 3))
    for value, error in ((256, "is 256"), (3, "is odd")):
        with pytest.raises(LimitError, match=error):
            Connection("input", "a", np.full((1, 1, 2, 2), value), geometry=geometry)
    with pytest.raises(TypeError, match="float64"):
        Connection("input", "a", np.full((1, 1, 2, 2), 2.0), geometry=geometry)
    with pytest.raises(TypeError, match="must be a ConvShape"):
        Connection("input", "a", np.full((1, 1, 2, 2), 2), geometry=(1, 3, 3))


def test_a_convolved_current_goes_in_whole_channels():
    host = HostInput("current", 27, targets=("a", "b"), weight=np.ones((3, 1, 1, 1), int), bias=[0] * 3, shift=1,
                     geometry=ConvShape((1, 3, 3)))  # fmt: skip

    def network(size, **options):
        nodes = (Population("a", size, vth=3), Population("b", 27 - size, "accumulator", t_start=1, **options))
        return FixedNetwork(nodes, (Connection("a", "b", np.full((27 - size, size), 2)),), host, 2, "b")

    assert network(9, shape=(2, 3, 3)).current_part("b") == slice(9, 27)
    with pytest.raises(ValueError, match=r"'a' takes channels of 3x3.*but it has 10 neurons"):
        network(10)
    with pytest.raises(ValueError, match=r"'b' takes channels of 3x3.*18 neurons of shape \(3, 2, 3\)"):
        network(9, shape=(3, 2, 3))


def test_targets_of_a_current_that_hang_apart_are_refused():
    """Lava would run only one of the parts."""
    nodes = tuple(Population(name, 1, vth=2) for name in "abc")
    host = HostInput("current", 2, targets=("a", "b"))
    FixedNetwork(nodes, (Connection("a", "c", [[2]]), Connection("b", "c", [[2]])), host, 2, "c")
    with pytest.raises(ValueError, match=r"\['b'\] are not connected with population 'a', which takes the input"):
        FixedNetwork(nodes, (Connection("a", "c", [[2]]),), host, 2, "c")


def test_the_current_counts_in_the_sum_of_every_target():
    columns = ((1 << 25) - 1 - 8190) // (254 << 7)
    nodes = (Population("a", 1, vth=2), Population("s", columns + 1), Population("b", 1, "lif", vth=2, t_start=1))

    def network(targets, width):
        feed = Connection("a", "s", np.full((columns + 1, 1), 2))
        weight = np.full((1, columns + 1), 254)
        weight[0, width:] = 0
        edge = Connection("s", "b", weight, exponent=7)
        return FixedNetwork(nodes, (feed, edge), HostInput("current", len(targets), targets=targets), 2, "b")

    assert ((columns + 1) * 254 << 7) < 1 << 25
    network(("a",), columns + 1)
    network(("a", "b"), columns)
    with pytest.raises(LimitError, match="'b'"):
        network(("a", "b"), columns + 1)


def test_the_table_counts_synapses_and_stored_weights():
    network = build()
    lines = str(network).splitlines()
    assert lines[0].startswith("FixedNetwork: 24 neurons, 54 synapses (19 stored weights), T = 3 steps")
    link = next(line for line in lines if line.startswith("a_to_out"))
    assert link.split() == ["a_to_out", "2x1x2x2", "on", "1x3x4", "0..14", "0", "0", "42", "7", "0.1", "44"]
    fan_in = [line.split()[-2] for line in lines if line.startswith(("a ", "out "))]
    assert fan_in == ["1", "4"]


def test_a_shared_kernel_is_stored_once():
    geometry = ConvShape((64, 32, 32), padding=1)
    kernel = np.full((64, 64, 3, 3), 2)
    node = Population("a", 64 * 1024, vth=5, t_start=1)
    edge = Connection("input", "a", kernel, geometry=geometry)
    text = str(FixedNetwork((node,), (edge,), HostInput("spikes", 64 * 1024), 2, "a"))
    places = (3 * 32 - 2) ** 2
    assert f" {64 * 64 * places} synapses ({64 * 64 * 9} stored weights)" in text
    assert "at least 64 cores (64 by neurons, 1 by synaptic memory); .place() " in text


def test_files_of_another_network_are_told(tmp_path):
    tree = build().to_dict()
    tree["connections"][1]["geometry"]["input_shape"] = (1, 4, 3)
    tree["connections"][1]["geometry"]["future"] = 1
    write_tree(tmp_path / "net.h5", tree, "FixedNetwork")
    with pytest.raises(FileFormatError, match="future"):
        FixedNetwork.load(tmp_path / "net.h5")
