"""Event data sets: the local subset, tonic's classes by name (stand-ins, no downloads), users' recordings, refusals."""

import os

import numpy as np
import pytest
import tonic
from torch.utils.data import Subset

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import EVENT_DATASETS, Framing, from_tonic, load, load_events
from lava_snnlearn.data.places import DATA_VARIABLE

OWN_FOLDER = os.environ.get(DATA_VARIABLE)
SUBSET = "events/nmnist_1100.npz"
REAL_SUBSET = OWN_FOLDER is not None and os.path.isfile(os.path.join(OWN_FOLDER, SUBSET))
# From the description of the data.
TRAIN_COUNTS = [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
TEST_COUNTS = [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def random_events(sensor_size, number, events=40):
    draw = np.random.default_rng(number)
    found = np.zeros(events, EVENT)
    for name, size in zip("xyp", sensor_size, strict=True):
        found[name] = draw.integers(0, size, events)
    found["t"] = np.sort(draw.integers(0, 9999, events))
    return found


class Recordings(list):
    """A list of (events, label); the labels are 0, 1, .., classes - 1, 0, .."""

    def __init__(self, samples, sensor_size=(6, 5, 2), classes=3, first=0):
        labels = np.arange(samples) % classes
        super().__init__((random_events(sensor_size, first + n), int(label)) for n, label in enumerate(labels))


def make(**options):
    settings = {"sensor_size": (6, 5, 2), "classes": 3, "steps": 4, "progress": False} | options
    train, test = settings.pop("train", Recordings(30)), settings.pop("test", Recordings(9, first=100))
    return from_tonic(train, test, **settings)


@pytest.fixture
def no_folder(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


@pytest.fixture
def subset(tmp_path, monkeypatch):
    """The folder with the subset of N-MNIST: the real one, if there is one, or a stand-in with the same classes."""
    if REAL_SUBSET:
        monkeypatch.setenv(DATA_VARIABLE, OWN_FOLDER)
        return os.path.join(OWN_FOLDER, SUBSET)
    draw, arrays = np.random.default_rng(0), {}
    for split, counts in (("train", TRAIN_COUNTS), ("test", TEST_COUNTS)):
        sizes = draw.integers(20, 40, sum(counts))
        total = int(sizes.sum())
        pixels = {name: draw.integers(0, size, total).astype(np.uint8) for name, size in (("x", 34), ("y", 34), ("p", 2))}
        pixels["dt"] = draw.integers(0, 20_000, total).astype(np.uint16)
        pixels["offsets"] = np.concatenate([[0], np.cumsum(sizes)])
        pixels["label"] = np.repeat(np.arange(10), counts).astype(np.uint8)
        arrays |= {f"{split}_{name}": value for name, value in pixels.items()}
    (tmp_path / "events").mkdir()
    np.savez(tmp_path / SUBSET, **arrays)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    return tmp_path / SUBSET


@pytest.mark.parametrize("by", ["time", "count"])
def test_the_subset_of_nmnist_is_whole(subset, by):
    data = load("nmnist", valid=0.0, steps=6, by=by, progress=False)
    assert (data.name, data.classes, data.shape, data.steps) == ("nmnist-1100", 10, (2, 34, 34), 6)
    assert data.train.x.dtype == np.uint8
    assert np.bincount(data.train.y).tolist() == TRAIN_COUNTS
    assert np.bincount(data.test.y).tolist() == TEST_COUNTS
    with np.load(subset) as store:
        for split, part in (("train", data.train), ("test", data.test)):
            assert np.array_equal(part.x.sum((1, 2), dtype=int), np.diff(store[f"{split}_offsets"]))
            for number in (0, len(part) - 1):  # sample by sample, slowly
                events = slice(*store[f"{split}_offsets"][number : number + 2])
                p, y, x = (store[f"{split}_{name}"][events].astype(int) for name in "pyx")
                assert np.array_equal(part.x[number].sum(0, dtype=int), np.bincount((p * 34 + y) * 34 + x, minlength=2312))
                if by == "time":
                    t = np.cumsum(store[f"{split}_dt"][events], dtype=int)
                    edges = t[0] + (t[-1] - t[0]) * np.arange(7) / 6
                    assert np.array_equal(part.x[number].sum(1, dtype=int), np.histogram(t, edges)[0])


def test_parts_of_the_subset_are_stratified_and_depend_on_the_seed(subset):
    options = {"steps": 1, "spatial_downsample": 4, "progress": False}
    data, again, other = (load("nmnist", train_size=200, valid=0.25, seed=seed, **options) for seed in (1, 1, 2))
    assert (len(data.train), len(data.valid), len(data.test)) == (150, 50, 100)
    assert data.shape == (2, 9, 9)
    assert abs(np.bincount(data.valid.y) - np.array(TRAIN_COUNTS) / 20).max() < 1
    assert np.array_equal(data.train.x, again.train.x)
    assert not np.array_equal(data.train.y, other.train.y)
    assert np.array_equal(data.test.x, other.test.x)


@pytest.mark.parametrize("scale", ["unit"])
def test_events_are_not_scaled(subset, scale):
    with pytest.raises(ValueError, match=r"scale is 'unit', but events are counted.*max_count=1"):
        load("nmnist", scale=scale)


SPLITS = {
    "asl_dvs": ("ASLDVS", {}),
    "cifar10_dvs": ("CIFAR10DVS", {}),
    "dvs_gesture": ("DVSGesture", {"train": [True, False]}),
    "dvs_lip": ("DVSLip", {"train": [True, False]}),
    "ncaltech101": ("NCALTECH101", {}),
    "nmnist": ("NMNIST", {"train": [True, False]}),
    "ntidigits": ("NTIDIGITS18", {"train": [True, False], "single_digits": [True, True]}),
    "pokerdvs": ("POKERDVS", {"train": [True, False]}),
    "shd": ("SHD", {"train": [True, False]}),
    "ssc": ("SSC", {"split": ["train", "valid", "test"]}),
}


class FakeTonic:
    """Stands for a class of tonic: ten recordings a class and split, with files in an order of no meaning."""

    def __init__(self, name, calls):
        self.real, self.calls = getattr(tonic.datasets, name), calls
        self.sensor_size = self.real.sensor_size
        self.named = name == "NCALTECH101"

    def __call__(self, save_to, **options):
        self.calls.append((save_to, options))
        order = np.random.default_rng(len(self.calls)).permutation(30)
        size = self.sensor_size or (240, 180, 2)
        labels = [number % 3 for number in order]
        fake = Recordings(0)
        fake.extend((random_events(size, number), f"class{number % 3}" if self.named else number % 3) for number in order)
        fake.data = [f"{save_to}/{number:03d}.bin" for number in order]
        fake.targets = [f"class{label}" for label in labels] if self.named else labels
        return fake


@pytest.fixture
def fake_tonic(monkeypatch, no_folder):
    def replace(name):
        calls = []
        monkeypatch.setattr(tonic.datasets, name, FakeTonic(name, calls))
        return calls

    return replace


def test_all_names_are_tested():
    assert set(SPLITS) == set(EVENT_DATASETS)


@pytest.mark.parametrize("name", SPLITS)
def test_sets_by_name_are_read_by_tonic(fake_tonic, tmp_path, name):
    tonic_name, expected = SPLITS[name]
    real = getattr(tonic.datasets, tonic_name)
    calls = fake_tonic(tonic_name)
    data = load(name, steps=2, spatial_downsample=8, valid=0.2, folder=tmp_path, progress=False)
    assert all(place == str(tmp_path) for place, _ in calls)
    given = {key: [options[key] for _, options in calls] for key in calls[0][1]}
    assert given == expected
    width, height, polarities = real.sensor_size or (240, 180, 2)
    assert data.shape == (polarities, -(-height // 8), -(-width // 8))
    classes = 3 if name == "ncaltech101" else 11 if name == "ntidigits" else None
    known = getattr(real, "classes", None)
    assert data.classes == (classes or (len(known) if known else {"shd": 20, "ssc": 35}[name]))
    assert data.name == name
    if name == "ssc":
        assert (len(data.train), len(data.valid), len(data.test)) == (30, 30, 30)
    elif expected:
        assert (len(data.train), len(data.valid), len(data.test)) == (24, 6, 30)
    else:
        assert (len(data.train), len(data.valid), len(data.test)) == (21, 6, 3)
    # Frames belong to their labels, which follow from the number of the recording.
    framing = Framing(real.sensor_size or (240, 180, 2), 2, spatial_downsample=8)
    ours = {framing(random_events(framing.sensor_size, number)).tobytes(): number % 3 for number in range(30)}
    for part in (data.train, data.valid, data.test):
        assert [ours[x.tobytes()] for x in part.x] == part.y.tolist()


@pytest.mark.parametrize("name", ["shd", "cifar10_dvs", "ncaltech101"])
def test_kept_frames_are_used_and_are_those_of_their_settings(fake_tonic, tmp_path, name):
    calls = fake_tonic(SPLITS[name][0])
    options = {"spatial_downsample": 8, "folder": tmp_path, "progress": False}
    first = load(name, steps=2, **options)
    opened = len(calls)
    again = load(name, steps=2, **options)
    assert len(calls) == opened
    for split in ("train", "valid", "test"):
        assert np.array_equal(getattr(again, split).x, getattr(first, split).x)
        assert np.array_equal(getattr(again, split).y, getattr(first, split).y)
    assert (again.classes, again.shape) == (first.classes, first.shape)
    for other in ({"steps": 3}, {"steps": 2, "by": "count"}, {"steps": 2, "transform": tonic.transforms.DropEvent(0.5)}):
        before = len(calls)
        assert not np.array_equal(load(name, **options, **other).train.x, first.train.x)
        assert len(calls) > before


def test_damaged_frames_are_made_anew(fake_tonic, tmp_path):
    calls = fake_tonic("SHD")
    first = load_events("shd", steps=2, folder=tmp_path, progress=False)
    (file,) = (tmp_path / "frames").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    opened = len(calls)
    assert np.array_equal(load_events("shd", steps=2, folder=tmp_path, progress=False).train.x, first.train.x)
    assert len(calls) == 2 * opened


def test_draws_do_not_depend_on_the_order_of_files(fake_tonic, tmp_path):
    """The stand-in lists its files in another order each time it is opened."""
    fake_tonic("DVSGesture")
    noise = tonic.transforms.DropEvent(0.5)
    options = {"steps": 2, "spatial_downsample": 8, "transform": noise, "progress": False}
    first, again = (load_events("dvs_gesture", folder=tmp_path / place, **options) for place in "ab")
    assert np.array_equal(first.train.x, again.train.x)
    assert np.array_equal(first.valid.y, again.valid.y)


def test_without_a_test_split_the_draw_is_stratified_and_never_changes():
    data, other = (make(test=None, seed=seed, valid=valid) for seed, valid in ((0, 0.0), (5, 0.3)))
    assert (len(data.train), len(data.test)) == (27, 3)
    assert sorted(data.test.y) == [0, 1, 2]
    assert np.array_equal(data.test.x, other.test.x)


@pytest.mark.parametrize("error", [OSError("no network"), SystemExit(1)])
def test_a_download_that_fails_says_what_to_do(monkeypatch, no_folder, tmp_path, error):
    def fail(*args, **options):
        raise error

    fail.sensor_size = (34, 34, 2)
    monkeypatch.setattr(tonic.datasets, "NMNIST", fail)
    with pytest.raises(RuntimeError) as refusal:
        load("nmnist", folder=tmp_path, progress=False)
    for part in ("NMNIST could not be downloaded", repr(error), str(tmp_path / "NMNIST"), "folder=", DATA_VARIABLE, SUBSET):
        assert part in str(refusal.value)


def test_own_recordings_become_a_data_set():
    train, test = Recordings(30), Recordings(9, first=100)
    data = make(train=train, test=test, valid=0.0, name="mine", by="count")
    framing = Framing((6, 5, 2), 4, "count")
    assert np.array_equal(data.train.x, np.stack([framing(events) for events, _ in train]))
    assert data.test.y.tolist() == [label for _, label in test]
    assert (data.name, data.classes, data.shape, data.image_shape) == ("mine", 3, (2, 5, 6), (5, 6))


def test_labels_may_be_names_and_numbers_of_numpy():
    names = ["cat", "dog", "eel"]
    train = [(events, np.str_(names[label])) for events, label in Recordings(12)]
    assert make(train=train, test=train[:3], classes=names, valid=0.0).train.y.tolist() == [0, 1, 2] * 4
    numbers = [(events, np.int32(label)) for events, label in Recordings(12)]
    assert make(train=numbers, test=numbers[:3], valid=0.0).train.y.tolist() == [0, 1, 2] * 4


def test_transforms_come_before_framing_and_leave_the_recordings_alone():
    train = Recordings(12)
    before = [events.copy() for events, _ in train]
    flipped = make(train=train, valid=0.0, transform=tonic.transforms.RandomFlipLR((6, 5, 2), p=1.0))
    assert all(np.array_equal(events, old) for (events, _), old in zip(train, before, strict=True))
    plain = make(train=train, valid=0.0)
    assert np.array_equal(flipped.train.x.reshape(-1, 6)[:, ::-1], plain.train.x.reshape(-1, 6))


def test_random_transforms_depend_on_the_seed_and_leave_the_generator_alone():
    drop = tonic.transforms.DropEvent(0.5)
    np.random.seed(1)  # noqa: NPY002
    first = make(transform=drop, valid=0.0, seed=4)
    after = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert after == np.random.rand()  # noqa: NPY002
    again, other = make(transform=drop, valid=0.0, seed=4), make(transform=drop, valid=0.0, seed=5)
    assert np.array_equal(first.train.x, again.train.x)
    assert not np.array_equal(first.train.x, other.train.x)
    assert (first.train.x.sum((1, 2)) == 20).all()
    # The same events would be dropped from every recording, were they not drawn for each.
    same = [Recordings(1)[0]] * 6
    drawn = make(train=same, test=same[:1], transform=drop, valid=0.0, seed=4)
    assert len({sample.tobytes() for sample in drawn.train.x}) > 1


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"classes": 2}, ValueError, r"label of events\.train\[2\] is 2; labels must lie in 0\.\.1"),
        ({"classes": ["0", "1"]}, UnknownNameError, r"unknown class of events\.train\[0\] 0"),
        ({"sensor_size": (5, 5, 2)}, ValueError, r"events\.train\[\d\]: x 5 of"),
        ({"transform": "denoise"}, TypeError, "transform is 'denoise'; pass a tonic transform"),
        ({"train": [(np.zeros((3, 4)), 0)] * 10}, TypeError, r"events\.train\[0\] is of type ndarray"),
        ({"train": [(e, 0.5) for e, _ in Recordings(10)]}, TypeError, r"label of events\.train\[0\] is 0\.5"),
        ({"valid": 1.0}, ValueError, r"valid is 1\.0"),
        ({"valid": "0.1"}, TypeError, "valid is '0.1'; it must be a number"),
        ({"train_size": 31}, ValueError, "train_size is 31; events has 10 to 30"),
        ({"train_size": 20.0}, TypeError, r"train_size is 20\.0; it must be an integer"),
        ({"test": None, "train": Recordings(12)}, ValueError, "a test split of 10% of 12 samples"),
        ({"steps": 0}, ValueError, "steps is 0"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_a_recording_that_cannot_be_read_is_named():
    class Broken(Recordings):
        def __getitem__(self, index):
            if index == 7:
                raise ModuleNotFoundError("No module named 'aedat'")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match=r"events\.train\[7\] could not be read.*'aedat'.*install"):
        make(train=Broken(30))


def test_more_frames_than_memory_are_refused_before_any_are_made():
    class Endless:
        def __len__(self):
            return 10**9

        def __getitem__(self, index):
            raise AssertionError("a recording was read")

    with pytest.raises(MemoryError, match=r"frames of events need 240\.\d GB \(1000000009 rec.*spatial_downsample.*Subset"):
        make(train=Endless())


def test_a_part_of_a_tonic_set_can_be_given():
    data = make(train=Subset(Recordings(30), range(5, 20)), valid=0.0)
    assert data.train.y.tolist() == [number % 3 for number in range(5, 20)]


@pytest.mark.parametrize("call", [load, load_events])
def test_unknown_names_get_the_nearest(call):
    with pytest.raises(UnknownNameError, match="Did you mean 'dvs_gesture'"):
        call("dvsgesture")
