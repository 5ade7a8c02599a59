"""Normalisations of a spiking layer: none, batch norm per step, batch norm over time, scaled weight standardisation.

=========  ==========================================================================================================
name       meaning
=========  ==========================================================================================================
none       plain linear map
bn_step    batch norm applied at each time step by itself (statistics of that step's batch; running statistics move T
           times per iteration). Stays online. Used by SLTT.
bn_time    batch norm over all T * B samples. Needs the whole sequence, so it serves BPTT and the rate-based methods, not
           the online ones.
sws        scaled weight standardisation (Qiao et al. 2019; Brock et al. 2021), per output channel, with trained gain.
           Used by OTTT. Spikes are multiplied by 2.74 before the next weight map, which restores unit variance.
=========  ==========================================================================================================

Batch norms are per neuron in dense layers and per channel in convolutions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn import distributed

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


class Statistics(NamedTuple):
    """Mean and biased variance per channel [C]."""

    mean: Tensor
    variance: Tensor


class BatchNorm(nn.BatchNorm1d):
    """What the two batch norms share. Input [T, B, C, ...] or, a single step, [B, C].

    In a process group of several (see :mod:`lava_snnlearn.distributed`) statistics are those of the joined batch.
    """

    def statistics(self, current: Tensor) -> Statistics:
        """Batch statistics over all dimensions but the channels' of [M, C, ...], differentiable."""
        dims = [0, *range(2, current.dim())]
        if distributed.world() > 1:
            return Statistics(*distributed.joined_moments(current, dims))
        variance, mean = torch.var_mean(current, dim=dims, correction=0)
        return Statistics(mean, variance)

    @torch.no_grad()
    def follow(self, found: Statistics, count: int, times: int = 1) -> None:
        """Move the running statistics ``times`` times towards these of ``count`` values a channel (all processes')."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = found.variance * (count / max(count - 1, 1))
        keep = (1 - self.momentum) ** times
        self.running_mean.mul_(keep).add_(found.mean, alpha=1 - keep)
        self.running_var.mul_(keep).add_(unbiased, alpha=1 - keep)
        self.num_batches_tracked += times

    def with_statistics(self, current: Tensor, found: Statistics) -> Tensor:
        """gamma (current - mean) / sqrt(variance + eps) + beta for [M, C, ...]."""
        scale = self.weight * torch.rsqrt(found.variance + self.eps)
        shift = self.bias - found.mean * scale
        shape = (1, -1, *[1] * (current.dim() - 2))
        return current * scale.view(shape) + shift.view(shape)

    @property
    def running(self) -> Statistics:
        """The running statistics, which eval mode uses."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return Statistics(self.running_mean, self.running_var)

    def train_batch(self, current: Tensor, update: bool, times: int = 1) -> Tensor:
        """[M, C, ...] normalised by its own statistics; the running ones follow if ``update``."""
        if distributed.world() > 1 or (update and times > 1):
            found = self.statistics(current)
            if update:
                self.follow(found, distributed.joined_count(current.numel() // current.shape[1]), times)
            return self.with_statistics(current, found)
        mean, variance = (self.running_mean, self.running_var) if update else (None, None)
        if update:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
        return F.batch_norm(current, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)

    def eval_batch(self, current: Tensor) -> Tensor:
        """[M, C, ...] normalised by the running statistics."""
        return F.batch_norm(current, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class BatchNormStep(BatchNorm):
    """Batch norm of every time step by itself; input [B, n] (one step), [T, B, n] or [T, B, C, H, W]."""

    def forward(self, current: Tensor, update: bool = True, times: int = 1) -> Tensor:
        """Normalise. ``update``: move the running statistics; ``times``: a static step stands for so many equal ones."""
        if current.dim() == 2:
            return self.forward(current.unsqueeze(0), update, times).squeeze(0)
        if not self.training:
            return self.eval_batch(current.flatten(0, 1)).view_as(current)
        if distributed.joined_count(current.shape[1]) * current[0, 0, 0].numel() == 1:
            raise ValueError(
                "norm='bn_step' cannot take the variance of a batch of one sample in training; pass at least 2 samples, call "
                "network.eval(), or use norm='sws' or 'none'"
            )
        if len(current) == 1:
            return self.train_batch(current[0], update, times).unsqueeze(0)
        return torch.stack([self.train_batch(now, update) for now in current.unbind(0)])


class BatchNormTime(BatchNorm):
    """Batch norm with statistics over time and batch; input [T, B, n] or [T, B, C, H, W], or [B, n] in eval mode only."""

    def forward(self, current: Tensor, update: bool = True, times: int = 1) -> Tensor:
        """Normalise. A static step that stands for ``times`` equal ones has their statistics, but for the unbiased variance."""
        if current.dim() == 2:
            if self.training:
                raise ValueError(
                    "norm='bn_time' needs the whole sequence; train with BPTT or a rate-based method, or use norm='bn_step' or "
                    "'sws' with online methods"
                )
            return self.eval_batch(current)
        flat = current.flatten(0, 1)
        if not self.training:
            return self.eval_batch(flat).view_as(current)
        if distributed.joined_count(len(flat)) * times * current[0, 0, 0].numel() == 1:
            raise ValueError(
                "norm='bn_time' cannot take the variance of a batch of one sample with steps=1 in training; pass at least "
                "2 samples or steps, call network.eval(), or use norm='sws' or 'none'"
            )
        if times == 1:
            return self.train_batch(flat, update).view_as(current)
        found = self.statistics(flat)
        if update:
            self.follow(found, times * distributed.joined_count(flat.numel() // flat.shape[1]))
        return self.with_statistics(flat, found).view_as(current)


BATCH_NORMS: dict[str, type[BatchNormStep] | type[BatchNormTime]] = {"bn_step": BatchNormStep, "bn_time": BatchNormTime}
