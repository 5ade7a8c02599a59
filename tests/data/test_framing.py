"""Frames of events: closed forms, tonic's ToFrame, real recordings, nothing lost, refusals."""

import os
from pathlib import Path

import numpy as np
import pytest
import tonic

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import Framing
from lava_snnlearn.data.places import DATA_VARIABLE

EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
SENSOR = (5, 4, 2)


def recording(rows):
    return np.array([tuple(row) for row in rows], EVENT)


def random_recording(events=500, seed=0, last=1000):
    draw = np.random.default_rng(seed)
    found = np.zeros(events, EVENT)
    for name, size in (("x", 5), ("y", 4), ("p", 2), ("t", last + 1)):
        found[name] = draw.integers(0, size, events)
    found["t"] = np.sort(found["t"])
    found["t"][[0, -1]] = (0, last)
    return found


def slow(events, sensor_size, step, steps):
    """One event at a time; ``step(i)`` is the step of event i."""
    frames = np.zeros((steps, sensor_size[2], sensor_size[1], sensor_size[0]), int)
    for number, event in enumerate(events):
        frames[step(number), int(event["p"]), event["y"], event["x"]] += 1
    return frames.reshape(steps, -1)


def test_slices_by_time_have_equal_length():
    times = [7, 8, 16, 17, 26, 27, 37]  # from 7 to 37: 7..16, 17..26, 27..37
    events = recording([(number % 5, 1, t, 1) for number, t in enumerate(times)])
    expected = slow(events, SENSOR, lambda number: (0, 0, 0, 1, 1, 2, 2)[number], 3)
    assert np.array_equal(Framing(SENSOR, steps=3)(events), expected)


def test_slices_by_count_have_equal_numbers_of_events():
    events = recording([(number % 5, number % 4, number**3, number % 2) for number in range(7)])
    expected = slow(events, SENSOR, lambda number: (0, 0, 0, 1, 1, 2, 2)[number], 3)
    found = Framing(SENSOR, steps=3, by="count")(events)
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint8
    assert found.shape == (3, 40)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_frames_are_those_of_tonic_and_what_tonic_drops(steps):
    """500 events over 1000 units divide evenly by the steps: tonic drops those at the very end, and no others."""
    events = random_recording()
    by_count = tonic.transforms.ToFrame(sensor_size=SENSOR, n_event_bins=steps)(events)
    assert np.array_equal(Framing(SENSOR, steps, by="count")(events), by_count.reshape(steps, -1))
    found = Framing(SENSOR, steps)(events).astype(int)
    by_time = tonic.transforms.ToFrame(sensor_size=SENSOR, n_time_bins=steps)(events).reshape(steps, -1)
    last = events[events["t"] == 1000]
    assert len(last) > 0
    assert np.array_equal(found - by_time, slow(last, SENSOR, lambda _: steps - 1, steps))


@pytest.mark.parametrize("by", ["time", "count"])
@pytest.mark.parametrize("steps", [1, 3, 7, 600, 1500])
def test_no_event_is_lost(by, steps):
    """Also where there are more steps than events or time units."""
    for seed in range(3):
        events = random_recording(400 + seed, seed, last=997)
        assert Framing(SENSOR, steps, by)(events).sum(dtype=int) == len(events)


@pytest.mark.parametrize("by", ["time", "count"])
def test_order_and_kind_of_times_do_not_matter(by):
    events = random_recording()
    # No ties, whose order would be open; six times the last one is too much for 32 bits.
    events["t"] = np.sort(np.random.default_rng(3).choice(5000, 500, replace=False)) * 100_000
    expected = Framing(SENSOR, 6, by)(events)
    shuffled = np.random.default_rng(1).permutation(events)
    assert np.array_equal(Framing(SENSOR, 6, by)(shuffled), expected)
    for kind in (np.int32, np.uint64, np.float32, np.float64):
        other = np.zeros(500, [("p", bool), ("t", kind), ("y", np.uint8), ("x", np.uint16)])
        for field in "xytp":
            other[field] = events[field]
        assert np.array_equal(Framing(SENSOR, 6, by)(other), expected)


def test_events_at_one_moment_are_in_the_first_step():
    events = recording([(1, 1, 50, 0), (2, 1, 50, 0)])
    assert Framing(SENSOR, 4)(events).sum(1).tolist() == [2, 0, 0, 0]


def test_no_events_give_empty_frames():
    for by in ("time", "count"):
        assert not Framing(SENSOR, 4, by)(recording([])).any()


def test_blocks_of_pixels_are_added_up():
    events = random_recording()
    whole = np.zeros((3, 2, 4, 6), int)  # padded to blocks of 2 x 2
    whole[..., :5] = Framing(SENSOR, 3)(events).reshape(3, 2, 4, 5)
    framing = Framing(SENSOR, 3, spatial_downsample=2)
    assert framing.shape == (2, 2, 3)
    expected = whole.reshape(3, 2, 2, 2, 3, 2).sum((3, 5))
    assert np.array_equal(framing(events).reshape(3, *framing.shape), expected)


