"""Triton's kernels without a GPU: run by Triton's interpreter, and compiled (not run) by its compiler."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def outcome(*arguments, interpret):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1" if interpret else "0"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def test_interpreted_kernels_equal_the_torch_loop():
    cases = outcome("-m", "pytest", "-p", "no:cacheprovider", str(HERE / "triton_cases.py"), interpret=True)
    assert cases.returncode == 0, cases.stdout + cases.stderr
    assert int(re.search(r"(\d+) passed", cases.stdout)[1]) > 60


def test_every_variant_compiles_for_a_gpu():
    result = outcome(str(HERE / "triton_compile.py"), interpret=False)
    assert result.returncode == 0, result.stderr
    # forward: 3 flags; full: 3 flags, 3 surrogates; instant: 1 flag, 3; in two dtypes, and once more with arguments that are 1
    assert int(result.stdout) == (8 + 24 + 6) * 3


def test_without_a_gpu_the_backend_is_refused():
    code = "import torch, lava_snnlearn.neurons as n; n.set_backend('triton'); n.integrate(n.LIF(), torch.zeros(2, 3))"
    refused = outcome("-c", code, interpret=False)
    assert refused.returncode == 1
    assert "ValueError: the backend 'triton' cannot run on cpu. Use backend 'auto'" in refused.stderr
