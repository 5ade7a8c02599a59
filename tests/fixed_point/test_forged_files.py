"""Files with a valid checksum and a forged content: refused with a FileFormatError, quickly and without taking all memory."""

import hashlib
import math
import tracemalloc

import h5py
import numpy as np
import pytest

from lava_snnlearn.files import FileFormatError, read_tree, write_tree
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput

SEAL = 512


def seal(path):
    raw = path.read_bytes()[SEAL:]
    path.write_bytes(f"lava_snnlearn sha256 {hashlib.sha256(raw).hexdigest()}\n".encode().ljust(SEAL, b"\0") + raw)


@pytest.fixture
def forge(tmp_path, chain):
    """A network's file (or a tree's), changed by a function of the open HDF5 file, with a checksum that fits again."""

    def build(change, tree=None):
        path = tmp_path / "net.h5"
        if tree is None:
            chain(link={"delay": [[0, 1, 2], [3, 4, 5]]}).save(path)
        else:
            write_tree(path, tree, "tree")
        with h5py.File(path, "r+") as file:
            change(file)
        seal(path)
        return path

    return build


def test_the_forgery_itself_is_read_where_nothing_is_changed(forge, chain):
    path = forge(lambda file: None)
    assert str(FixedNetwork.load(path)) == str(chain(link={"delay": [[0, 1, 2], [3, 4, 5]]}))


def replaced(name, value=None, **options):
    def change(file):
        del file[name]
        if isinstance(value, (h5py.SoftLink, h5py.ExternalLink)):
            file[name] = value
        elif callable(value):
            value(file, name)
        else:
            file.create_dataset(name, data=value, **options)

    return change


def virtual(file, name):
    layout = h5py.VirtualLayout(shape=(2, 3), dtype="i2")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", shape=(2, 3))
    file.create_virtual_dataset(name, layout)


def stored_outside(file, name):
    file.create_dataset(name, (2, 3), "i2", external=[("elsewhere.raw", 0, 12)])


def claims(*shape, chunks=None):
    def change(file, name):
        file.create_dataset(name, shape, "i2", chunks=chunks or True)

    return change


def contiguous_claim(file, name):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple((1 << 20, 1 << 20))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_INT64, space, plist)


def named_type(file, name):
    file[name] = np.dtype("i2")


WEIGHT = "content/connections/1/weight"


@pytest.mark.parametrize(
    "value, match",
    [
        (h5py.SoftLink("/content/connections/1/delay"), "is a link"),
        (h5py.SoftLink("/nowhere"), "is a link"),
        (h5py.ExternalLink("elsewhere.h5", "/data"), "is a link"),
        (np.array([["a", "b", "c"]] * 2, dtype="S1"), "not a plain numeric array"),
        (np.zeros(3, dtype=[("a", "i2")]), "not a plain numeric array"),
        (virtual, "not a plain numeric array"),
        (stored_outside, "not a plain numeric array"),
        (lambda f, n: f.create_dataset(n, data=["x"], dtype=h5py.string_dtype()), "not a plain numeric array"),
        (lambda f, n: f.create_dataset(n, data=[f.ref], dtype=h5py.ref_dtype), "not a plain numeric array"),
        (lambda f, n: f.create_dataset(n, data=np.zeros((2, 3), "i2"), compression="gzip"), "not a plain numeric array"),
        (lambda f, n: f.create_dataset(n, data=np.zeros((2, 3), "i2"), fletcher32=True), "not a plain numeric array"),
        (lambda f, n: f.create_dataset(n, data=h5py.Empty("i2")), "empty"),
        (claims(1 << 40, chunks=(1024,)), "claims 2199023255552 bytes, more than the file can hold"),
        (claims(1 << 31, 1 << 31, chunks=(1, 1024)), "claims .* bytes"),
        # The product of the shape is 2^64, which is 0 in 64 bits.
        (claims(1 << 32, 1 << 32, chunks=(1, 1024)), f"claims {1 << 65} bytes"),
        (contiguous_claim, f"claims {1 << 43} bytes"),
        (named_type, "not a group"),
        (lambda f, n: f.create_group(n), "truncated, damaged|attribute"),
    ],
)
def test_arrays_that_are_not_plain(forge, value, match):
    with pytest.raises(FileFormatError, match=match):
        FixedNetwork.load(forge(replaced(WEIGHT, value)))


def test_many_claims_together_are_bounded_by_the_file(forge):
    def change(file):
        for index in range(100):
            file.create_dataset(f"content/{index}", (15_000,), "i1", chunks=True)
        file["content"].attrs["length"] = 101

    path = forge(change, tree={"text": "x" * 20_000})
    assert 15_000 < path.stat().st_size < 15_000 * 100
    with pytest.raises(FileFormatError, match="claims 15000 bytes, more than the file can hold"):
        read_tree(path, "tree")


