"""Compile every variant of Triton's kernels down to PTX (compute capability 8.0), which needs no GPU; print their number.

The interpreter runs the kernels as Python and accepts more than the compiler does. Uses inner parts of Triton 2.3.
"""

import itertools

from triton.compiler.backends.cuda import CUDABackend
from triton.compiler.compiler import ASTSource, AttrsDescriptor

from lava_snnlearn.neurons import triton_kernels

NUMBERS = {"N", "T", "stride", "last", "step", "last_arriving", "step_arriving"}
TARGET = ("cuda", 80)


def ptx(kernel, dtype, constants):
    """PTX of one variant; ``constants`` by name."""
    names = kernel.arg_names
    types = {i: "i32" if n in NUMBERS else f"*{dtype}" for i, n in enumerate(names) if n not in constants}
    backend = CUDABackend(TARGET)
    options = backend.parse_options({"enable_fp_fusion": False})
    stages, metadata = {}, {"target": TARGET, **options.__dict__}
    backend.add_stages(stages, options)
    source = ASTSource(kernel, types, {names.index(n): value for n, value in constants.items()}, AttrsDescriptor())
    module = source.make_ir(options)
    for name in ("ttir", "ttgir", "llir", "ptx"):
        module = stages[name](module, metadata)
    return module


count = 0
for kernel in (triton_kernels._forward, triton_kernels._backward_full, triton_kernels._backward_instant):
    flags = [name for name in kernel.arg_names if name.isupper() and name not in {"N", "T", "BLOCK"}]
    for values, dtype in itertools.product(itertools.product([True, False], repeat=len(flags)), ["fp32", "fp64"]):
        chosen = dict(zip(flags, values, strict=True))
        if chosen.get("SIGMOID") and chosen.get("TRIANGLE"):
            continue
        for special in ({}, {"N": 1, "T": 1})[
            : 2 if dtype == "fp32" else 1
        ]:  # Triton turns arguments that are 1 into constants
            code = ptx(kernel, dtype, {**chosen, **special, "BLOCK": 256})
            assert dtype == "fp64" or "fma.rn" not in code, f"{kernel.__name__} {chosen} contracts multiply and add"
            count += 1
print(count)
