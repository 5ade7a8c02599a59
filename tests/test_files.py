"""Files: nothing lost on the way, the old file whole whatever happens, and every bad file refused by a FileFormatError."""

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lava_snnlearn.files import FileFormatError, read_tree, replacing, write_text, write_tree
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput

SEAL = 512


def same(a, b):
    """Equal in value and in type, arrays in dtype and shape too; NaN equals NaN."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.h5"


@pytest.fixture
def network():
    nodes = (Population("hidden", 3, vth=10, bias_mant=[1, -2, 3], t_start=1), Population("out", 2, "accumulator", t_start=2))
    edges = (
        Connection("input", "hidden", np.full((3, 4), 2), delay=[[0, 1, 2, 3]] * 3),
        Connection("hidden", "out", np.full((2, 3), -4), exponent=2),
    )
    return FixedNetwork(nodes, edges, HostInput("graded", 4, offset=-0.5, step=0.1), 5, "out", ("a note",))


def content(folder):
    return sorted(entry.name for entry in folder.iterdir())


# ---- round trips ---------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from(["", "\0", "\ud800"]),
)
DTYPES = ["|b1", "|i1", "<u2", "<i4", ">i4", "<u8", "<i8", "<f2", "<f4", "<f8", ">f8"]


def array(dtype, shape, seed):
    """0-d arrays too, which numpy's generators would give as scalars."""
    values = np.random.default_rng(seed).normal(size=shape) * 50
    return np.asarray(np.abs(values) if dtype[1] == "u" else values, dtype=dtype)


ARRAYS = st.builds(array, st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 99))
KEYS = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=8).filter(
    lambda key: key != "."
)
TREES = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(st.lists(inner, max_size=12), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@example(tree={"0": np.array(6, dtype=">i4")})
@given(tree=st.dictionaries(KEYS, TREES, max_size=4))
def test_trees_come_back_as_they_were(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("trees") / "tree.h5"
    write_tree(path, tree, "tree")
    assert same(read_tree(path, "tree"), tree)


def test_every_type_by_hand(path):
    tree = {
        "none": None,
        "yes": True,
        "one": 1,
        "large": 10**40,
        "float": 1.0,
        "third": 1 / 3,
        "inf": math.inf,
        "minus": -math.inf,
        "nan": math.nan,
        "zero": -0.0,
        "text": "ü\n\0'\"",
        "empty": {"dict": {}, "list": [], "text": ""},
        "nested": [[1, [2.0, None]], {"a": [True]}, *range(12)],
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "scalar array": np.array(5.0, np.float32),
        "no rows": np.zeros((0, 3), np.uint8),
    }
    write_tree(path, tree, "tree")
    back = read_tree(path, "tree")
    assert same(back, tree)
    assert math.copysign(1, back["zero"]) == -1


def test_numpy_scalars_and_tuples_come_back_plain(path):
    write_tree(path, {"a": np.float64(0.5), "b": np.int8(3), "c": np.bool_(True), "d": (1, (2,))}, "tree")
    assert same(read_tree(path, "tree"), {"a": 0.5, "b": 3, "c": True, "d": [1, [2]]})


def test_networks_come_back_as_they_were(path, network):
    network.save(path)
    again = FixedNetwork.load(path)
    assert str(again) == str(network)
    assert same(again.to_dict(), network.to_dict())


@pytest.mark.parametrize(
    "tree, error, match",
    [
        ({"a": {"b": b"bytes"}}, TypeError, "'b': bytes is neither"),
        ({"a": 1j}, TypeError, "'a': complex"),
        ({"a": {1, 2}}, TypeError, "'a': set"),
        ({"a": object()}, TypeError, "'a': object"),
        ({"a": np.array(["x"])}, TypeError, "'a': dtype <U1 is not numeric"),
        ({"a": np.array([None])}, TypeError, "'a': dtype object"),
        ({"a": np.array([1j])}, TypeError, "'a': dtype complex128"),
        ({"a/b": 1}, ValueError, "the key 'a/b'"),
        ({"": 1}, ValueError, "the key ''"),
        ({".": 1}, ValueError, "the key '.'"),
        ({1: 1}, ValueError, "the key 1"),
        ({"a": "x" * 70_000}, ValueError, "'a': 70002 characters as JSON, at most 60000"),
    ],
)
def test_what_a_file_cannot_hold(path, tree, error, match):
    with pytest.raises(error, match=match):
        write_tree(path, tree, "tree")
    assert content(path.parent) == []


def nested(depth):
    return {"a": nested(depth - 1)} if depth else {"leaf": 1, "array": np.zeros(1)}


def test_what_is_nested_too_deep_to_be_read_is_not_written(path):
    write_tree(path, nested(16), "tree")
    assert same(read_tree(path, "tree"), nested(16))
    with pytest.raises(ValueError, match="nested deeper than 16 levels"):
        write_tree(path, nested(17), "tree")
    assert same(read_tree(path, "tree"), nested(16))


# ---- atomic --------------------------------------------------------------------------------------------------------------


class Breaks(Mapping):
    """A tree that does something in the middle of being written."""

    def __init__(self, action):
        self.action = action

    def __len__(self):
        return 2

    def __iter__(self):
        return iter(["first", "second"])

    def __getitem__(self, key):
        return np.zeros(100_000) if key == "first" else self.action()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_exception_leaves_the_old_file_and_nothing_else(path, error):
    def stop():
        raise error("in the middle")

    write_tree(path, {"old": 1}, "tree")
    with pytest.raises(error, match="in the middle"):
        write_tree(path, Breaks(stop), "tree")
    assert read_tree(path, "tree") == {"old": 1}
    assert content(path.parent) == ["file.h5"]


def test_an_exception_leaves_no_new_file(path):
    def half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert content(path.parent) == []


KILLED = """
import sys, time
import numpy as np
from collections.abc import Mapping
from lava_snnlearn.files import write_tree

class Stops(Mapping):
    def __len__(self):
        return 2
    def __iter__(self):
        return iter(["first", "second"])
    def __getitem__(self, key):
        if key == "second":
            print("middle", flush=True)
            time.sleep(600)
        return np.zeros(100_000)

write_tree(sys.argv[1], Stops(), "tree")
"""


def test_kill_in_the_middle_leaves_the_old_file(path):
    write_tree(path, {"old": 1}, "tree")
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "middle\n"
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert len(content(path.parent)) == 2  # the child was writing beside the old file
    assert read_tree(path, "tree") == {"old": 1}
    write_tree(path, {"new": 2}, "tree")
    assert read_tree(path, "tree") == {"new": 2}


def test_text_is_written_whole_and_with_the_usual_permissions(tmp_path):
    target, plain = tmp_path / "new folder" / "table.csv", tmp_path / "plain"
    write_text(target, "a,b\n1,ü\n")
    plain.touch()
    assert target.read_bytes() == "a,b\n1,ü\n".encode()
    assert target.stat().st_mode == plain.stat().st_mode
    assert content(target.parent) == ["table.csv"]


def test_a_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / "a file"
    file.touch()
    with pytest.raises(OSError, match=r"cannot write .*net.h5: .*Choose a folder that exists and is writable"):
        write_tree(file / "net.h5", {"a": 1}, "tree")
    assert content(tmp_path) == ["a file"]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_the_file_system_refuses(tmp_path, name):
    with pytest.raises((OSError, ValueError)):
        write_tree(tmp_path / name, {"a": 1}, "tree")
    assert content(tmp_path) == []


# ---- damaged -------------------------------------------------------------------------------------------------------------


def test_truncated_at_any_length(path, network):
    network.save(path)
    whole = path.read_bytes()
    lengths = {0, 1, 7, 8, 15, SEAL - 1, SEAL, SEAL + 1, SEAL + 8, len(whole) - 1, *range(0, len(whole), 997)}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"file\.h5"):
            FixedNetwork.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileFormatError, match="checksum"):
        FixedNetwork.load(path)


