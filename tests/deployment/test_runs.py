"""Bundles that run: on Lava's simulator, with nothing but the folder; what comes back is compared, and a change is named."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import psutil
import pytest

import lava_snnlearn.lava_backend  # noqa: F401  # without Lava nothing here can run
from lava_snnlearn.deployment import deploy
from lava_snnlearn.fixed_point.emulator import emulate

SAMPLES = 3
FILES = {
    "README.md", "SHA256SUMS", "bundle.json", "compare.py", "expected.npz", "inputs.npz", "matrices.npz", "network.h5",
    "run.py", "run.slurm",
}  # fmt: skip


@pytest.fixture
def hidden(tmp_path):
    """lava_snnlearn and torch as they are where they are not installed."""
    for name in ("lava_snnlearn", "torch", "numba"):
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text(f"raise ImportError('no {name} here')\n")
    return tmp_path / "hidden"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, made, script):
    """A bundle that has run on the simulator; tests copy it."""
    folder = tmp_path_factory.mktemp("bundles") / "stock"
    network, x = made("stock")
    deploy(network, x, folder)
    result = script(folder, "run.py", "--sim")
    assert result.returncode == 0, result
    return folder, emulate(network, x)


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.mark.parametrize(
    "kind",
    ["stock", "stock_current", "stock_filtered", "stock_image", "stock_parallel", "apart_states", "apart_current"],
)
def test_stock_networks_run_with_lava_and_numpy_alone(kind, tmp_path, hidden, made, script):
    network, x = made(kind)
    assert all(spikes.any() for spikes in emulate(network, x).spikes.values())
    made_folder = deploy(network, x, tmp_path / "bundle")
    moved = made_folder.rename(tmp_path / "elsewhere")
    assert FILES <= {path.name for path in moved.iterdir()} <= FILES | {"network.net"}
    assert json.loads((moved / "bundle.json").read_text())["stock"]
    result = script(moved, "run.py", "--sim", "--latency", "2", hidden=hidden)
    assert result.returncode == 0, result
    values = sum(network.steps * p.size if p.spiking else p.size for p in network.populations) * SAMPLES
    result = script(moved, "compare.py", hidden=hidden)
    assert (result.returncode, result.stdout) == (0, f"EQUAL: {values} values of 3 samples\n")


def test_each_of_several_runs_has_steps_behind_its_sample(tmp_path, made, script):
    """So that answers that come late are still in it, and none of another sample."""
    network, x = made("apart_states")
    folder = deploy(network, x, tmp_path / "bundle")
    assert script(folder, "run.py", "--sim").returncode == 0
    assert script(folder, "compare.py").returncode == 0

    def late(rows):
        blocks = rows.reshape(SAMPLES, -1, rows.shape[1])
        blocks[:, 4:] = blocks[:, :-4].copy()
        blocks[:, :4] = 0

    for key in ("spikes/first", "spikes/out"):
        change(folder, key, late)
    assert "if they are read 4 steps later: --shift 4" in script(folder, "compare.py").stdout


@pytest.mark.parametrize(
    ("kind", "names", "reason"),
    [
        ("soft", ["hidden", "maps", "out"], "reset by subtraction"),
        ("soft_current", ["near", "far", "out", "last"], "reset by subtraction"),
    ],
)
def test_other_networks_run_on_the_simulator_and_say_that_no_chip_can(tmp_path, kind, names, reason, made, script):
    network, x = made(kind)
    assert all(spikes.any() for spikes in emulate(network, x).spikes.values())
    folder = deploy(network, x, tmp_path / "bundle")
    result = script(folder, "run.py", "--sim")
    assert result.returncode == 0, result
    assert script(folder, "compare.py").returncode == 0
    refused = script(folder, "run.py")
    assert refused.returncode == 2
    assert f"populations {names}" in refused.stderr
    assert f"no Loihi microcode ({reason})" in refused.stderr
    assert "Only the simulator runs this network" in (folder / "README.md").read_text()


def test_a_killed_run_leaves_no_process(tmp_path, made):
    """Killed as a batch system kills: nothing is asked of the process that watches the run."""
    network, x = made("stock", samples=60)
    folder = deploy(network, x, tmp_path / "bundle")
    command = [sys.executable, str(folder / "run.py"), "--sim"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        assert any("sample 2 of 60" in line for line in run.stdout)
        found = psutil.process_iter(["cmdline"])
        workers = [process for process in found if str(folder) in " ".join(process.info["cmdline"] or ())]
        assert len(workers) > 3
        run.kill()
    gone, left = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == len(workers), left


def test_what_is_expected_is_what_the_emulator_says(finished):
    folder, trace = finished
    with np.load(folder / "expected.npz", allow_pickle=False) as expected:
        assert set(expected) == {"spikes/first", "membrane/out"}
        assert np.array_equal(expected["spikes/first"], trace.spikes["first"])
        assert np.array_equal(expected["membrane/out"], trace.outputs)
        assert expected["spikes/first"].any()
        assert expected["membrane/out"].all()


def change(folder, key, flip):
    """Change one value of the results."""
    with np.load(folder / "results.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    flip(arrays[key])
    np.savez(folder / "results.npz", **arrays)


def test_a_flipped_spike_is_named(copied, finished, script):
    interval, start, spike = 12, 1, int(finished[1].spikes["first"][3, 1, 4])

    def flip(rows):
        assert len(rows) == SAMPLES * interval + 4
        for step, sample in ((3, 1), (4, 1), (0, 2)):
            rows[sample * interval + start + step, 4] ^= 1

    change(copied, "spikes/first", flip)
    result = script(copied, "compare.py")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "DIFFERENT: 3 of 120 values",
        f"first difference: spike: sample 1, step 3, population first, neuron 4: expected {spike}, found {1 - spike}",
    ]


def test_a_wrong_membrane_is_named(copied, finished, script):
    def add(rows):
        rows[2, 1] += 5

    change(copied, "membrane/out", add)
    value = int(finished[1].outputs[2, 1])
    result = script(copied, "compare.py")
    assert result.returncode == 1
    assert f"final membrane: sample 2, population out, neuron 1: expected {value}, found {value + 5}\n" in result.stdout


def test_answers_that_come_late_are_recognised(copied, script):
    def late(rows):
        rows[2:] = rows[:-2].copy()
        rows[:2] = 0

    change(copied, "spikes/first", late)
    result = script(copied, "compare.py")
    assert result.returncode == 1
    assert "if they are read 2 steps later: --shift 2" in result.stdout
    assert script(copied, "compare.py", "--shift", "2").returncode == 0


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "other", "shape", "expected"])
def test_results_that_cannot_be_read_are_an_error(copied, damage, script):
    path = copied / "results.npz"
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("hello")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "expected":
        shutil.copyfile(path, copied / "expected.npz")
    elif damage == "other":
        np.savez(path, layout=np.array([12, 0, 3]), x=np.zeros(3))
    else:
        with np.load(path) as file:
            np.savez(path, **{key: file[key][:20] if key == "spikes/first" else file[key] for key in file.files})
    result = script(copied, "compare.py")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert ("run.py writes it: python run.py --sim" in result.stderr) == (damage == "missing")


def test_changed_files_are_refused(copied, script):
    for line in (copied / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((copied / name).read_bytes()).hexdigest() == digest
    with (copied / "inputs.npz").open("ab") as file:
        file.write(b"x")
    result = script(copied, "run.py", "--sim")
    assert result.returncode == 2
    assert "inputs.npz is not the file that was deployed" in result.stderr


def test_without_the_closed_extension_the_chip_is_refused(finished, script):
    result = script(finished[0], "run.py", "--time-limit", "60")
    assert result.returncode == 2
    assert "lava-loihi is not installed here" in result.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import time\nprint('sample 1 of 3', flush=True)\ntime.sleep(600)\n", "nothing moved for 1.5 s, the run was killed"),
        ("import os\nif os.fork() == 0:\n    import time\n    time.sleep(600)\nraise SystemExit(3)\n", "the run failed"),
    ],
)
def test_a_run_that_stands_still_is_killed_with_its_children(finished, tmp_path, body, message):
    (tmp_path / "stuck.py").write_text(body)
    call = f"import run, sys; raise SystemExit(run.watch([sys.executable, {str(tmp_path / 'stuck.py')!r}], 1.5))"
    result = subprocess.run([sys.executable, "-c", call], cwd=finished[0], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_model_that_fails_ends_the_run(tmp_path, made, script):
    network, x = made("soft")
    folder = deploy(network, x, tmp_path / "bundle")
    text = (folder / "run.py").read_text()
    broken = text.replace("broadcast_to(delays,", "broadcast_to(delays + 70,")
    assert broken != text
    (folder / "run.py").write_text(broken.replace("        check_sums()\n", ""))
    result = script(folder, "run.py", "--sim", "--time-limit", "5")
    assert result.returncode == 2
    assert not (folder / "results.npz").exists()


def test_no_path_of_this_machine_and_no_pickle(finished):
    for path in finished[0].iterdir():
        content = path.read_bytes()
        assert str(finished[0].parent).encode() not in content
        assert os.path.expanduser("~").encode() + b"/" not in content
    for path in finished[0].glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[key].dtype.kind in "iu" for key in file.files)


def test_the_readme_says_what_is_untested(finished):
    text = (finished[0] / "README.md").read_text()
    assert "**Not tested on hardware**" in text
    assert "lava-nc, numpy, scipy and h5py, and nothing else" in text
    assert "lava_snnlearn 0." in text
    slurm = (finished[0] / "run.slurm").read_text()
    assert "python run.py && python compare.py" in slurm
