"""From a static sample to T time steps: direct, rate and latency codes."""

from __future__ import annotations

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name

ENCODINGS = ("direct", "latency", "rate")


def _intensities(x: Tensor, code: str) -> Tensor:
    low, high = (float(x.min()), float(x.max())) if x.numel() else (0.0, 0.0)
    if low < 0 or high > 1:
        raise ValueError(
            f"the {code} code takes intensities in [0, 1], got values from {low:.4g} to {high:.4g}. "
            "Load the data with scale='unit', or rescale it."
        )
    return x


def rate(x: Tensor, steps: int, seed: int | None = None, draws: Tensor | None = None) -> Tensor:
    """Bernoulli spikes: each of ``steps`` steps spikes with probability x.

    Args:
        x: [B, ...] float in [0, 1].
        steps: T >= 1.
        seed: None draws anew for each sample from torch's global generator. A number fixes one draw per channel and step for
            all samples, so that a sample has the same spikes in every batch and in every float dtype.
        draws: uniform draws of the caller's own [steps, B, ...] in place of both.

    Returns:
        0.0/1.0 spikes [T, B, ...] in the dtype of x.
    """
    intensities = _intensities(x, "rate")
    if draws is not None:
        return (draws < intensities).to(x.dtype)
    if seed is None:
        draws = torch.rand((steps, *x.shape), dtype=x.dtype, device=x.device)
    else:
        # Multiples of 2^-16 below 1: the comparison is the same in float32 and float64.
        generator = torch.Generator().manual_seed(seed)
        levels = torch.randint(1 << 16, (steps, 1, *x.shape[1:]), generator=generator)
        draws = (levels.to(x.dtype) / (1 << 16)).to(x.device)
    return (draws < intensities).to(x.dtype)


def latency(x: Tensor, steps: int) -> Tensor:
    """One spike per channel, at step round((1 - x)(T - 1)); none where x == 0.

    Args:
        x: [B, ...] float in [0, 1].
        steps: T >= 1.

    Returns:
        0.0/1.0 spikes [T, B, ...] in the dtype of x.
    """
    when = torch.round((1 - _intensities(x, "latency")) * (steps - 1))
    clock = torch.arange(steps, dtype=x.dtype, device=x.device).view(-1, *[1] * x.dim())
    return ((clock == when) & (x > 0)).to(x.dtype)


def encode(x: Tensor, steps: int, encoding: str, seed: int | None = None, draws: Tensor | None = None) -> Tensor:
    """[B, ...] to [T, B, ...] by name: "direct" repeats the frame (a view, no copy), "rate" (``seed``, ``draws``),
    "latency".
    """
    known_name("encoding", encoding, ENCODINGS)
    if encoding == "rate":
        return rate(x, steps, seed, draws)
    if encoding == "latency":
        return latency(x, steps)
    return x.unsqueeze(0).expand(steps, *x.shape)
