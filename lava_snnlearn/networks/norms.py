"""Normalisations of a spiking layer: none, batch norm per step, batch norm over time, scaled weight standardisation.

=========  ==========================================================================================================
name       meaning
=========  ==========================================================================================================
none       plain linear map
bn_step    batch norm applied at each time step by itself (statistics of that step's batch; running statistics move T
           times per iteration). Stays online. Used by SLTT.
bn_time    batch norm over all T * B samples. Needs the whole sequence, so it serves BPTT only, not the online methods.
sws        scaled weight standardisation (Qiao et al. 2019; Brock et al. 2021), per output channel, with trained gain.
           Used by OTTT. Spikes are multiplied by 2.74 before the next weight map, which restores unit variance.
=========  ==========================================================================================================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORMS = ("none", "bn_step", "bn_time", "sws")
SPIKE_GAIN = 2.74
"""1 / sqrt(p (1 - p)), p = 1 - Phi(1): standard deviation of a spike under a unit-variance current at threshold 1."""
VARIANCE_FLOOR = 1e-4


def spike_gain(norm: str) -> float:
    """Factor on the spikes that enter a weight map of a network with this norm."""
    return SPIKE_GAIN if norm == "sws" else 1.0


class ScaledWeightStandardisation(nn.Module):
    """W -> gain (W - mean) / sqrt(var N + 1e-4) per output channel, N the fan-in, var unbiased. ``gain`` [n_out], init 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        variance, mean = torch.var_mean(rows, dim=1, keepdim=True)
        scale = self.gain.unsqueeze(1) * torch.rsqrt(variance * rows.shape[1] + VARIANCE_FLOOR)
        return ((rows - mean) * scale).view_as(weight)


class BatchNormStep(nn.BatchNorm1d):
    """Batch norm of every time step by itself; input [B, n] (one step) or [T, B, n]."""

    def forward(self, current: Tensor) -> Tensor:
        if self.training and current.shape[-2] == 1:
            raise ValueError(
                "norm='bn_step' cannot take the variance of a batch of one sample in training; pass at least 2 samples, call "
                "network.eval(), or use norm='sws' or 'none'"
            )
        if current.dim() == 2:
            return super().forward(current)
        if self.training:
            return torch.stack([super(BatchNormStep, self).forward(now) for now in current.unbind(0)])
        return super().forward(current.flatten(0, 1)).view_as(current)


class BatchNormTime(nn.BatchNorm1d):
    """Batch norm with statistics over time and batch; input [T, B, n], or [B, n] in eval mode only."""

    def forward(self, current: Tensor) -> Tensor:
        if current.dim() == 3:
            if self.training and current.shape[:2] == (1, 1):
                raise ValueError(
                    "norm='bn_time' cannot take the variance of a batch of one sample with steps=1 in training; pass at least "
                    "2 samples or steps, call network.eval(), or use norm='sws' or 'none'"
                )
            return super().forward(current.flatten(0, 1)).view_as(current)
        if self.training:
            raise ValueError(
                "norm='bn_time' needs the whole sequence; train with BPTT, or use norm='bn_step' or 'sws' with online methods"
            )
        return super().forward(current)
