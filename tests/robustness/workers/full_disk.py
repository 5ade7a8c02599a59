"""Write files of a kind in processes that may only write so many bytes into a file, and say what became of them.

Usage: python full_disk.py FOLDER. For each kind of file and each of some limits, a process writes a new version over an old
one. Beyond the limit the write fails (as on a full disk), or also raises KeyboardInterrupt, or the process is killed, by the
same signal. Prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from subjects import SUBJECTS, Subject, warm_up


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


HANDLERS: dict[str, Any] = {"fail": signal.SIG_IGN, "interrupt": interrupted, "kill": signal.SIG_DFL}


def limited(subject: Subject, path: Path, how: str, limit: int, say: int) -> None:
    """What the process does: it never returns."""
    with contextlib.redirect_stderr(None):
        signal.signal(signal.SIGXFSZ, HANDLERS[how])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            subject.write(path, 1)
            told = ["written", ""]
        except BaseException as error:
            told = [type(error).__name__, str(error)]
    os.write(say, json.dumps(told).encode())  # a pipe, which has no limit
    os._exit(0)


def attempt(subject: Subject, path: Path, how: str, limit: int) -> dict[str, Any]:
    hear, say = os.pipe()
    child = os.fork()
    if not child:
        limited(subject, path, how, limit, say)
    os.close(say)
    with os.fdopen(hear, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcome, message = json.loads(told) if told else ("", "")
    return {"how": how, "limit": limit, "status": status, "outcome": outcome, "message": message}


def attempts(kind: str, place: Path) -> list[dict[str, Any]]:
    subject, name = SUBJECTS[kind], "file" + SUBJECTS[kind].suffix
    old, new = place / "old", place / "new"
    old.mkdir(parents=True)
    if kind != "bundle":  # a folder that must not be there
        subject.write(old / name, 0)
    shutil.copytree(old, new)
    subject.write(new / name, 1)
    before, after = content(old), content(new)
    sizes = sorted({len(data) for file, data in after.items() if data != before.get(file)})
    results = []
    for how in HANDLERS:
        for limit in sorted({0, sizes[-1] // 2, *(size - 1 for size in sizes[-3:])}):
            here = place / f"{how} {limit}"
            shutil.copytree(old, here)
            result = attempt(subject, here / name, how, limit)
            found = content(here)
            result["path"] = str(here / name)
            result["lost"] = [file for file in before if found.get(file) not in (before[file], after.get(file))]
            result["left"] = [file for file in found if file not in before and found[file] != after.get(file)]
            results.append(result)
    return results


if __name__ == "__main__":
    warm_up()
    print(json.dumps({kind: attempts(kind, Path(sys.argv[1]) / kind) for kind in SUBJECTS}))