@pytest.mark.parametrize("loops", [1, 30])
def test_hard_links_in_a_circle(forge, loops):
    def change(file):
        for index in range(loops):
            file[f"content/loop{index}"] = file["content"]
        file["content"].attrs["length"] = 1 + loops

    with pytest.raises(FileFormatError, match="linked twice"):
        read_tree(forge(change, tree={"a": 1}), "tree")


def test_an_array_that_is_linked_twice(forge):
    def change(file):
        file["content/again"] = file["content/a"]
        file["content"].attrs["length"] = 2

    with pytest.raises(FileFormatError, match="linked twice"):
        read_tree(forge(change, tree={"a": np.zeros(3)}), "tree")


def test_deep_nesting(forge):
    def change(file):
        group = file["content"]
        for _ in range(3000):
            group.attrs["length"], group.attrs["container"] = 1, "dict"
            group = group.create_group("a")

    with pytest.raises(FileFormatError, match="nested deeper"):
        read_tree(forge(change, tree={}), "tree")


def attribute(name, key, value):
    def change(file):
        if value is None:
            del file[name].attrs[key]
        else:
            file[name].attrs[key] = value

    return change


@pytest.mark.parametrize(
    "change, match",
    [
        (attribute("/", "format", "another"), "not one of lava_snnlearn"),
        (attribute("/", "format", None), "not one of lava_snnlearn"),
        (attribute("/", "format", np.zeros(3)), "damaged|not one of"),
        (attribute("/", "content", "checkpoint"), "holds 'checkpoint', expected 'FixedNetwork'"),
        (attribute("/", "version", 2), "has version 2; this library reads version 1"),
        (attribute("/", "version", None), "has version None"),
        (attribute("content", "length", None), "length|attribute"),
        (attribute("content", "length", 99), "has 6 entries, expected 99"),
        (attribute("content", "length", math.inf), "damaged"),
        (attribute("content", "length", math.nan), "damaged"),
        (attribute("content", "length", np.zeros(3)), "damaged"),
        (attribute("content", "length", "six"), "damaged"),
        (attribute("content", "container", "list"), "damaged"),
        (attribute("content/steps", "scalar", "[" * 50_000), "damaged"),
        (attribute("content/steps", "scalar", "not JSON"), "damaged"),
        (attribute("content/steps", "scalar", 5), "damaged"),
        (attribute("content/steps", "scalar", np.zeros((3, 3))), "damaged"),
        (attribute("content/steps", "scalar", b"\xff\xfe"), "damaged"),
        (replaced("content", np.zeros(3)), "not a group"),
        (replaced("content", claims(1, 1 << 50)), "not a group"),
        (lambda file: file.__delitem__("content"), "damaged"),
    ],
)
def test_forged_structure(forge, change, match):
    with pytest.raises(FileFormatError, match=match):
        FixedNetwork.load(forge(change))


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("steps", "0", "steps is 0"),
        ("steps", "2.0", "steps is 2.0; it must be an integer"),
        ("steps", "true", "steps is True"),
        ("steps", str(10**30), f"steps is {10**30}"),
        ("steps", '"5"', "must be an integer"),
        ("output", '"outt"', "Did you mean 'out'"),
        ("output", "null", "output population None"),
        ("host/form", '"analog"', "unknown input form 'analog'"),
        ("host/size", "4.0", "input size is 4.0"),
        ("host/size", "1e400", "input size is inf"),
        ("host/step", "NaN", "must be finite"),
        ("host/step", '"x"', "valid FixedNetwork"),
        ("populations/0/vth", "131072", r"population 'hidden': vth is 131072, outside of the limit \[0, 131071\]"),
        ("populations/0/kind", '"alif"', "unknown kind of population 'hidden' 'alif'. Did you mean 'lif'"),
        ("populations/0/name", "7", "valid FixedNetwork"),
        ("populations/0/scale_bits", "100000", "scale_bits is 100000"),
        ("populations/0/size", str(1 << 40), f"size is {1 << 40}"),
        ("populations/0/size", "2", "bias_mant has shape"),
        ("connections/1/exponent", "8", r"connection hidden_to_out: exponent is 8, outside of the limit \[-8, 7\]"),
        ("connections/1/exponent", "1.5", "exponent is 1.5; it must be an integer"),
        ("connections/1/source", '"hiden"', "Did you mean 'hidden'"),
        ("connections/1/target", "null", "valid FixedNetwork"),
    ],
)
def test_numbers_out_of_range_are_named(forge, name, value, match):
    with pytest.raises(FileFormatError, match=rf"(?s)net\.h5.*{match}"):
        FixedNetwork.load(forge(attribute(f"content/{name}", "scalar", value)))


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("connections/1/weight", np.full((2, 3), 256, "i2"), r"hidden_to_out: weight is 256 at index \(0, 0\)"),
        ("connections/1/weight", np.full((2, 3), 3, "i2"), "hidden_to_out: weight 3 is odd"),
        ("connections/1/weight", np.full((2, 3), 2.0), "float64"),
        ("connections/1/weight", np.full((2, 3), np.nan), "float64"),
        ("connections/1/weight", np.full((2, 4), 2, "i2"), r"\(2, 4\)"),
        ("connections/1/weight", np.zeros((0, 0), "i2"), r"shape \(0, 0\)"),
        ("connections/1/weight", np.full((2, 3), 1 << 63, "u8"), f"weight is {1 << 63}"),
        ("connections/1/delay", np.full((2, 3), 63, "i2"), "hidden_to_out: delay is 63"),
        ("connections/1/delay", np.full((2, 3), -1, "i2"), "hidden_to_out: delay is -1"),
        ("populations/0/bias_mant", np.array([0, 4096, 0], "i2"), "'hidden': bias_mant is 4096 at index 1"),
    ],
)
def test_arrays_out_of_range_are_named(forge, name, value, match):
    with pytest.raises(FileFormatError, match=rf"(?s)net\.h5.*{match}"):
        FixedNetwork.load(forge(replaced(f"content/{name}", value)))


