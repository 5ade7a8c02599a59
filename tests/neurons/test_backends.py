"""The choice of what runs the neurons, and compilation by numba: told once, cached, safe for processes side by side."""

import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.neurons import LIF, Surrogate, backend, backends, integrate, leaky_sum, numba_kernels, run, set_backend
from lava_snnlearn.neurons.compiling import compiled

T, B = 9, 3


def normal(*shape, dtype=torch.float64, mean=0.0):
    return torch.from_numpy(np.random.default_rng(0).normal(mean, 0.9, shape)).to(dtype)


@dataclass(frozen=True)
class Own(Surrogate):
    """A user's surrogate."""

    def __call__(self, x):
        return torch.exp(-x.abs())


def test_what_no_kernel_knows_runs_in_torch():
    current = normal(T, B, 4, mean=0.4).requires_grad_()
    neuron = LIF(surrogate=Own())
    found, plain = (torch.autograd.grad(f(neuron, current).spike.sum(), current)[0] for f in (integrate, run))
    assert torch.equal(found, plain)
    for dtype in (torch.float16, torch.bfloat16):
        half = integrate(LIF(), current.detach().to(dtype), trace_lam=0.5)
        assert {half.spike.dtype, half.membrane.dtype, half.trace.dtype} == {dtype}
        assert leaky_sum(half.spike, 0.5).dtype == dtype


@pytest.mark.parametrize(
    "neuron, dtype, obstacle",
    [(LIF(surrogate=Own()), torch.float64, "no kernel for the surrogate Own"), (LIF(), torch.float16, "not in torch.float16")],
)
def test_a_backend_chosen_by_name_refuses_what_it_cannot_run(neuron, dtype, obstacle):
    with backend("numba"), pytest.raises(ValueError, match=rf"'numba' .*{obstacle}.*'auto'"):
        integrate(neuron, normal(T, B, 4, dtype=dtype))


def test_without_numba_torch_takes_over(monkeypatch):
    def missing(name):
        raise ImportError("No module named 'numba'")

    current = normal(T, B, 4, mean=0.4)
    expected = integrate(LIF(), current, trace_lam=0.5)
    monkeypatch.setattr(backends, "_module", missing)
    for found, value in zip(integrate(LIF(), current, trace_lam=0.5)[:3], expected[:3], strict=True):
        assert torch.equal(found, value)
    with backend("numba"), pytest.raises(ValueError, match=r"cannot be imported.*No module named 'numba'"):
        integrate(LIF(), current)


def test_the_backend_is_switched_and_switched_back(monkeypatch):
    calls = []
    forward = numba_kernels.forward
    monkeypatch.setattr(numba_kernels, "forward", lambda *a: calls.append(1) or forward(*a))
    current = normal(T, B, 4)
    with backend("reference"):
        integrate(LIF(), current)
        with backend("numba"):
            integrate(LIF(), current)
        integrate(LIF(), current)
    assert len(calls) == 1
    integrate(LIF(), current)
    assert len(calls) == 2
    set_backend("reference")
    integrate(LIF(), current)
    set_backend("auto")
    assert len(calls) == 2
    for choose in (set_backend, lambda name: backend(name).__enter__()):
        with pytest.raises(UnknownNameError, match=r"backend 'nunba'.*'numba'.*auto, numba, reference, triton"):
            choose("nunba")


# Compilation


USE = """
import torch
from lava_snnlearn.neurons import LIF, integrate
current = torch.full((5, 7), 0.6, dtype=torch.{dtype}, requires_grad=True)
integrate(LIF(), current).spike.sum().backward()
print(current.grad.sum().item())
"""


def start(cache, dtype):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", USE.format(dtype=dtype)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


NOTICE = "lava_snnlearn: compiling neuron kernels for this machine, once (some seconds) ...\n"


def test_processes_that_compile_at_once_tell_it_once_and_share_the_cache(tmp_path):
    dtypes = ["float32", "float64"]
    results = [process.communicate() for process in [start(tmp_path, dtype) for dtype in dtypes]]
    first = [float(out) for out, _ in results]
    notices = [err for _, err in results]
    assert set(notices) <= {NOTICE, ""}
    assert NOTICE in notices
    assert first[0] == pytest.approx(first[1], rel=1e-6)
    assert first[1] > 0
    for dtype, (out, _) in zip(dtypes, results, strict=True):
        assert start(tmp_path, dtype).communicate() == (out, "")


def test_without_a_folder_for_the_cache_it_still_compiles():
    names = {}
    exec("def double(values):\n    values *= 2\n", names)  # numba has no place for the cache of a function without a file
    values = np.arange(3.0)
    compiled(names["double"])(values)
    assert values.tolist() == [0.0, 2.0, 4.0]


def test_numba_is_loaded_when_it_is_needed():
    code = "import sys, lava_snnlearn.neurons; print([name for name in ('numba', 'triton') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_compiled_code_is_dropped_when_what_it_calls_has_changed(tmp_path):
    (tmp_path / "outer.py").write_text(
        "import inner\nfrom lava_snnlearn.neurons.compiling import compiled\n\n"
        "@compiled\ndef walk(x: float) -> float:\n    return inner.step(x) + 1\n\nprint(walk(2.0))\n"
    )
    found = []
    for factor in (3, 3, 5):
        text = f"from lava_snnlearn.neurons.compiling import inlined\n\n@inlined\ndef step(x):\n    return {factor} * x\n"
        if factor != 3 or not found:
            (tmp_path / "inner.py").write_text(text)
        command = [sys.executable, "outer.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
        found.append(done.stdout.strip())
    assert found == ["7.0", "7.0", "11.0"]