def test_any_flipped_bit_is_found(path, network):
    network.save(path)
    whole, draw = path.read_bytes(), random.Random(0)
    places = [*range(SEAL + 64), *(draw.randrange(len(whole)) for _ in range(500))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"file\.h5"):
            FixedNetwork.load(path)
    path.write_bytes(whole)
    assert str(FixedNetwork.load(path)) == str(network)


@pytest.mark.parametrize(
    "text", [b"", b"hello", b"PK\x03\x04" + bytes(600), bytes(5000), b"lava_snnlearn sha256 " + b"0" * 600]
)
def test_not_our_file(path, text):
    path.write_bytes(text)
    with pytest.raises(FileFormatError, match=r"file\.h5 is"):
        read_tree(path, "tree")


def test_missing_files_and_folders(tmp_path):
    for target in (tmp_path / "missing.h5", tmp_path, Path(os.devnull)):
        with pytest.raises(FileFormatError, match="does not exist or is not a file"):
            FixedNetwork.load(target)


def test_another_librarys_hdf5(path):
    with h5py.File(path, "w") as file:
        file["layer/weight"] = np.zeros(3)
    with pytest.raises(FileFormatError, match="is an HDF5 file, but not one of lava_snnlearn"):
        read_tree(path, "tree")


def test_another_kind_of_content(path, network):
    write_tree(path, {"a": 1}, "checkpoint")
    with pytest.raises(FileFormatError, match="holds 'checkpoint', expected 'FixedNetwork'"):
        FixedNetwork.load(path)


def test_the_seal_is_the_documented_one(path):
    write_tree(path, {"a": np.arange(5)}, "tree")
    raw = path.read_bytes()
    assert raw[:SEAL] == f"lava_snnlearn sha256 {hashlib.sha256(raw[SEAL:]).hexdigest()}\n".encode().ljust(SEAL, b"\0")
    with h5py.File(path, "r") as file:
        assert file["content/a"][()].tolist() == [0, 1, 2, 3, 4]


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"cannot write {tmp_path}: it is a folder"):
        write_tree(tmp_path, {}, content="x")
