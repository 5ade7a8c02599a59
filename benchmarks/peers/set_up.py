"""Installs the peers into virtual environments of their own under benchmarks/.venvs: several GB, once.

    python benchmarks/peers/set_up.py

Run with the library's interpreter, whose torch the first environment shares. Does nothing for what is installed already. A peer
that cannot be installed is noted with the reason and does not stop the others; the next run tries it again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

VENVS = Path(__file__).parents[1] / ".venvs"


@dataclass(frozen=True)
class Environment:
    """A venv: the Python versions that will do, best first, and what is installed, each item on its own and in order."""

    name: str
    pythons: tuple[str, ...]
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return VENVS / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def environments() -> list[Environment]:
    """Peers that share the library's Python and torch, SpikingJelly 2.0, which needs newer ones, and simulators of chips."""
    same_torch = f"torch=={version('torch').partition('+')[0]}"
    shared = (same_torch, "numpy<2", "snntorch==1.0.0", "spikingjelly==0.0.0.0.14", "norse==1.1.0", "sinabs==3.1.3")
    return [
        Environment("library-torch", ("3.10",), shared),
        Environment("newer-torch", ("3.12", "3.11", "3.13"), ("spikingjelly==2.0.0",)),
        # nengo-loihi is of 2022: newer numpys and nengos have dropped what it calls
        Environment("nengo-loihi", ("3.10", "3.9"), ("numpy==1.23.5", "nengo==3.2.0", "nengo-loihi==1.1.0")),
        # Brian2 compiles its equations with cython, which needs setuptools and a C++ compiler
        Environment(
            "brian2-loihi", ("3.10", "3.9"), ("setuptools<70", "brian2==2.5.1", "numpy==1.23.5", "brian2-loihi==0.5.2")
        ),
        Environment("xylosim", ("3.10", "3.9"), ("numpy<2", "xylosim==0.1.3")),
    ]


def outcomes(environment: Environment) -> dict[str, str]:
    """Requirement -> "installed" or why not; empty before the first set-up."""
    notes = environment.folder / "outcomes.json"
    return json.loads(notes.read_text()) if notes.exists() else {}


def find_python(versions: tuple[str, ...]) -> str:
    """Path of a Python of the first of these versions that really runs and can make a venv.

    Looked for on PATH, among pyenv's versions, and by uv; each is run before it is believed (a pyenv shim exists even for a
    version that pyenv lacks).

    Raises:
        FileNotFoundError: there is none; the message says what to do.
    """
    for wanted in versions:
        name = f"python{wanted}"
        candidates = [str(Path(folder) / name) for folder in os.get_exec_path()]
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        candidates += map(str, sorted((root / "versions").glob(f"{wanted}.*/bin/{name}"), reverse=True))
        if shutil.which("uv"):
            found = subprocess.run(["uv", "python", "find", "--system", wanted], capture_output=True, text=True, check=False)
            candidates.append(found.stdout.strip())
        for candidate in candidates:
            if candidate and os.access(candidate, os.X_OK) and (base := _base(candidate, wanted)):
                return base
    raise FileNotFoundError(
        f"no Python {' or '.join(versions)} on PATH, in pyenv or in uv; install one: pyenv install {versions[0]}"
    )


def _base(candidate: str, wanted: str) -> str | None:
    """The interpreter behind a candidate: a venv made from another venv breaks when that one is removed."""
    question = 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2], sys._base_executable)'
    answer = subprocess.run([candidate, "-c", question], capture_output=True, text=True, check=False)
    found, _, base = answer.stdout.strip().partition(" ")
    return base if answer.returncode == 0 and found == wanted else None


def set_up(environment: Environment) -> dict[str, str]:
    """Make the environment and install what is missing; returns :func:`outcomes`, also kept in outcomes.json."""
    begun = environment.folder / ".begun"  # there while pip works: a killed pip leaves packages by half
    done = outcomes(environment)
    usable = environment.python.exists() and not subprocess.run([environment.python, "-c", ""], check=False).returncode
    if begun.exists() or not usable:
        shutil.rmtree(environment.folder, ignore_errors=True)
        done = {}
    missing = [item for item in environment.requirements if done.get(item) != "installed"]
    if not missing:
        print(f"{environment.name}: complete")
        return done
    if not environment.python.exists():
        try:
            python = find_python(environment.pythons)
        except FileNotFoundError as error:
            print(f"{environment.name}: {error}")
            environment.folder.mkdir(parents=True, exist_ok=True)
            return _note(environment, dict.fromkeys(environment.requirements, str(error)))
        print(f"{environment.name}: new environment with {python}")
        subprocess.run([python, "-m", "venv", environment.folder], check=True)
        # Older pips read whole downloads into memory before they cache them, several times the size of torch.
        subprocess.run([environment.python, "-m", "pip", "install", "--quiet", "pip>=23.3"], check=False)
    begun.touch()
    for item in missing:
        print(f"{environment.name}: installing {item}", flush=True)
        # With what is installed already as a bound, so that no peer moves another one's torch.
        kept = [other for other in environment.requirements if done.get(other) == "installed"]
        command = [str(environment.python), "-m", "pip", "install", "--quiet", "--no-input", *kept, item]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        done[item] = "installed" if result.returncode == 0 else (errors or ["pip failed without a word"])[-1]
        print(f"{environment.name}: {item}: {done[item]}")
    begun.unlink()
    return _note(environment, done)


def _note(environment: Environment, done: dict[str, str]) -> dict[str, str]:
    (environment.folder / "outcomes.json").write_text(json.dumps(done, indent=1))
    return done


def main() -> None:
    """Set up all environments; failures are printed, and appear in the benchmark's table."""
    for environment in environments():
        set_up(environment)
    print(f"Peers: {VENVS}", file=sys.stderr)


if __name__ == "__main__":
    main()
