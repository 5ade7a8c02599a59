"""The parts of the comparison with other libraries: the problem, the workers, the set-up of the peers, the table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cost_in_time
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import training_step
from peers import client, problem, set_up


class Spike(torch.autograd.Function):
    """Step with the sigmoid surrogate."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        s = torch.sigmoid(4 * ctx.saved_tensors[0])
        return grad * 4 * s * (1 - s)


def reference(arrays, net, steps):
    """Loss, gradients and firing rates by plain autograd over time in float64."""
    count = len(problem.NETS[net])
    weights = [torch.from_numpy(arrays[f"weight{i}"]).double().requires_grad_() for i in range(count)]
    biases = [torch.from_numpy(arrays[f"bias{i}"]).double().requires_grad_() for i in range(count)]
    x, y = torch.from_numpy(arrays["x"]).double(), torch.from_numpy(arrays["y"])
    membranes, rates, loss = [0.0] * (count - 1), [0.0] * (count - 1), 0.0
    for t in range(steps):
        signal = x[t] if len(x) == steps else x
        for i in range(count):
            if signal.dim() == 4 and i:
                signal = F.avg_pool2d(signal, 2)
            convolves = weights[i].dim() == 4
            linear = F.conv2d(signal, weights[i], biases[i], padding=1) if convolves else None
            linear = linear if convolves else F.linear(signal.flatten(1), weights[i], biases[i])
            if i == count - 1:
                loss = loss + F.cross_entropy(linear, y) / steps
            else:
                charged = 0.5 * membranes[i] + linear
                signal = Spike.apply(charged - 1)
                membranes[i] = charged - signal.detach()
                rates[i] += float(signal.mean()) / steps
    loss.backward()
    return float(loss), [p.grad.numpy() for pair in zip(weights, biases, strict=True) for p in pair], rates


def request(folder, net, inputs, steps, module="with_lava_snnlearn", method="BPTT", batch=6):
    arrays = problem.make(net, inputs, steps, batch)
    data = str(problem.save(folder, arrays))
    asked = {"module": module, "method": method, "options": {}, "net": net, "inputs": inputs, "steps": steps, "data": data}
    return arrays, asked


@pytest.mark.parametrize("net", problem.NETS)
def test_currents_of_the_problem_are_exact_in_any_order(net):
    arrays = problem.make(net, "static", 1, 4, seed=3)
    weight, x = (
        arrays["weight0"].reshape(len(arrays["weight0"]), -1),
        arrays["x"].reshape(4, -1)[:, : arrays["weight0"][0].size],
    )
    exact = x.astype(np.float64) @ weight.T.astype(np.float64) + arrays["bias0"].astype(np.float64)
    for order in (np.arange(x.shape[1]), np.random.default_rng(0).permutation(x.shape[1])):
        total = np.repeat(arrays["bias0"][None], 4, 0)
        for column in order:
            total = total + x[:, column, None] * weight[None, :, column]
        assert total.dtype == np.float32
        np.testing.assert_array_equal(total, exact)
    multiples = exact * 2**15
    np.testing.assert_array_equal(multiples % 2, 1)  # so that no potential of the first step is the threshold


@pytest.mark.parametrize("net, inputs", [("mlp", "new frames"), ("mlp", "static"), ("conv", "new frames")])
def test_a_worker_has_the_gradients_of_plain_autograd(net, inputs, tmp_path):
    arrays, asked = request(tmp_path, net, inputs, 5)
    loss, expected, rates = reference(arrays, net, 5)
    worker = client.Worker(Path(sys.executable), asked)
    try:
        report = worker.ready()
        assert worker.step() > 0
        found = worker.gradients()
    finally:
        worker.close()
    assert report["torch"] == torch.__version__
    assert report["peak_bytes"] > sum(one.nbytes for one in found)
    assert training_step.difference(found, expected) < 1e-5
    assert all(0.05 < rate < 0.3 for rate in rates), rates
    assert 1 < loss < 4


