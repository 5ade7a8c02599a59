"""Triple files of users: what is read, how it is numbered, and that every damage is named with its file and line."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import read_inductive, read_triples
from lava_snnlearn.files import FileFormatError


def named(data, split):
    return [(data.entities[h], data.relations[r], data.entities[t]) for h, r, t in getattr(data, split)]


def write(path, text):
    raw = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)
    return path


@pytest.fixture
def folder(tmp_path):
    """Entities "zoo" and "ä b" only in valid and test; a carriage return, a byte order mark, and no newline at the end."""
    write(tmp_path / "train.txt", "bob\tlikes\tamy\namy\tknows\tbob\n")
    write(tmp_path / "valid.tsv.gz", "zoo\tlikes\tbob\r\n")
    write(tmp_path / "test.txt.gz", "\ufeffä b\tknows\tamy")
    return tmp_path


def test_folders_are_read_and_numbered_by_name(folder):
    data = read_triples(folder)
    assert data.name == folder.name
    assert data.entities == ("amy", "bob", "zoo", "ä b")
    assert data.relations == ("knows", "likes")
    assert data.train.tolist() == data.facts.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert named(data, "valid") == [("zoo", "likes", "bob")]
    assert named(data, "test") == [("ä b", "knows", "amy")]


def test_the_order_of_lines_changes_no_number(folder):
    data = read_triples(folder)
    write(folder / "train.txt", "amy\tknows\tbob\nbob\tlikes\tamy\n")
    turned = read_triples(folder)
    assert (turned.entities, turned.relations) == (data.entities, data.relations)
    assert turned.train.tolist() == data.train.tolist()[::-1]


def test_background_facts_are_edges_but_no_queries(folder):
    write(folder / "facts.txt", "amy\thas\tzoo\nbob\tlikes\tamy\n")
    data = read_triples(folder, name="mine")
    assert data.name == "mine"
    assert named(data, "train") == [("bob", "likes", "amy"), ("amy", "knows", "bob")]
    # the training triple that is background too is there once
    assert named(data, "facts") == [("amy", "has", "zoo"), ("bob", "likes", "amy"), ("amy", "knows", "bob")]


def test_single_files_and_mappings_are_read(folder):
    alone = read_triples(folder / "train.txt")
    assert (alone.name, len(alone.train), len(alone.valid), len(alone.test)) == ("train", 2, 0, 0)
    mapped = read_triples({"test": folder / "train.txt", "train": str(folder / "test.txt.gz")})
    assert named(mapped, "train") == [("ä b", "knows", "amy")]
    assert named(mapped, "test") == [("bob", "likes", "amy"), ("amy", "knows", "bob")]


def test_line_breaks_of_unicode_are_no_line_breaks(tmp_path):
    data = read_triples(write(tmp_path / "train.tsv", "a\u2028b\tr\tc\x0bd\n"))
    assert data.entities == ("a\u2028b", "c\x0bd")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1)] * 3), min_size=1
    )
)
def test_any_names_survive(tmp_path_factory, triples):
    file = tmp_path_factory.mktemp("names") / "train.txt.gz"
    write(file, "\ufeff" + "\n".join("\t".join(triple) for triple in triples) + "\n")
    assert named(read_triples(file), "train") == triples


@pytest.mark.parametrize(
    "name, content, parts",
    [
        ("train.txt", "a\tr\tb\na\tr\n", ["train.txt, line 2", "2 columns"]),
        ("train.txt", "a\tr\tb\nc r d\n", ["line 2", "'c r d' has 1 column;", "tabs"]),
        ("train.txt", "a\tr\tb\tc\n" + "a\tr\tb\n", ["line 1", "4 columns"]),
        ("train.txt", "a\tr\tb\n\t\tb\n", ["line 2", "empty name"]),
        ("train.txt", "a\tr\tb\n\na\tr\tb\n", ["line 2", "the line is empty"]),
        ("train.txt", "a\tr\n\tb\tr\tc\n", ["line 1", "2 columns"]),  # as many tabs as three columns a line would have
        ("train.txt", "x" * 500 + "\n", ["line 1", "x" * 60 + "..."]),
        ("train.txt", b"a\tr\tb\na\tr\t\xff\n", ["line 2", "not UTF-8"]),
        ("train.txt", "", ["train.txt is empty"]),
        ("train.tsv.gz", "\n\n", ["is empty"]),
    ],
)
def test_bad_lines_are_named(tmp_path, name, content, parts):
    write(tmp_path / name, content)
    with pytest.raises(FileFormatError) as refusal:
        read_triples(tmp_path)
    for part in parts:
        assert part in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("keep", [30, -6, -1])
def test_truncated_gzip_is_refused(folder, keep):
    whole = (folder / "test.txt.gz").read_bytes()
    (folder / "test.txt.gz").write_bytes(whole[:keep])
    with pytest.raises(FileFormatError, match=r"test\.txt\.gz is truncated"):
        read_triples(folder)


@pytest.mark.parametrize("place", [0, 12, -5])
def test_damaged_gzip_is_refused(folder, place):
    raw = bytearray((folder / "test.txt.gz").read_bytes())
    raw[place] ^= 0x55
    (folder / "test.txt.gz").write_bytes(raw)
    with pytest.raises(FileFormatError, match=r"test\.txt\.gz"):
        read_triples(folder)


def test_missing_and_ambiguous_files_are_refused(folder):
    write(folder / "train.tsv", "a\tr\tb\n")
    with pytest.raises(FileFormatError, match=r"train\.txt and train\.tsv; keep one"):
        read_triples(folder)
    for file in ("train.txt", "train.tsv"):
        (folder / file).unlink()
    with pytest.raises(FileFormatError, match=r"has no training triples; give a file train\.txt"):
        read_triples(folder)
    with pytest.raises(FileFormatError, match="the mapping has no training triples"):
        read_triples({"test": folder / "test.txt.gz"})
    with pytest.raises(FileFormatError, match=r"nowhere\.txt cannot be read"):
        read_triples(folder / "nowhere.txt")
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        read_triples({"training": folder / "valid.tsv.gz"})


def test_inductive_graphs_share_their_relations(tmp_path):
    first = write(tmp_path / "first.txt", "a\ts\tb\na\tr\tc\nb\tt\tc\n")
    second = write(tmp_path / "second.txt", "a\tt\ty\nx\tr\ty\n")
    task = read_inductive(first, {"train": second, "test": write(tmp_path / "third.txt", "w\ts\tx\n")})
    assert task.name == "first"
    assert task.train.relations == task.test.relations == ("r", "s", "t")
    assert (task.train.entities, task.test.entities) == (("a", "b", "c"), ("a", "w", "x", "y"))
    assert named(task.test, "facts") == [("a", "t", "y"), ("x", "r", "y")]
    assert named(task.test, "test") == [("w", "s", "x")]


def test_relations_that_cannot_be_learned_are_refused(tmp_path):
    first = {"train": write(tmp_path / "a.txt", "a\tr\tb\n"), "test": write(tmp_path / "b.txt", "a\theld\tb\n")}
    second = write(tmp_path / "c.txt", "x\tr\ty\nx\theld\ty\ny\tnew\tx\n")
    with pytest.raises(ValueError, match="no fact of: 'held', 'new'"):
        read_inductive(first, second)
