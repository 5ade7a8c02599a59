"""The problem that every candidate solves: one network, one batch. Plain numpy, made once and handed to all as a file.

Weights lie on a grid of 2^-10 and inputs on one of 2^-4, so that every input current is exact in float32 whatever the order of
the sum: libraries with the same neuron emit the same spikes, and their gradients can be compared. Biases are odd multiples of
2^-15, so that no potential equals the threshold (libraries differ in > and >=).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

# (shape of weight, standard deviation), input side first; the deviations make 10 to 25 % of the neurons fire in a step
NETS: dict[str, list[tuple[tuple[int, ...], float]]] = {
    "mlp": [((800, 784), 0.04), ((10, 800), 0.05)],
    "feedback": [((400, 784), 0.04), ((10, 400), 0.05)],  # what the last layer feeds back is the candidate's own
    "conv": [((16, 1, 3, 3), 0.4), ((32, 16, 3, 3), 0.3), ((10, 32 * 7 * 7), 0.03)],
}
FRAMES = {"mlp": (784,), "feedback": (784,), "conv": (1, 28, 28)}
INPUTS = ("new frames", "static")
LEAK = 0.5  # lam = 0.5: exact in float32
SLOPE = 4.0  # a of the sigmoid surrogate


def make(net: str, inputs: str, steps: int, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """x float32 [T, B, ...] ("new frames") or [B, ...] ("static"), y int64 [B], weight0, bias0, weight1, ... float32."""
    rng = np.random.default_rng(seed)
    frames = (batch, *FRAMES[net]) if inputs == "static" else (steps, batch, *FRAMES[net])
    arrays = {"x": rng.integers(0, 16, frames, dtype=np.uint8).astype(np.float32) / 16, "y": rng.integers(0, 10, batch)}
    for index, (shape, deviation) in enumerate(NETS[net]):
        arrays[f"weight{index}"] = (np.round(rng.normal(0, deviation, shape) * 1024) / 1024).astype(np.float32)
        arrays[f"bias{index}"] = ((2 * rng.integers(0, 128, shape[0]) + 1) / 32768).astype(np.float32)
    return arrays


def save(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """One .npy per array in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def load(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of :func:`save`."""
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}