def test_a_step_leaves_no_gradient_of_the_step_before(tmp_path):
    _, asked = request(tmp_path, "mlp", "static", 5)
    worker = client.Worker(Path(sys.executable), asked)
    try:
        worker.ready()
        worker.step()
        once = worker.gradients()
        worker.step()
        worker.step()
        again = worker.gradients()
    finally:
        worker.close()
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_worker_that_fails_says_why(tmp_path):
    _, asked = request(tmp_path, "mlp", "static", 5, method="Telepathy")
    worker = client.Worker(Path(sys.executable), asked)
    with pytest.raises(client.WorkerError, match="Telepathy"):
        worker.ready()
    worker.close()


def test_a_worker_that_dies_is_reported(tmp_path):
    _, asked = request(tmp_path, "mlp", "static", 5)
    worker = client.Worker(Path(sys.executable), {**asked, "data": str(tmp_path / "none")})
    with pytest.raises(client.WorkerError):
        worker.ready()
    with pytest.raises(client.WorkerError, match="status 1"):
        worker.step()
    worker.close()


def test_peak_memory_counts_what_is_freed_again_and_nothing_before():
    """In a process of its own, as the kernel keeps one peak per process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from worker import peak_above\n"
        "import numpy as np\n"
        "before = np.ones(20_000_000)\n"
        "del before\n"
        "small = peak_above(lambda: np.ones(5_000_000))\n"
        "print(small, peak_above(lambda: None))\n"
    )
    command = [sys.executable, "-c", code, str(Path(client.__file__).parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    small, nothing = map(int, result.stdout.split())
    assert 39e6 < small < 60e6  # the kernel counts pages a few at a time
    assert nothing < 5e6


def test_the_memory_that_a_step_needs_is_that_of_its_tensors(tmp_path):
    """The two products alone hold the currents [T B, 800] and the weight's gradient [800, 784]."""
    _, asked = request(tmp_path, "mlp", "new frames", 20, module="with_torch", batch=64)
    held = 4 * (20 * 64 * 800 + 800 * 784)
    assert held <= client.peak_bytes(Path(sys.executable), asked) < held + 2e6


def contender(who="this", rule="BPTT", **more):
    return training_step.Contender(who, "BPTT", "with_torch", rule=rule, **more)


def measured(gradient, *seconds):
    report = {"version": "1.0", "torch": "2.0", "python": "3", "peak_bytes": 2_000_000}
    return training_step.Measured(report, 1_500_000, [np.array(gradient)], list(seconds))


def test_the_table_holds_medians_of_the_ratios_of_each_round():
    base = training_step.Contender("torch", "products", "with_torch")
    rows = training_step.table([base, contender()], [measured([0.0], 1.0, 2.0, 4.0), measured([1.0], 3.0, 2.0, 8.0)])
    cells = [cell.strip() for cell in rows[-1].strip("|").split("|")]
    assert cells == ["this 1.0 (torch 2.0)", "BPTT", "3.0000", "2.0000", "2.00", "1.5", "2.0", "reference"]


@pytest.mark.parametrize("gradient", [[1.0, 2.001], [1.0, np.nan]])
def test_the_table_refuses_another_gradient(gradient):
    entrants = [contender(), contender("that")]
    with pytest.raises(AssertionError, match="that BPTT"):
        training_step.table(entrants, [measured([1.0, 2.0], 1.0), measured(gradient, 1.0)])
    training_step.table([contender(), contender("that", rule="")], [measured([1.0, 2.0], 1.0), measured(gradient, 1.0)])


def test_a_gradient_that_is_zero_is_no_reference():
    with pytest.raises(AssertionError):
        training_step.table([contender(), contender()], [measured([0.0], 1.0), measured([0.0], 1.0)])


def test_a_peer_that_is_not_installed_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr(set_up, "VENVS", tmp_path)
    peer = next(one for one in training_step.PEERS if one.who == "norse")
    reason = training_step.interpreter(peer)
    assert reason.startswith("not installed")
    rows = training_step.table([contender(), peer], [measured([1.0], 1.0), reason])
    assert "not installed" in rows[-1]
    assert rows[-1].count("|") == rows[0].count("|")


def test_every_peer_is_installed_by_the_set_up():
    offered = {(one.name, item) for one in set_up.environments() for item in one.requirements}
    assert {(one.environment, one.requirement) for one in training_step.PEERS} <= offered


