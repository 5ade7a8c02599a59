"""Compile every variant of Triton's kernels down to PTX (compute capability 8.0), which needs no GPU; print their number.

The interpreter runs the kernels as Python and accepts more than the compiler does. Uses inner parts of Triton, of 2.3 (that of
Python 3.10's torch) and of 3.x.
"""

import itertools

import triton
from triton.compiler.compiler import ASTSource

from lava_snnlearn.neurons import triton_kernels

NUMBERS = {"N", "T", "stride", "last", "step", "last_arriving", "step_arriving"}
FUSION = {"enable_fp_fusion": False}


def ptx_of_2(kernel, types, constants):
    """PTX, stage by stage: Triton 2.3 compiles as a whole only for a GPU that is there."""
    from triton.compiler.backends.cuda import CUDABackend
    from triton.compiler.compiler import AttrsDescriptor

    names = kernel.arg_names
    target = ("cuda", 80)
    backend = CUDABackend(target)
    options = backend.parse_options(FUSION)
    stages, metadata = {}, {"target": target, **options.__dict__}
    backend.add_stages(stages, options)
    signature = {names.index(name): kind for name, kind in types.items()}
    source = ASTSource(kernel, signature, {names.index(name): value for name, value in constants.items()}, AttrsDescriptor())
    module = source.make_ir(options)
    for name in ("ttir", "ttgir", "llir", "ptx"):
        module = stages[name](module, metadata)
    return module


def ptx_of_3(kernel, types, constants):
    """PTX: later releases compile for any target."""
    from triton.backends.compiler import GPUTarget

    source = ASTSource(kernel, {**types, **dict.fromkeys(constants, "constexpr")}, constants)
    return triton.compile(source, target=GPUTarget("cuda", 80, 32), options=FUSION).asm["ptx"]


def ptx(kernel, dtype, constants):
    """PTX of one variant; ``constants`` by name."""
    types = {n: "i32" if n in NUMBERS else f"*{dtype}" for n in kernel.arg_names if n not in constants}
    return (ptx_of_2 if triton.__version__.startswith("2.") else ptx_of_3)(kernel, types, constants)


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
