"""The search for Python 3.10 that every make target starts with: run with a PATH that holds only what the test puts there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / ".ci" / "find-python"
TOOLS = ("bash", "cat", "cksum", "dirname", "make", "mkdir", "rm", "sh", "tail")
"""What the scripts and make themselves call; none of them is a Python."""
FAILING_SHIM = "echo 'pyenv: python3.10: command not found' >&2; exit 127"


def write_program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    path.chmod(0o755)
    return path


def reports(version: str) -> str:
    """Body of a program that answers the question of the script as a Python of this version would."""
    return f'echo "{version} $0"'


@pytest.fixture
def bin_folder(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        place = shutil.which(tool)
        assert place, f"{tool} is needed by the set-up and is not on PATH"
        (folder / tool).symlink_to(place)
    return folder


@pytest.fixture
def environment(bin_folder, tmp_path):
    return {"PATH": str(bin_folder), "HOME": str(tmp_path / "home")}


def find(environment):
    return subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60)


def assert_explained(result):
    assert result.returncode == 1
    assert result.stdout == ""
    assert "No Python 3.10 was found" in result.stderr
    for part in ("lava-nc 0.10.0", "pyenv install 3.10", "uv python install 3.10", "apt install", "conda create"):
        assert part in result.stderr


def test_nothing_there(environment):
    result = find(environment)
    assert_explained(result)
    for part in ("PATH: no python3.10", "pyenv: no version 3.10.*", "uv: not on PATH"):
        assert part in result.stderr


def test_shim_that_fails_is_not_believed(environment, bin_folder):
    shim = write_program(bin_folder / "python3.10", FAILING_SHIM)
    result = find(environment)
    assert_explained(result)
    assert f"{shim} does not run" in result.stderr
    assert "pyenv: python3.10: command not found" in result.stderr


def test_other_version_under_the_name_is_not_believed(environment, bin_folder):
    program = write_program(bin_folder / "python3.10", reports("3.11"))
    result = find(environment)
    assert_explained(result)
    assert f"{program} is Python 3.11" in result.stderr


def test_working_one_on_path(environment, bin_folder):
    program = write_program(bin_folder / "python3.10", reports("3.10"))
    result = find(environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{program}\n", "")


def test_working_one_behind_a_failing_shim(environment, bin_folder, tmp_path):
    write_program(bin_folder / "python3.10", FAILING_SHIM)
    program = write_program(tmp_path / "second" / "python3.10", reports("3.10"))
    result = find({**environment, "PATH": f"{bin_folder}{os.pathsep}{program.parent}"})
    assert (result.returncode, result.stdout) == (0, f"{program}\n")


def test_pyenv_version_behind_a_failing_shim(environment, bin_folder, tmp_path):
    write_program(bin_folder / "python3.10", FAILING_SHIM)
    program = write_program(tmp_path / "home" / ".pyenv" / "versions" / "3.10.13" / "bin" / "python3.10", reports("3.10"))
    result = find(environment)
    assert (result.returncode, result.stdout) == (0, f"{program}\n")


def test_pyenv_says_where_its_versions_are(environment, bin_folder, tmp_path):
    program = write_program(tmp_path / "elsewhere" / "versions" / "3.10.9" / "bin" / "python3.10", reports("3.10"))
    write_program(bin_folder / "pyenv", f'[ "$*" = root ] && echo "{tmp_path / "elsewhere"}"')
    result = find(environment)
    assert (result.returncode, result.stdout) == (0, f"{program}\n")


def test_uv_finds_one(environment, bin_folder, tmp_path):
    program = write_program(tmp_path / "uv-python", reports("3.10"))
    write_program(bin_folder / "uv", f'[ "$*" = "python find --system 3.10" ] && echo "{program}"')
    result = find(environment)
    assert (result.returncode, result.stdout) == (0, f"{program}\n")


def test_uv_installs_one(environment, bin_folder, tmp_path):
    program = tmp_path / "uv-python"
    write_program(tmp_path / "prepared", reports("3.10"))
    write_program(
        bin_folder / "uv",
        f"""case "$*" in
        "python find --system 3.10") [ -e "{program}" ] && echo "{program}" ;;
        "python install 3.10") {shutil.which("cp")} "{tmp_path / "prepared"}" "{program}" && echo installed ;;
        *) exit 2 ;;
        esac""",
    )
    result = find(environment)
    assert (result.returncode, result.stdout) == (0, f"{program}\n")


def test_uv_without_a_network(environment, bin_folder):
    write_program(bin_folder / "uv", "echo 'error: could not connect' >&2; exit 2")
    result = find(environment)
    assert_explained(result)
    assert "'uv python install 3.10' did not bring one" in result.stderr


def test_interpreter_of_a_virtual_environment_is_followed_to_its_base(environment, bin_folder):
    (bin_folder / "python3.10").symlink_to(sys.executable)
    assert sys.prefix != sys.base_prefix, "the suite runs in the virtual environment that make sets up"
    result = find(environment)
    assert result.returncode == 0
    found = Path(result.stdout.strip())
    assert found.is_file()
    assert Path(sys.prefix) not in found.parents


def copy_of_the_set_up(folder: Path) -> Path:
    shutil.copytree(ROOT / ".ci", folder / ".ci", symlinks=True)
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_make_explains_too(environment, tmp_path, target):
    folder = copy_of_the_set_up(tmp_path / "checkout")
    result = subprocess.run(["make", target], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "No Python 3.10 was found" in result.stderr
    assert "uv: not on PATH" in result.stderr
    assert not (folder / ".venv").exists()


def test_make_does_not_touch_a_foreign_environment(environment, tmp_path):
    folder = copy_of_the_set_up(tmp_path / "checkout")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "precious").touch()
    result = subprocess.run(["make", "set-up"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "Move it away or delete it" in result.stderr
    assert (folder / ".venv" / "precious").exists()


def fake_python(path: Path, log: Path) -> Path:
    """A program that stands for Python 3.10: answers the search, makes a venv with itself in it, and logs what pip is asked."""
    return write_program(
        path,
        f"""case "$*" in
        "-m venv .venv") mkdir -p .venv/bin; {shutil.which("cp")} "$0" .venv/bin/python ;;
        *"pip install"*) echo "$*" >>"{log}"; if [[ -n ${{FAIL_PIP:-}} ]]; then exit 9; fi
            echo >.venv/bin/lava-snnlearn; {shutil.which("chmod")} +x .venv/bin/lava-snnlearn ;;
        *"_base_executable"*) echo "3.10 $0" ;;
        esac""",
    )


def test_set_up_happens_once_and_again_when_something_changed(environment, bin_folder, tmp_path):
    folder, log = copy_of_the_set_up(tmp_path / "checkout"), tmp_path / "pip.log"
    fake_python(bin_folder / "python3.10", log)

    def pip_calls_of_set_up(**extra: str) -> tuple[int, int]:
        log.write_text("")
        command = ["bash", str(folder / ".ci" / "set-up")]
        result = subprocess.run(command, env={**environment, **extra}, capture_output=True, text=True, timeout=60)
        return result.returncode, len(log.read_text().splitlines())

    assert pip_calls_of_set_up() == (0, 2)
    assert ".[test,lint,docs]" in log.read_text()
    assert pip_calls_of_set_up() == (0, 0)

    with (folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    leftover = folder / ".venv" / "leftover"
    leftover.touch()
    assert pip_calls_of_set_up(FAIL_PIP="yes") == (9, 1)
    assert leftover.exists(), "a changed dependency is no reason to throw the environment away"
    assert pip_calls_of_set_up() == (0, 2)
    assert not leftover.exists(), "after a set-up that broke off only an empty environment is certain"
    assert pip_calls_of_set_up() == (0, 0)

    (folder / ".venv" / "bin" / "python").unlink()
    assert pip_calls_of_set_up() == (0, 2), "the Python that it was made with is gone"

    folder = folder.rename(tmp_path / "moved")
    assert pip_calls_of_set_up() == (0, 2), "a virtual environment works in the folder that it was made in only"
    assert pip_calls_of_set_up() == (0, 0)


def test_two_set_ups_at_once_do_not_mix(environment, bin_folder, tmp_path):
    folder, log = copy_of_the_set_up(tmp_path / "checkout"), tmp_path / "pip.log"
    fake_python(bin_folder / "python3.10", log)
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".set-up-begun").write_text(f"{os.getpid()}\n")
    command = ["bash", str(folder / ".ci" / "set-up")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert f"Process {os.getpid()} is setting up .venv already" in result.stderr
    assert not log.exists()
