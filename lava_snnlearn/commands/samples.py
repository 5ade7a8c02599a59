"""Samples for a network file: the user's own, a data set's, those of the run that the file belongs to, or random ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lava_snnlearn.checks import known_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lava_snnlearn.fixed_point.graph import FixedNetwork

NPY = "Your own samples, a .npy file of numbers [N, features], or of sequences [time, N, features]."
"""Help of the option."""


def samples_for(
    file: Path, network: FixedNetwork, data: str | None, npy: Path | None, count: int | None
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Samples and, where known, labels for a network file: from --npy, --data, or the run that the file belongs to."""
    import torch

    from lava_snnlearn.data import DATASETS, EVENT_DATASETS, load
    from lava_snnlearn.data.batches import inputs

    _check_count(count)
    if npy is not None:
        if data is not None:
            raise ValueError("--npy and --data both name the samples; give one of them")
        return read_npy(npy, count), None
    settings = _settings_of_run(file.parent / "summary.json") if data is None else {"data": data}
    if "sequence" in settings:
        return _of_tasks(file, settings, count)
    chosen = str(settings["data"])
    if known_name("data set", chosen, [*DATASETS, *EVENT_DATASETS, "random"]) == "random":
        return _random(network, count or 64), None
    if chosen in EVENT_DATASETS:
        most: dict[str, Any] = {"max_count": 1} if network.host.form == "spikes" else {}
        test = load(chosen, steps=network.steps, **most).test
    else:
        # Payloads of data of [0, 1] start at 0.0; standardised data reach below.
        unit = network.host.encoding != "direct" or (network.host.form == "graded" and network.host.offset == 0)
        test = load(chosen, scale="unit" if unit else "standard").test
    return inputs(test.x[:count], torch.device("cpu"), torch.float32).numpy(), test.y[:count]


def read_npy(path: Path, count: int | None) -> NDArray[Any]:
    """The first ``count`` samples of the user's own, or all: numbers [N, features] or sequences [time, N, features].

    Raises:
        ValueError: no such array, an empty one; a count below 1.
    """
    import numpy as np

    _check_count(count)
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy lets those of its parts through: zipfile's, tokenize's, MemoryError of a forged shape
        raise ValueError(f"{path} is not a readable .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays (.npz); save the samples alone with numpy.save")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {array.dtype}; expected numbers")
    if array.ndim not in (2, 3):
        raise ValueError(f"{path} has shape {array.shape}; expected samples [N, features] or sequences [time, N, features]")
    if not array.size:
        raise ValueError(f"{path} has shape {array.shape}; it holds no samples")
    # Sequences are time first.
    return array[:, :count] if array.ndim == 3 else array[:count]


def _check_count(count: int | None) -> None:
    if count is not None and count < 1:
        raise ValueError(f"--samples is {count}; give at least 1")


def _settings_of_run(summary: Path) -> dict[str, Any]:
    """Settings of the run that wrote this summary.json, with "data" in any case: "random" where there is no such file."""
    if not summary.is_file():
        return {"data": "random"}
    try:
        settings: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))["settings"]
        return {**settings, "data": settings["data"]}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{summary} does not say which data set the run used ({error!r}); name it with --data") from error


def _of_tasks(file: Path, settings: dict[str, Any], count: int | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Test samples of a run on a sequence of tasks, evenly from all tasks that the file answers."""
    import numpy as np

    from lava_snnlearn.continual.pipeline import answered_by
    from lava_snnlearn.continual.settings import TaskSettings

    names = ("data", "sequence", "tasks", "seed", "train_size", "input")
    try:
        tasks = TaskSettings(**{name: settings[name] for name in names}).task_sequence()
    except (LookupError, TypeError) as error:
        raise ValueError(f"the summary.json beside {file} does not say which tasks were learnt ({error!r})") from error
    test = answered_by(tasks, file)
    chosen = np.linspace(0, len(test), min(count or len(test), len(test)), endpoint=False, dtype=np.int64)
    return test.x[chosen], test.y[chosen]


def _random(network: FixedNetwork, count: int) -> NDArray[Any]:
    """Random samples over the range that the network's input takes."""
    import numpy as np

    from lava_snnlearn.fixed_point import limits

    host = network.host
    generator = np.random.default_rng(0)
    if (host.form == "current" and host.weight is None) or (host.form == "graded" and host.step == 0):
        # A network that takes integers only: up to two thresholds of current, or any payload.
        top = 2 * min(network.population(name).vth for name in host.targets) if host.targets else limits.GRADED_MAX
        return generator.integers(0, min(top, limits.CURRENT_MAX), (count, host.size), endpoint=True)
    draws = generator.random((count, host.features))
    if host.encoding != "direct":
        return draws.astype(np.float32)  # the rate and latency codes take intensities from 0 to 1
    if host.form == "graded":
        draws = host.offset + draws * host.step * limits.GRADED_MAX
    elif host.form == "spikes":
        draws = np.rint(draws)
    return draws.astype(np.float32)