def dropped(name):
    """Without this entry, and with the count corrected."""

    def change(file):
        del file[f"content/{name}"]
        parent = file[f"content/{name}"[: f"content/{name}".rindex("/")]]
        parent.attrs["length"] = len(parent)

    return change


@pytest.mark.parametrize(
    "name",
    [
        "steps",
        "output",
        "notes",
        "host",
        "populations",
        "connections",
        "host/form",
        "populations/0/name",
        "connections/0/weight",
    ],
)
def test_missing_entries_are_named(forge, name):
    with pytest.raises(FileFormatError, match=name.rsplit("/")[-1]):
        FixedNetwork.load(forge(dropped(name)))


def test_entries_of_another_version_are_refused(forge):
    def change(file):
        file["content/host"].create_group("future").attrs["scalar"] = "1"
        file["content/host"].attrs["length"] = len(file["content/host"])

    with pytest.raises(FileFormatError, match="future"):
        FixedNetwork.load(forge(change))


# ---- convolutions -----------------------------------------------------------------------------------------------------------

GEOMETRY = "connections/0/geometry"


@pytest.fixture
def forge_images(tmp_path):
    """As ``forge``, of a network with a convolution of a 1x6x6 image."""
    geometry = ConvShape((1, 6, 6), padding=1)
    nodes = (Population("a", 2 * 36, vth=3, t_start=1, shape=(2, 6, 6)),)
    edges = (Connection("input", "a", np.full((2, 1, 3, 3), 2), geometry=geometry),)
    network = FixedNetwork(nodes, edges, HostInput("spikes", 36), 3, "a")

    def build(change):
        path = tmp_path / "net.h5"
        network.save(path)
        with h5py.File(path, "r+") as file:
            change(file)
        seal(path)
        return path

    return build


@pytest.mark.parametrize(
    "name, value, match",
    [
        (f"{GEOMETRY}/input_shape/1", str(1 << 40), f"input_shape of a convolution is {1 << 40}"),
        (f"{GEOMETRY}/input_shape/1", str(1 << 21), "the padded image of a convolution has"),
        (f"{GEOMETRY}/input_shape/1", "-6", "input_shape of a convolution is -6"),
        (f"{GEOMETRY}/input_shape/1", "6.0", "must be an integer"),
        (f"{GEOMETRY}/padding/0", str(1 << 60), f"padding of a convolution is {1 << 60}"),
        (f"{GEOMETRY}/padding/0", str(1 << 22), "the padded image of a convolution has .* use less padding"),
        (f"{GEOMETRY}/padding/0", str(1 << 15), "input_to_a: the convolution has a matrix of shape"),
        (f"{GEOMETRY}/stride/1", "0", "stride of a convolution is 0"),
        (f"{GEOMETRY}/stride/1", str(1 << 60), f"stride of a convolution is {1 << 60}"),
        (f"{GEOMETRY}/dilation/1", str(1 << 60), f"dilation of a convolution is {1 << 60}"),
        (f"{GEOMETRY}/dilation/1", str(1 << 20), "input_to_a: kernel .* is larger than the padded image"),
        (f"{GEOMETRY}/groups", str(1 << 60), f"groups of a convolution is {1 << 60}"),
        (f"{GEOMETRY}/groups", "null", "groups of a convolution is None"),
        ("populations/0/shape/0", str(1 << 60), f"shape is {1 << 60}"),
        ("populations/0/shape/0", "3", "has 108 neurons, but size is 72"),
    ],
)
def test_forged_geometries_are_refused_before_they_take_memory(forge_images, name, value, match):
    path = forge_images(attribute(f"content/{name}", "scalar", value))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=rf"(?s)net\.h5.*{match}"):
            FixedNetwork.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_geometry_that_is_no_dict(forge_images):
    def change(file):
        del file[f"content/{GEOMETRY}"]
        file[f"content/{GEOMETRY}"] = np.zeros(3, np.int64)

    with pytest.raises(FileFormatError, match="does not hold a valid FixedNetwork"):
        FixedNetwork.load(forge_images(change))
