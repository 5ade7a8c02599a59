"""FixedReasoner: what it refuses, what its tables say, and that files give it back."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.files import FileFormatError, write_tree
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_head import FixedHead
from lava_snnlearn.graphs import Graph

R, D, T = 3, 2, 5


def head(**changes):
    fields = {
        "hidden_weight": [[1, -2], [3, 127], [-128, 0]],
        "hidden_bias": [[10, 20, 30], [0, -5, 7], [100, 200, -300]],
        "shift": 2,
        "output_weight": [5, -6, 7],
        "output_bias": 11,
    }
    return FixedHead(**(fields | changes))


def reasoner(**changes):
    fields = {
        "mapping": "exact",
        "relations": R,
        "width": D,
        "steps": T,
        "max_delay": 4,
        "scale": 50,
        "weight": [[2, -256], [254, 0]],
        "delays": np.arange(R * R * D).reshape(R, R, D) % 5,
        "bias": [[100, -100], [4095, -4096], [0, 1]],
        "bias_exp": 6,
        "vth": 100,
        "du": 905,
        "dv": 906,
        "decode": [1000, 900, 800, 700, 696],
        "head": head(),
    }
    return FixedReasoner(**(fields | changes))


FULL = {
    "exact": {
        "self_weight": [[4, 6], [-8, 2]],
        "self_exp": 2,
        "offset": [-20, 40],
        "offset_exp": 1,
        "relation_weight": np.arange(-9, 9).reshape(R, R, D),
        "weight": [[30, -70], [55, 11]],
        "weight_shift": 3,
        "notes": ("a note",),
    },
    "staged": {"mapping": "staged", "relation_weight": 2 * np.arange(R * D).reshape(1, R, D), "homogeneous": True},
}


def test_tables_of_a_query():
    fixed = reasoner()
    assert fixed.hop == 1
    np.testing.assert_array_equal(fixed.delay_table(2), fixed.delays[2])
    np.testing.assert_array_equal(fixed.synapses(1), [fixed.weight])
    shared = reasoner(delays=np.ones((1, R, D), int))
    np.testing.assert_array_equal(shared.delay_table(2), np.ones((R, D)))
    staged = reasoner(mapping="staged")
    assert staged.hop == 2
    np.testing.assert_array_equal(staged.stage(0), np.ones((R, D)))
    np.testing.assert_array_equal(reasoner(**FULL["staged"]).stage(2), 2 * np.arange(R * D).reshape(R, D))


def test_synapses_with_relation_weights_are_even_and_round_half_up():
    fixed = reasoner(**FULL["exact"])
    for query in range(R):
        for r, m, k in np.ndindex(R, D, D):
            halves = int(fixed.weight[m, k]) * int(fixed.relation_weight[query, r, k]) / 16
            assert fixed.synapses(query)[r, m, k] == 2 * int(np.floor(halves + 0.5))


def test_bounds_of_sums():
    fixed = reasoner(offset=[10, -20], offset_exp=1, self_weight=[[2, 2], [-4, 0]], self_exp=3)
    # Row 0: 7 * (2 + 256) + 20 + 8 * 4; row 1: 7 * 254 + 40 + 8 * 4.
    assert fixed.largest_sum(7) == 7 * 258 + 20 + 32
    assert fixed.largest_aggregate(7) == 0
    staged = reasoner(**FULL["staged"])
    assert staged.largest_aggregate(7) == 70
    assert staged.largest_sum(7) == max(7 * (2 * 8 + 256 * 10), 7 * 254 * 8)


@pytest.mark.parametrize("kind", ["plain", "exact", "staged"])
def test_a_file_gives_the_reasoner_back(tmp_path, kind):
    fixed = reasoner(**FULL.get(kind, {}))
    fixed.save(tmp_path / "net.h5")
    again = FixedReasoner.load(tmp_path / "net.h5")
    for name, value in vars(fixed).items():
        if name == "head":
            for part, expected in vars(value).items():
                np.testing.assert_array_equal(getattr(again.head, part), expected, err_msg=part)
        else:
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
    assert str(again) == str(fixed)


def test_the_table_tells_the_numbers():
    text = str(reasoner(**FULL["exact"]))
    for part in (
        "3 relations, 2 neurons a node, T = 5",
        "50 weight units",
        "-8..6 << 2",
        "-20..40 << 1",
        "0..4 of 0..4",
        "a note",
    ):
        assert part in text
    assert "staged, 2 steps a hop" in str(reasoner(**FULL["staged"]))


def test_arrays_are_frozen():
    fixed = reasoner()
    for values in (fixed.weight, fixed.delays, fixed.bias, fixed.decode, fixed.head.hidden_weight):
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0


@pytest.mark.parametrize(
    "changes, error, text",
    [
        ({"mapping": "axonal"}, UnknownNameError, "mapping"),
        ({"weight": [[1, 0], [0, 0]]}, LimitError, "weight holds 1, which is odd"),
        ({"weight": [[256, 0], [0, 0]]}, LimitError, "weight is 256"),
        ({"weight": [[2.0, 0], [0, 0]]}, TypeError, "must be integers"),
        ({"weight": [[2, 0, 0], [0, 0, 0]]}, ValueError, "weight has shape"),
        ({"self_weight": [[3, 0], [0, 0]]}, LimitError, "self_weight holds 3"),
        ({"offset": [1, 2]}, LimitError, "offset holds 1"),
        ({"offset": [[2, 2]]}, ValueError, "offset has shape"),
        ({"offset_exp": 8}, LimitError, "offset_exp is 8"),
        ({"self_exp": -1}, LimitError, "self_exp is -1"),
        ({"delays": np.full((R, R, D), 5)}, LimitError, "delays is 5"),
        ({"delays": np.full((R, R, D), -1)}, LimitError, "delays is -1"),
        ({"delays": np.zeros((2, R, D), int)}, ValueError, "delays has shape"),
        ({"delays": np.zeros((R, D), int)}, ValueError, "delays has shape"),
        ({"max_delay": 63}, LimitError, "max_delay is 63"),
        ({"bias": np.full((R, D), 4096)}, LimitError, "bias is 4096"),
        ({"bias_exp": 8}, LimitError, "bias_exp is 8"),
        ({"vth": 131_072}, LimitError, "vth is 131072"),
        ({"vth": 1.5}, TypeError, "vth is 1.5"),
        ({"du": 4096}, LimitError, "du is 4096"),
        ({"dv": 4097}, LimitError, "dv is 4097"),
        ({"scale": 0}, LimitError, "scale is 0"),
        ({"decode": [1, 2]}, ValueError, "decode has shape"),
        ({"decode": [-1, 2, 3, 4, 5]}, LimitError, "decode is -1"),
        ({"steps": 0}, LimitError, "steps is 0"),
        ({"weight_shift": 3}, LimitError, "weight_shift is 3"),
        ({"relation_weight": np.full((1, R, D), 2.0)}, TypeError, "must be integers"),
        ({"relation_weight": np.full((1, R, D), 3)}, LimitError, "synapses of query relation 0 is -768"),
        ({"relation_weight": np.full((1, R, D), 3), "mapping": "staged"}, LimitError, "relation_weight holds 3"),
        ({"relation_weight": np.full((1, R, D), 2), "mapping": "staged", "weight_shift": 1}, LimitError, "weight_shift is 1"),
        ({"homogeneous": 1}, TypeError, "homogeneous"),
        ({"head": None}, TypeError, "FixedHead"),
        (
            {"relations": 4, "delays": np.zeros((1, 4, D), int), "bias": np.zeros((4, D), int)},
            ValueError,
            "width and relations",
        ),
    ],
)
def test_refusals(changes, error, text):
    with pytest.raises(error, match=text):
        reasoner(**changes)


@pytest.mark.parametrize(
    "changes, error, text",
    [
        ({"hidden_weight": [[128, 0]] * 3}, LimitError, "hidden_weight is 128"),
        ({"hidden_weight": [1, 2]}, ValueError, "expected"),
        ({"hidden_bias": [[1, 2]] * R}, ValueError, "hidden_bias has shape"),
        ({"hidden_bias": [1, 2, 3]}, ValueError, "expected"),
        ({"output_weight": [1, 2]}, ValueError, "output_weight has shape"),
        ({"output_weight": [1.0, 2, 3]}, TypeError, "must be integers"),
        ({"shift": 32}, LimitError, "shift is 32"),
        ({"output_bias": 1 << 31}, LimitError, "output_bias"),
        ({"output_scale": 0}, LimitError, "output_scale is 0"),
    ],
)
def test_refusals_of_the_head(changes, error, text):
    with pytest.raises(error, match=text):
        head(**changes)


def test_a_head_whose_sums_leave_32_bits_is_refused():
    large = [[2**31 - 1] * 3] * R
    with pytest.raises(LimitError, match="hidden sums may reach"):
        reasoner(head=head(hidden_bias=large))
    with pytest.raises(LimitError, match="output sums may reach"):
        reasoner(head=head(hidden_bias=[[1 << 29] * 3] * R, shift=0))


def test_scores_by_hand():
    # Hidden sums -90, 537 and -2550 of query 1, of which 134 is left behind the shift.
    fixed = head(hidden_bias=[[0] * 3, [-200, 0, 10], [0] * 3])
    features, query = np.array([[[20, 1]], [[20, 1]]]), np.array([1, 0])
    hidden = [[0, (3 * 20 + 127 + 2) >> 2, 0], [(18 + 2) >> 2, (187 + 2) >> 2, 0]]
    expected = [11 - 6 * hidden[0][1], 11 + 5 * hidden[1][0] - 6 * hidden[1][1]]
    assert fixed.scores(features, query)[:, 0].tolist() == expected


def test_the_graph_is_checked():
    fixed = reasoner()
    with pytest.raises(TypeError, match="Graph"):
        fixed.check_graph(None)
    with pytest.raises(ValueError, match="the graph has 2 relations"):
        fixed.check_graph(Graph(2, 2, [0], [0], [1]))
    many = np.zeros(1 << 17, int)
    staged = reasoner(mapping="staged", relation_weight=np.full((1, R, D), 254), weight=[[0, 0], [0, 2]])
    with pytest.raises(LimitError, match="131072 edges, its aggregate may reach 33292288"):
        staged.check_graph(Graph(2, R, many, many, many + 1))


def forged(tmp_path, change):
    tree = reasoner().to_dict()
    change(tree)
    write_tree(tmp_path / "net.h5", tree, "FixedReasoner")
    return tmp_path / "net.h5"


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.pop("weight"),
        lambda tree: tree.update(weight=np.ones((D, D))),
        lambda tree: tree.update(scale="50"),
        lambda tree: tree.update(surprise=1),
        lambda tree: tree.update(head=None),
        lambda tree: tree.update(head={}),
        lambda tree: tree.update(delays=None),
        lambda tree: tree.update(decode=[5, 6]),
        lambda tree: tree.update(notes=None),
    ],
)
def test_forged_files_are_refused(tmp_path, change):
    with pytest.raises(FileFormatError, match=r"net\.h5"):
        FixedReasoner.load(forged(tmp_path, change))


def test_other_files_are_refused(tmp_path):
    write_tree(tmp_path / "other.h5", {"a": 1}, "FixedNetwork")
    with pytest.raises(FileFormatError, match="FixedNetwork"):
        FixedReasoner.load(tmp_path / "other.h5")
    path = forged(tmp_path, lambda tree: None)
    assert str(FixedReasoner.load(path)) == str(reasoner())
    with h5py.File(path, "r+") as file:
        file["content/weight"][0, 0] = 4
    with pytest.raises(FileFormatError, match="checksum"):
        FixedReasoner.load(path)


def test_changes_are_checked_again():
    with pytest.raises(LimitError, match="vth"):
        replace(reasoner(), vth=-1)


@pytest.mark.parametrize("name", ["emulate", "verify"])
def test_functions_of_networks_send_reasoners_to_their_own(name):
    with pytest.raises(TypeError, match=f"{name} takes a FixedNetwork, got FixedReasoner; .* verify_reasoner"):
        getattr(snn, name)(reasoner(), [[0.0]])
