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


def rate(x: Tensor, steps: int, seed: int | None = None) -> Tensor:
    """Bernoulli spikes: each of ``steps`` steps spikes with probability x.

    Args:
        x: [B, ...] float in [0, 1].
        steps: T >= 1.
        seed: None draws from torch's global generator; a number gives the same spikes for the same x every time.

    Returns:
        0.0/1.0 spikes [T, B, ...] in the dtype of x.
    """
    generator = None if seed is None else torch.Generator(device=x.device).manual_seed(seed)
    draws = torch.rand((steps, *x.shape), generator=generator, dtype=x.dtype, device=x.device)
    return (draws < _intensities(x, "rate")).to(x.dtype)


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


def encode(x: Tensor, steps: int, encoding: str, seed: int | None = None) -> Tensor:
    """[B, ...] to [T, B, ...] by name: "direct" repeats the frame (a view, no copy), "rate", "latency"."""
    known_name("encoding", encoding, ENCODINGS)
    if encoding == "rate":
        return rate(x, steps, seed)
    if encoding == "latency":
        return latency(x, steps)
    return x.unsqueeze(0).expand(steps, *x.shape)
