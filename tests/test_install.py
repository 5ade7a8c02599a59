"""Both ways to install: the library is found under its own name, and Lava's stock run configuration finds every model."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBE = Path(__file__).with_name("install_probe.py")
FOLDERS = {"lava_snnlearn": "lava_snnlearn", "lava_snnlearn/processes": "processes", "lava_snnlearn/models": "models"}
"""Folder in the installed library -> folder in the checkout."""
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def call(*command, cwd, limit):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # Lava forks: with more than one thread in the parent a child can hang
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the whole group: Lava's children would outlive their parent
        output, _ = process.communicate()
        pytest.fail(f"{command} did not end within {limit} s:\n{output}")
    assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{output}"
    return output


def assert_probe_passes(python, origin, folder):
    """Runs the probe with an interpreter, from an empty folder, so that nothing is found by where the test happens to run."""
    shutil.copy(PROBE, folder)
    empty = folder / "empty"
    empty.mkdir()
    output = call(python, folder / PROBE.name, origin, cwd=empty, limit=240)
    assert "floating_pt: as worked out by hand" in output
    assert "fixed_pt: as worked out by hand" in output


def files_of_checkout():
    """Names, as they have to be in the wheel, of all files in the three folders of the library."""
    names = set()
    for installed, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                names.add(f"{installed}/{path.relative_to(ROOT / folder).as_posix()}")
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # A copy, because setuptools leaves a build folder behind that later builds would take old files from.
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in FOLDERS.values():
        shutil.copytree(ROOT / name, tree / name, ignore=LEFTOVERS)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    call(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", folder, cwd=tree, limit=300)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def second_environment(wheel, tmp_path_factory):
    """Interpreter of a fresh environment with the wheel in it, and with the heavy packages of the current one in reach."""
    folder = tmp_path_factory.mktemp("second") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder, limit=300)
    # After pip, which would otherwise see the editable install as well. A plain line only extends sys.path: the .pth files over
    # there, among them the one that makes the editable install work, are not read.
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "heavy_packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.mark.parametrize(("installed", "folder"), FOLDERS.items())
def test_editable_install_is_the_checkout(installed, folder):
    module = import_module(installed.replace("/", "."))
    assert Path(module.__file__).resolve() == ROOT / folder / "__init__.py"


def test_editable_install_runs_on_lava(tmp_path):
    assert_probe_passes(sys.executable, ROOT, tmp_path)


def test_wheel_holds_every_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        content = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert content == files_of_checkout()


def test_wheel_carries_licence_and_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        about = {
            name.split(".dist-info/")[1]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
        }
    assert about["licenses/LICENSE"] == (ROOT / "LICENSE").read_text()
    assert "lava-snnlearn = lava_snnlearn.cli:main" in about["entry_points.txt"]


def test_wheel_is_imported_and_not_the_checkout(second_environment, tmp_path):
    """Every module is found in the second environment, under the name it has in the checkout."""
    files = [name.removesuffix(".py").removesuffix("/__init__") for name in files_of_checkout() if name.endswith(".py")]
    modules = [name.replace("/", ".") for name in files]
    script = "import sys; from importlib.util import find_spec\nfor name in sys.argv[1:]: print(name, find_spec(name).origin)"
    output = call(second_environment, "-c", script, *modules, cwd=tmp_path, limit=240)
    origins = dict(line.split(" ", 1) for line in output.splitlines() if line.startswith("lava_snnlearn"))
    assert set(origins) == set(modules)
    assert not [origin for origin in origins.values() if not Path(origin).is_relative_to(second_environment.parents[1])]


def test_wheel_runs_on_lava(second_environment, tmp_path):
    assert_probe_passes(second_environment, second_environment.parents[1], tmp_path)