def test_counts_are_cut():
    events = recording([(0, 0, 0, 0)] * 300 + [(1, 0, 0, 0)] * 2)
    assert Framing(SENSOR, 1)(events)[0, :2].tolist() == [255, 2]
    assert Framing(SENSOR, 1, max_count=1)(events)[0, :2].tolist() == [1, 1]


def test_one_polarity_merges_all_and_height_one_needs_no_y():
    events = np.zeros(3, [("t", int), ("x", int), ("p", int)])
    events["x"], events["p"] = (0, 2, 2), (1, 0, 1)
    assert Framing((3, 1, 1), 1)(events).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("field, value, name", [("x", 5, "x"), ("y", -1, "y"), ("p", 2, "polarity")])
def test_events_outside_of_the_sensor_are_refused(field, value, name):
    events = random_recording()
    events[field][[3, 7]] = value
    with pytest.raises(
        ValueError, match=rf"digits\[8\]: {name} {value} of 2 events is outside of 0\.\.\d.*sensor_size.*clip_outl"
    ):
        Framing(SENSOR)(events, "digits[8]")


def test_times_that_are_no_numbers_are_refused():
    events = random_recording().astype([("x", int), ("y", int), ("t", float), ("p", int)])
    events["t"][9] = np.nan
    with pytest.raises(ValueError, match=r"recording: t holds 1 values that are NaN or infinite \(first at index \(9,\)\)"):
        Framing(SENSOR)(events)


@pytest.mark.parametrize("events", [np.zeros((5, 4)), [(1, 2, 3, 4)], np.zeros(5, [("x", int), ("t", int), ("p", int)])])
def test_other_arrays_are_refused(events):
    with pytest.raises(TypeError, match="structured numpy array with fields x, y, t, p"):
        Framing(SENSOR)(events)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"steps": 0}, ValueError, "steps is 0; it must be at least 1"),
        ({"steps": 2.0}, TypeError, r"steps is 2\.0; it must be an integer"),
        ({"by": "tim"}, UnknownNameError, "Did you mean 'time'"),
        ({"spatial_downsample": 0}, ValueError, "spatial_downsample is 0"),
        ({"max_count": 256}, ValueError, "max_count is 256; it must be at least 1 and at most 255"),
        ({"max_count": 0}, ValueError, "max_count is 0"),
        ({"sensor_size": (5, 0, 2)}, ValueError, r"sensor_size is \(5, 0, 2\)"),
        ({"sensor_size": (5, 4)}, TypeError, r"sensor_size is \(5, 4\); give \(width, height, polarities\)"),
        ({"sensor_size": None}, TypeError, "sensor_size is None"),
    ],
)
def test_bad_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Framing(**({"sensor_size": SENSOR} | options))


def raw_nmnist(path):
    return tonic.io.read_mnist_file(path, dtype=tonic.datasets.NMNIST.dtype)


def raw_ncars(path):
    from expelliarmus import Wizard

    return Wizard(encoding="dat").read(path)


def raw_aedat2(path):
    version, start, _ = tonic.io.read_aedat_header_from_file(path)
    words = tonic.io.get_aer_events_from_file(path, version, start)
    address = words["address"]
    fields = (address >> 1) & 0x7F, (address >> 8) & 0x7F, words["timeStamp"], 1 - (address & 1)
    return tonic.io.make_structured_array(*fields)


def written_nmnist(folder):
    """A file of N-MNIST's format (40 bits an event: x, y, polarity and 23 bits of time), for machines without the real ones."""
    events = random_recording(300, last=300_000)
    t = events["t"]
    columns = [events["x"], events["y"], events["p"] << 7 | t >> 16, t >> 8 & 255, t & 255]
    path = folder / "written.bin"
    path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())
    return path


FOLDER = Path(os.environ.get(DATA_VARIABLE, "none")) / "events" / "raw_samples"
REAL = {
    "sample_nmnist.bin": (raw_nmnist, (34, 34, 2), 4325),
    "sample_ncars.dat": (raw_ncars, (120, 100, 2), 2009),
    "poker_he_79.aedat": (raw_aedat2, (128, 128, 2), 3577),
}
RAW = {"written.bin": (raw_nmnist, SENSOR, 300)} | {file: how for file, how in REAL.items() if (FOLDER / file).is_file()}


@pytest.mark.parametrize("by", ["time", "count"])
@pytest.mark.parametrize("file", RAW)
def test_raw_files_become_frames(tmp_path, file, by):
    """The real files, if the environment names a folder that holds them."""
    read, sensor, count = RAW[file]
    events = read(written_nmnist(tmp_path) if file == "written.bin" else FOLDER / file)
    found = Framing(sensor, 8, by)(events)
    # Each pixel and polarity has its events, whatever the slices.
    expected = slow(events, sensor, lambda _: 0, 1)
    assert found.sum(dtype=int) == count
    assert np.array_equal(found.sum(0, dtype=int), expected[0])