def fake_python(path, version):
    """An executable that answers like a Python of this version, or fails like a pyenv shim (version None)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + (f'echo "{version} $0"\n' if version else "echo 'command not found' >&2; exit 127\n"))
    path.chmod(0o755)
    return path


def test_a_python_is_run_before_it_is_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{tmp_path / 'liar'}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    fake_python(tmp_path / "shims" / "python3.99", None)
    fake_python(tmp_path / "liar" / "python3.99", "3.98")
    with pytest.raises(FileNotFoundError, match=r"3\.99 or 3\.98.*pyenv install 3\.99"):
        set_up.find_python(("3.99", "3.98"))
    good = fake_python(tmp_path / "pyenv" / "versions" / "3.98.4" / "bin" / "python3.98", "3.98")
    assert set_up.find_python(("3.99", "3.98")) == str(good)
    better = fake_python(tmp_path / "pyenv" / "versions" / "3.99.0" / "bin" / "python3.99", "3.99")
    assert set_up.find_python(("3.99", "3.98")) == str(better)


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment of this interpreter whose pip is a script: it fails for 'broken' while the file 'broken' exists."""
    monkeypatch.setattr(set_up, "VENVS", tmp_path)
    real = subprocess.run
    calls = []

    def run(command, **options):
        if "pip" not in map(str, command):
            return real(command, **options)
        calls.append(command[-1])
        fails = command[-1] == "broken" and (tmp_path / "broken").exists()
        errors = "notice\nERROR: no wheel for broken\nhint\n" if fails else ""
        return subprocess.CompletedProcess(command, int(fails), stderr=errors)

    monkeypatch.setattr(set_up.subprocess, "run", run)
    (tmp_path / "broken").touch()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(set_up, "find_python", lambda versions: sys.executable)
    return set_up.Environment("peers", (version,), ("first", "broken", "last")), calls, tmp_path


def test_the_set_up_goes_on_after_a_failure_and_retries_only_that(environment):
    peers, calls, folder = environment
    expected = {"first": "installed", "broken": "ERROR: no wheel for broken", "last": "installed"}
    assert set_up.set_up(peers) == expected == set_up.outcomes(peers)
    assert calls[-3:] == ["first", "broken", "last"]
    calls.clear()
    (folder / "broken").unlink()
    assert set_up.set_up(peers)["broken"] == "installed"
    assert calls == ["broken"]
    calls.clear()
    set_up.set_up(peers)
    assert calls == []


def test_a_killed_set_up_starts_again_with_an_empty_environment(environment):
    peers, calls, _ = environment
    set_up.set_up(peers)
    (peers.folder / ".begun").touch()
    (peers.folder / "leftover").touch()
    calls.clear()
    set_up.set_up(peers)
    assert calls[-3:] == ["first", "broken", "last"]
    assert not (peers.folder / "leftover").exists()


def test_without_a_python_every_peer_has_the_reason(environment, monkeypatch):
    peers, calls, _ = environment

    def none(versions):
        raise FileNotFoundError("no Python 3.99")

    monkeypatch.setattr(set_up, "find_python", none)
    assert set_up.set_up(peers) == dict.fromkeys(peers.requirements, "no Python 3.99")
    assert calls == []


def test_a_point_that_would_not_fit_is_left_out(tmp_path):
    Point = cost_in_time.Point
    assert cost_in_time.fits([], 10**9)
    assert cost_in_time.fits([Point(10, 1.0, 1000)], 20)
    assert not cost_in_time.fits([Point(10, 1.0, 10**9)], 10**7)
    points = {"a": [Point(10, 1.0, 2_000_000), Point(100, 2.0, 3_000_000)], "b": [Point(10, 0.5, 1_000_000)]}
    rows = cost_in_time.table(points, [10, 100])
    assert rows[2:] == [
        "| a | s | 1.0000 | 2.0000 |",
        "| a | MB | 2.0 | 3.0 |",
        "| b | s | 0.5000 | left out |",
        "| b | MB | 1.0 | left out |",
    ]
    cost_in_time.plot(points, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
