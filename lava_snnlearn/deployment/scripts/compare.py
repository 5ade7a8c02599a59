"""Compare results.npz, which run.py wrote, with expected.npz, spike by spike; needs numpy alone.

    python compare.py [--shift STEPS] [RESULTS]

The first difference is named: sample, step (of the population's own active steps), population, neuron, expected and found.
--shift reads all spikes so many steps later. Exit status: 0 all equal, 1 a difference, 2 an error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
SHIFTS = range(-2, 5)
"""Shifts that are tried where the results differ."""
MOST = 1 << 30
"""Bytes that all arrays of a file may have together."""


def main() -> int:
    """Print the verdict; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results", nargs="?", type=Path, default=FOLDER / "results.npz", help="default: results.npz beside this file"
    )
    parser.add_argument("--shift", type=int, default=0, help="steps by which the answers are late (default 0)")
    options = parser.parse_args()
    try:
        check_sums()
        facts = json.loads((FOLDER / "bundle.json").read_text())
        if not options.results.exists():
            raise ValueError(
                f"there is no {options.results}; run.py writes it: python run.py --sim, or python run.py on a chip"
            )
        expected, results = arrays(FOLDER / "expected.npz"), arrays(options.results)
        wanted, found = {}, {}
        for key, values in expected.items():
            wanted[key] = values.astype(np.int64)
            found[key] = window(key, results, facts, options.shift)
            if found[key].shape != wanted[key].shape:
                raise ValueError(
                    f"{key} has shape {found[key].shape}, expected {wanted[key].shape}: not results of this folder"
                )
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    compared = sum(values.size for values in wanted.values())
    unequal = sum(int((wanted[key] != found[key]).sum()) for key in wanted)
    if not unequal:
        print(f"EQUAL: {compared} values of {facts['samples']} samples")
        return 0
    print(f"DIFFERENT: {unequal} of {compared} values")
    print(first_difference(wanted, found, facts))
    for shift in SHIFTS:
        if shift != options.shift and matches(wanted, results, facts, shift):
            print(f"All spikes are equal if they are read {shift} steps later: --shift {shift}")
    return 1


def check_sums() -> None:
    """Raise ValueError where what is expected is not what deploy wrote."""
    sums = {name: wanted for wanted, name in (line.split() for line in (FOLDER / "SHA256SUMS").read_text().splitlines())}
    for name in ("bundle.json", "expected.npz"):
        if hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() != sums[name]:
            raise ValueError(f"{name} is not the file that was deployed (SHA256SUMS); copy the folder again")


def arrays(path: Path) -> dict[str, Any]:
    """All arrays of numbers of a file; nothing in it is executed. ValueError: it is damaged or foreign."""
    with path.open("rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as file:
                claimed = sum(entry.file_size for entry in file.zip.infolist())
                if claimed > MOST:
                    raise ValueError(f"it claims {claimed} bytes, more than {MOST}")
                found = {key: file[key] for key in file.files}
        except Exception as error:  # numpy lets those of its parts through: zipfile's, zlib's, tokenize's
            raise ValueError(f"{path} is damaged or no .npz file: {error}") from error
    for key, values in found.items():
        if getattr(values, "dtype", np.dtype(object)).kind not in "biuf":
            raise ValueError(f"{path}: {key} is no array of numbers")
    return found


def window(key: str, results: dict[str, Any], facts: dict[str, Any], shift: int) -> Any:
    """The values of a population that are to be compared: spikes [T, B, n] of its active steps, or final membranes [B, n]."""
    if key not in results:
        raise ValueError(f"the results have no {key}; they hold {sorted(results)}")
    kind, name = key.split("/")
    if kind == "membrane":
        return results[key].astype(np.int64)
    interval, origin, samples = (int(value) for value in results["layout"])
    if samples != facts["samples"]:
        raise ValueError(f"the results are of {samples} samples, expected {facts['samples']}: not results of this folder")
    rows = results[key].astype(np.int64)
    start = origin + facts["t_start"][name] + shift
    at = start + interval * np.arange(samples) + np.arange(facts["steps"])[:, None]
    if at.min() < 0 or at.max() >= len(rows):
        raise ValueError(f"with a shift of {shift} steps the record of {len(rows)} steps is too short")
    return rows[at]


def first_difference(wanted: dict[str, Any], found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Of the earliest sample, its earliest step, there the population that comes first; membranes come after the last step."""
    best: tuple[Any, ...] | None = None
    for key, values in wanted.items():
        kind, name = key.split("/")
        places = np.argwhere(values != found[key])
        if not len(places):
            continue
        if kind == "spikes":
            step, sample, neuron = min(places.tolist(), key=lambda place: (place[1], place[0], place[2]))
            place: tuple[int, ...] = (step, sample, neuron)
        else:
            sample, neuron = places[0].tolist()
            step, place = facts["steps"], (sample, neuron)
        when = (sample, step, list(facts["t_start"]).index(name))
        if best is None or when < best[0]:
            what = "spike" if kind == "spikes" else "final membrane"
            shown = f"sample {sample}, " + (f"step {step}, " if kind == "spikes" else "")
            text = f"{shown}population {name}, neuron {neuron}: expected {values[place]}, found {found[key][place]}"
            best = (when, f"first difference: {what}: {text}")
    assert best is not None
    return str(best[1])


def matches(wanted: dict[str, Any], results: dict[str, Any], facts: dict[str, Any], shift: int) -> bool:
    """Whether all spikes, of which there are some, are equal with this shift."""
    spikes = [key for key in wanted if key.startswith("spikes/") and wanted[key].any()]
    try:
        return bool(spikes) and all(np.array_equal(wanted[key], window(key, results, facts, shift)) for key in spikes)
    except ValueError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
