"""What every network that classifies samples has, however it computes: input of T steps, checked; predictions."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from lava_snnlearn import distributed
from lava_snnlearn.checks import known_name, real_number, tensor, whole_number
from lava_snnlearn.data.encoders import ENCODINGS, encode
from lava_snnlearn.networks.synapse import Shape


class Classifier(nn.Module):
    """A network that the Trainer trains.

    Args:
        steps: number of time steps T of a sample.
        encoding: how a static sample [B, n] becomes T steps: "direct" (the frame at every step), "rate" (Bernoulli spikes,
            values in [0, 1]) or "latency" (one spike, early for large values). Sequences [T, B, n] are taken as they are.
        dropout: probability that a neuron is silenced in training; one mask a sample, kept for all steps.

    Attributes:
        memory: tensors by name that a training method keeps from batch to batch, e.g. feedback matrices; empty for most.
            Checkpoints of a run hold them; files of weights and the state dict do not.

    Raises:
        ValueError: steps < 1, dropout outside [0, 1). TypeError: steps not whole, dropout no number.
        UnknownNameError: an unknown encoding.
    """

    def __init__(self, *, steps: int, encoding: str = "direct", dropout: float = 0.0) -> None:
        super().__init__()
        self.steps = whole_number("steps", steps)
        if self.steps < 1:
            raise ValueError(f"steps is {steps}; a network needs at least 1 time step")
        real_number("dropout", dropout)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie in [0, 1)")
        self.memory: dict[str, Tensor] = {}
        self.encoding, self.dropout = known_name("encoding", encoding, ENCODINGS), float(dropout)

    @property
    @abstractmethod
    def input_shape(self) -> Shape:
        """Shape of one frame: (n,) or (C, H, W)."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of classes."""

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A parameter, for dtype and device."""

    @abstractmethod
    def answer(self, x: Tensor) -> Tensor:
        """Evidence for each class [B, classes] in eval mode, without a graph."""

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return math.prod(self.input_shape)

    @property
    def batch_norms(self) -> list[str]:
        """Names of the norms in use that take statistics of a batch."""
        return []

    def encode(self, x: Tensor) -> Tensor:
        """Time-first input [T, B, *input_shape] of x, checked for shape, dtype, NaN and infinity.

        x is [B, n] (static), [T, B, n], or either with n in the form of the input shape. A static sample under the direct code
        is spread over time as a view. Random codes draw from torch's generator in training mode and from a fixed seed in eval
        mode.

        Raises:
            ValueError: another shape or dtype than the network's, NaN or infinity. TypeError: x is no tensor.
        """
        tensor("input", x)
        shape = self.input_shape
        if len(shape) == 3 and x.dim() in (4, 5) and tuple(x.shape[-3:]) == shape:
            x = x.flatten(-3)
        if x.dim() not in (2, 3) or x.shape[-1] != self.inputs or (x.dim() == 3 and x.shape[0] != self.steps):
            raise ValueError(
                f"input has shape {tuple(x.shape)}; this network takes [batch, {self.inputs}] or "
                f"[{self.steps} (time), batch, {self.inputs}]. Flatten images with x.reshape(len(x), -1)."
            )
        if not x.is_floating_point():
            raise ValueError(f"input has dtype {x.dtype}; pass floats (x.float()), spikes as 0.0 and 1.0")
        if x.dtype != self.like.dtype:
            raise ValueError(f"input has dtype {x.dtype}, the weights have {self.like.dtype}; convert one of them with .to")
        # The extremes are NaN where any value is, and they take no memory, unlike a mask of the whole input.
        if x.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(x))).all()):
            raise ValueError("input holds NaN or infinite values; clean or drop these samples")
        if x.dim() == 2:
            x = self._spread(x)
        return x if len(shape) == 1 else x.unflatten(-1, shape)

    def _spread(self, x: Tensor) -> Tensor:
        if self.encoding == "rate" and self.training:
            # Codes of a joined batch draw for all of it, so that the draws do not depend on the number of processes.
            draws = distributed.draw(
                lambda n: torch.rand((self.steps, n, x.shape[1]), dtype=x.dtype, device=x.device), len(x), 1
            )
            return encode(x, self.steps, self.encoding, draws=draws)
        return encode(x, self.steps, self.encoding, seed=0)

    def predict(self, x: Tensor) -> Tensor:
        """Class of each sample, int64 [B], in eval mode."""
        return self.answer(x).argmax(1)
