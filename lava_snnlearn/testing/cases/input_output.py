"""How SampleSource and Recorder are checked."""

from __future__ import annotations

import numpy as np

from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_SHAPE = (2, 3)


def source_case() -> ProcessCase:
    """Random integers of the whole int32 range (floats for the floating-point model), and silence after the last row."""

    def chip(rng: np.random.Generator) -> Parameters:
        limits = np.iinfo(np.int32)
        return {"data": rng.integers(limits.min, limits.max, (int(rng.integers(1, 30)), *_SHAPE), endpoint=True)}

    def expected(parameters: Parameters, _inputs: Arrays, steps: int) -> Arrays:
        data = parameters["data"]
        sent = np.zeros((steps, *_SHAPE), dtype=data.dtype)
        count = min(steps, len(data))
        sent[:count] = data[:count]
        return {"s_out": sent}

    return ProcessCase(
        parameters=chip,
        float_parameters=lambda rng: {"data": rng.normal(size=(int(rng.integers(1, 30)), *_SHAPE))},
        fixed=expected,
        floating=expected,
        refused=[
            {"data": np.zeros((0, 3))},
            {"data": np.zeros(3)},
            {"data": [[np.nan]]},
            {"data": [[np.inf]]},
            {"data": [[1 << 31]]},
            {"data": [["one"]]},
        ],
    )


def recorder_case() -> ProcessCase:
    """What arrives is what was recorded."""
    steps = 24

    def inputs(rng: np.random.Generator, _parameters: Parameters, count: int) -> Arrays:
        return {"s_in": rng.integers(-(2**31), 2**31, (count, *_SHAPE))}

    def expected(_parameters: Parameters, arrived: Arrays, _steps: int) -> Arrays:
        return {"spikes": arrived["s_in"]}

    return ProcessCase(
        parameters=lambda rng: {"shape": _SHAPE, "steps": steps},
        inputs=inputs,
        fixed=expected,
        floating=expected,
        refused=[{"steps": 0}, {"steps": -3}],
        steps=steps,
    )
