"""The network in integers that every simulator runs, and its input. Plain numpy, made once and handed to all as files.

784-256-10 LIF neurons as on Loihi: ``v = trunc(v (4096 - dv) / 4096) + 64 W s``, a spike where ``v > 64 vth``, then ``v = 0``;
the current is not filtered. The weights are even and lie within int8, so that all simulators can hold them. Every sample
starts at v = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

SIZES = (784, 256, 10)
LEAK = 2048
"""dv: half of the membrane goes in each step."""
LAG = 2
"""Steps by which the output follows the input where a synapse delivers one step late."""


@dataclass(frozen=True)
class Integers:
    """Weights int16 [n_out, n_in] of each layer, thresholds in weight units, dv, and input spikes uint8 [T, B, 784]."""

    weights: tuple[np.ndarray, ...]
    thresholds: tuple[int, ...]
    leak: int
    x: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.x)

    @property
    def samples(self) -> int:
        return self.x.shape[1]

    @property
    def period(self) -> int:
        """Steps of a sample where layers lag: until the output has answered the last input."""
        return self.steps + LAG

    def rows(self) -> np.ndarray:
        """Input of one long run, sample after sample: uint8 [B * period, 784]."""
        rows = np.zeros((self.samples, self.period, self.x.shape[2]), np.uint8)
        rows[:, : self.steps] = self.x.swapaxes(0, 1)
        return rows.reshape(-1, self.x.shape[2])

    def cut(self, rows: np.ndarray, lag: int = LAG) -> np.ndarray:
        """Output of one long run [B * period, 10] as uint8 [T, B, 10], without the first ``lag`` steps of each sample."""
        spikes = np.asarray(rows).reshape(self.samples, self.period, -1)[:, lag : lag + self.steps]
        return np.ascontiguousarray(spikes.swapaxes(0, 1)).astype(np.uint8)


def random_weights(seed: int = 0) -> tuple[np.ndarray, ...]:
    """Even weights within -120..126 of each layer."""
    rng = np.random.default_rng(seed)
    return tuple((2 * rng.integers(-60, 64, (m, n))).astype(np.int16) for n, m in pairwise(SIZES))


def loop_over_time(integers: Integers, x: np.ndarray) -> np.ndarray:
    """Spikes of the last layer for the input [T, B, n], uint8 [T, B, n_out], layer upon layer without lag.

    Products of these integers are exact in float32.
    """
    weights = [np.ascontiguousarray(weight.T.astype(np.float32)) for weight in integers.weights]
    membranes = [np.zeros((x.shape[1], weight.shape[1]), np.int32) for weight in weights]
    sent = np.empty((len(x), *membranes[-1].shape), np.uint8)
    for t, signal in enumerate(x):
        for v, weight, vth in zip(membranes, weights, integers.thresholds, strict=True):
            current = (signal.astype(np.float32) @ weight).astype(np.int32)
            v[:] = np.sign(v) * ((np.abs(v) * (4096 - integers.leak)) >> 12) + (current << 6)
            signal = v > vth << 6
            v[signal] = 0
        sent[t] = signal
    return sent


def with_thresholds(weights: tuple[np.ndarray, ...], x: np.ndarray, rate: float) -> tuple[Integers, list[float]]:
    """The network with thresholds at which at most this share of the neurons spikes in a step, and the shares of all layers.

    They are found on the first samples; the first share is the input's.
    """
    few = x[:, :64]
    thresholds: tuple[int, ...] = ()
    rates = [float(few.mean())]
    for layer in range(1, 1 + len(weights)):
        for vth in (100 * 5**power // 4**power for power in range(32)):
            made = Integers(weights[:layer], (*thresholds, vth), LEAK, x)
            share = float(loop_over_time(made, few).mean())
            if share <= rate:
                break
        thresholds = made.thresholds
        rates.append(share)
    return made, rates


def rate_coded(rates: np.ndarray, steps: int, seed: int = 1) -> np.ndarray:
    """Independent spikes of these probabilities [B, n]: uint8 [T, B, n]."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.random(rates.shape, np.float32) < rates for _ in range(steps)]).astype(np.uint8)


def save(folder: Path, integers: Integers) -> None:
    """x.npy (which can be read in parts) and parameters.npz."""
    np.save(folder / "x.npy", integers.x)
    weights = {f"weight{index}": weight for index, weight in enumerate(integers.weights)}
    np.savez(folder / "parameters.npz", thresholds=integers.thresholds, leak=integers.leak, **weights)


def load(folder: Path, samples: int) -> Integers:
    """The first samples of :func:`save`."""
    with np.load(folder / "parameters.npz") as store:
        thresholds = tuple(map(int, store["thresholds"]))
        weights = tuple(store[f"weight{index}"] for index in range(len(thresholds)))
        leak = int(store["leak"])
    return Integers(weights, thresholds, leak, np.load(folder / "x.npy", mmap_mode="r")[:, :samples].copy())
