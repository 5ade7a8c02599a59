"""Event data sets: tonic reads the recordings, here they become frames.

By name, tonic downloads them once. "nmnist" is read from events/nmnist_1100.npz in the folder that the environment variable
LAVA_SNNLEARN_DATA names, where it is there: a subset, then called "nmnist-1100".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import known_name, shown, whole_number
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.data.framing import Framing
from lava_snnlearn.data.places import DATA_VARIABLE, cache_folder, local_file
from lava_snnlearn.data.splits import check_sizes, set_aside, stratified
from lava_snnlearn.files import FileFormatError, read_tree, write_tree

Transform = Callable[[NDArray[Any]], NDArray[Any]]
_LOCAL_NMNIST = "events/nmnist_1100.npz"
# The share of test samples where a data set has no split of its own.
_TEST_SHARE = 0.1


class Recordings(Protocol):
    """Anything like a data set of tonic: ``recordings[i]`` is (events, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


class _Source(NamedTuple):
    """A data set of tonic: its class there, options for each split (one for all: no split of its own), number of classes (None:
    the labels are names), and the sensor where tonic does not say."""

    tonic_class: str
    splits: Mapping[str, Mapping[str, Any]]
    classes: int | None
    sensor_size: tuple[int, int, int] | None = None


_OFFICIAL: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_WHOLE: Mapping[str, Mapping[str, Any]] = {"train": {}}
EVENT_DATASETS: dict[str, _Source] = {
    "asl_dvs": _Source("ASLDVS", _WHOLE, 26),
    "cifar10_dvs": _Source("CIFAR10DVS", _WHOLE, 10),
    "dvs_gesture": _Source("DVSGesture", _OFFICIAL, 11),
    "dvs_lip": _Source("DVSLip", _OFFICIAL, 100),
    # Recordings have different sizes; the largest is 240 x 180.
    "ncaltech101": _Source("NCALTECH101", _WHOLE, None, (240, 180, 2)),
    "nmnist": _Source("NMNIST", _OFFICIAL, 10),
    "ntidigits": _Source("NTIDIGITS18", {name: {**way, "single_digits": True} for name, way in _OFFICIAL.items()}, 11),
    "pokerdvs": _Source("POKERDVS", _OFFICIAL, 4),
    "shd": _Source("SHD", _OFFICIAL, 20),
    "ssc": _Source("SSC", {name: {"split": name} for name in ("train", "valid", "test")}, 35),
}


def load_events(
    name: str,
    *,
    steps: int = 10,
    by: str = "time",
    transform: Transform | None = None,
    sensor_size: tuple[int, int, int] | None = None,
    spatial_downsample: int = 1,
    max_count: int = 255,
    valid: float = 0.1,
    train_size: int | None = None,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Dataset:
    """An event data set by name, as sequences of frames; see EVENT_DATASETS for the names.

    Frames of downloaded sets are kept in <folder>/frames unless there is a transform; remove that folder to frame anew.
    "cifar10_dvs", "ncaltech101" and "asl_dvs" have no split of their own: 10 % (stratified, always the same) are for testing.
    "cifar10_dvs" needs the package aedat besides.

    Args:
        name: see above.
        steps, by, spatial_downsample, max_count: see :class:`~lava_snnlearn.data.framing.Framing`.
        transform: a tonic transform of the raw events, before framing, of all splits. Random ones are drawn once, from ``seed``
            and the number of the recording.
        sensor_size: (W, H, polarities) of the events after the transform, where that changes it.
        valid: fraction of the training split that is set aside (stratified); 0: nothing. "ssc" has a split of its own.
        train_size: use only this many training samples (stratified); None uses all.
        seed: for the draws of ``valid``, ``train_size`` and the transform.
        folder: where tonic downloads to and looks first; None: ~/.cache/lava_snnlearn.
        progress: show a progress bar while framing.

    Returns:
        Dataset with x uint8 [N, T, P * H * W], y int64 [N], shape (P, H, W).

    Raises:
        UnknownNameError: unknown name or ``by``. ValueError, TypeError: an option out of range or of another type.
        RuntimeError: a download that failed or a recording that cannot be read; says what to do.
        MemoryError: more frames than this machine's memory holds; says what to do.
    """
    source = EVENT_DATASETS[known_name("event data set", name, EVENT_DATASETS)]
    check_sizes(name, train_size or 0, valid, None)
    place = cache_folder() if folder is None else Path(folder).expanduser()
    local = local_file(_LOCAL_NMNIST) if name == "nmnist" else None
    title, known = (name, source.sensor_size) if local is None else ("nmnist-1100", (34, 34, 2))
    sensor = sensor_size or known or _tonic_class(source).sensor_size
    framing = Framing(sensor, steps, by, spatial_downsample, max_count)
    kept = place / "frames" / f"{name}-{_digest(framing)}.h5" if local is None and transform is None else None
    found = None if kept is None else _read_frames(kept)
    if found is None:
        recordings = _recordings(source, local, place)
        check_sizes(name, len(recordings["train"]), valid, train_size)
        classes = _classes(source, recordings)
        splits = _frame_splits(title, recordings, framing, transform, classes, seed, progress)
        found = splits, classes if isinstance(classes, int) else len(classes)
        if kept is not None:
            tree = {split: {"x": part.x, "y": part.y} for split, part in splits.items()}
            write_tree(kept, {"splits": tree, "classes": found[1]}, content="frames")
    return _assemble(title, *found, framing, valid, train_size, seed)


def from_tonic(
    train: Recordings,
    test: Recordings | None = None,
    *,
    sensor_size: tuple[int, int, int],
    classes: int | Sequence[str],
    name: str = "events",
    steps: int = 10,
    by: str = "time",
    transform: Transform | None = None,
    spatial_downsample: int = 1,
    max_count: int = 255,
    valid: float = 0.1,
    train_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Dataset:
    """Recordings of your own as sequences of frames.

    Args:
        train, test: data sets of tonic, or anything with len() whose items are (events, label), events as in
            :class:`~lava_snnlearn.data.framing.Framing`. Without ``test``, 10 % of ``train`` (stratified, always the same).
        sensor_size: (W, H, polarities) of the events after the transform.
        classes: number of classes (labels 0 .. classes - 1), or the names of the classes (labels are names).
        name: for reports.
        steps, by, transform, spatial_downsample, max_count, valid, train_size, seed, progress: as in :func:`load_events`.

    Returns:
        Dataset, as there.

    Raises what :func:`load_events` raises, except for downloads.
    """
    framing = Framing(sensor_size, steps, by, spatial_downsample, max_count)
    check_sizes(name, len(train), valid, train_size)
    count = whole_number("classes", classes) if isinstance(classes, (int, np.integer)) else len(classes)
    recordings = {"train": train} if test is None else {"train": train, "test": test}
    splits = _frame_splits(name, recordings, framing, transform, classes, seed, progress)
    return _assemble(name, splits, count, framing, valid, train_size, seed)


class _LocalNmnist:
    """A split of the local subset of N-MNIST (1000 + 100 recordings): times are stored as differences within a recording."""

    def __init__(self, path: Path, split: str) -> None:
        with np.load(path, allow_pickle=False) as store:
            self._fields = {key: store[f"{split}_{key}"] for key in ("x", "y", "p", "dt", "offsets", "label")}

    def __len__(self) -> int:
        return len(self._fields["label"])

    def __getitem__(self, index: int) -> tuple[NDArray[Any], int]:
        from tonic.datasets import NMNIST
        from tonic.io import make_structured_array

        part = slice(*(int(at) for at in self._fields["offsets"][index : index + 2]))
        x, y, p, dt = (self._fields[key][part] for key in ("x", "y", "p", "dt"))
        events = make_structured_array(x, y, np.cumsum(dt, dtype=np.int64), p, dtype=NMNIST.dtype)
        return events, int(self._fields["label"][index])


def _tonic_class(source: _Source) -> Any:
    # tonic reads this part of numpy as an attribute, without importing it.
    import numpy.lib.recfunctions  # noqa: F401
    from tonic import datasets

    return getattr(datasets, source.tonic_class)


def _recordings(source: _Source, local: Path | None, place: Path) -> dict[str, Recordings]:
    """By split, of the local subset of N-MNIST if there is one, else through tonic."""
    if local is not None:
        return {split: _LocalNmnist(local, split) for split in ("train", "test")}
    return {split: _open(source, way, place) for split, way in source.splits.items()}


def _open(source: _Source, way: Mapping[str, Any], place: Path) -> Recordings:
    try:
        recordings = _tonic_class(source)(str(place), **way)
    except (Exception, SystemExit) as error:  # one of tonic's data sets exits
        raise RuntimeError(
            f"{source.tonic_class} could not be downloaded by tonic ({error!r}). Check the network connection; or download its "
            f"archive by hand (https://tonic.readthedocs.io, data sets, {source.tonic_class}), put it into "
            f"{place / source.tonic_class} under the name that tonic gives it, and load again. folder= names another place. "
            f'For "nmnist", {DATA_VARIABLE} may name a folder that holds {_LOCAL_NMNIST}.'
        ) from error
    return _in_order(recordings)


def _in_order(recordings: Any) -> Recordings:
    """Sorted by path where the items are files: some of tonic's data sets take them in the order of the file system, and the
    draws of a seed shall be the same on all machines."""
    from torch.utils.data import Subset

    paths = getattr(recordings, "data", None)
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return recordings
    ordered: Recordings = Subset(recordings, sorted(range(len(paths)), key=paths.__getitem__))
    return ordered


def _classes(source: _Source, recordings: Mapping[str, Any]) -> int | list[str]:
    return source.classes if source.classes is not None else sorted(set(recordings["train"].dataset.targets))


def _frame_splits(
    name: str,
    recordings: Mapping[str, Recordings],
    framing: Framing,
    transform: Transform | None,
    classes: int | Sequence[str],
    seed: int,
    progress: bool,
) -> dict[str, Split]:
    if transform is not None and not callable(transform):
        raise TypeError(f"transform is {shown(transform)}; pass a tonic transform, e.g. tonic.transforms.Denoise(10000)")
    _check_memory(name, sum(len(part) for part in recordings.values()), framing)
    with _numpy_generator_kept():
        return {
            split: _frame_split(f"{name}.{split}", part, framing, transform, classes, [seed, number], progress)
            for number, (split, part) in enumerate(recordings.items())
        }


def _frame_split(
    where: str,
    recordings: Recordings,
    framing: Framing,
    transform: Transform | None,
    classes: int | Sequence[str],
    seeds: list[int],
    progress: bool,
) -> Split:
    from rich.console import Console
    from rich.progress import track

    x = np.zeros((len(recordings), framing.steps, int(np.prod(framing.shape))), np.uint8)
    y = np.zeros(len(recordings), np.int64)
    numbers = range(len(recordings))
    for number in track(numbers, f"frames of {where}", console=Console(stderr=True), disable=not progress):
        at = f"{where}[{number}]"
        try:
            events, label = recordings[number]
        except Exception as error:
            raise RuntimeError(
                f"{at} could not be read ({error!r}). Download the data set anew; where a package is missing, install it"
            ) from error
        if transform is not None:
            # tonic's transforms draw from numpy's global generator and may write into the events.
            np.random.seed(np.random.SeedSequence([*seeds, number]).generate_state(1))  # noqa: NPY002
            events = transform(events.copy())
        x[number] = framing(events, at)
        y[number] = _label(label, classes, at)
    return Split(x, y)


def _label(label: Any, classes: int | Sequence[str], where: str) -> int:
    if not isinstance(classes, int):
        known_name(f"class of {where}", label, classes)
        return list(classes).index(label)
    value = whole_number(f"label of {where}", label.item() if isinstance(label, np.ndarray) else label)
    if not 0 <= value < classes:
        raise ValueError(f"label of {where} is {value}; labels must lie in 0..{classes - 1}. Raise `classes`.")
    return value


@contextmanager
def _numpy_generator_kept() -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _check_memory(name: str, samples: int, framing: Framing) -> None:
    need = samples * framing.steps * int(np.prod(framing.shape))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > there:
        raise MemoryError(
            f"the frames of {name} need {need / 1e9:.1f} GB ({samples} recordings, {framing.steps} steps, {framing.shape}), "
            f"this machine has {there / 1e9:.1f} GB. Raise spatial_downsample, lower steps, or give from_tonic() a part of the "
            "recordings (torch.utils.data.Subset)."
        )


def _digest(framing: Framing) -> str:
    return hashlib.sha256(repr(framing).encode()).hexdigest()[:16]


def _read_frames(path: Path) -> tuple[dict[str, Split], int] | None:
    """Frames kept by an earlier call; None where there are none, or damaged ones."""
    try:
        tree = read_tree(path, content="frames")
        return {split: Split(part["x"], part["y"]) for split, part in tree["splits"].items()}, int(tree["classes"])
    except (FileFormatError, LookupError, TypeError, AttributeError):
        return None


def _assemble(
    name: str,
    splits: Mapping[str, Split],
    classes: int,
    framing: Framing,
    valid: float,
    train_size: int | None,
    seed: int,
) -> Dataset:
    train, test, held = splits["train"], splits.get("test"), splits.get("valid")
    if test is None:
        # Always the same draw, so that no choice of seed moves test samples into the training split.
        chosen, rest = stratified(
            train.y, np.arange(len(train)), f"a test split of {_TEST_SHARE:.0%}", 0, test_size=_TEST_SHARE
        )
        train, test = train.take(chosen), train.take(rest)
    check_sizes(name, len(train), valid, train_size)
    if held is None:
        train, held = set_aside(train, valid, train_size, seed)
    else:
        train, nothing = set_aside(train, 0.0, train_size, seed)
        held = held if valid > 0 else nothing
    return Dataset(name, train, held, test, classes, shape=framing.shape)
