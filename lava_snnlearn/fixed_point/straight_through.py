"""Rounding with a gradient: what quantisation does to a weight or a bias, as a map that training can go through.

Forward: ``clip(round(x / step), low, high) * step``, exact, since steps are powers of two. Backward: straight through (Bengio,
Leonard and Courville 2013), except that a value beyond the range learns only what leads back to it: the chip holds it at the
end of the range, and would not notice how far it went on. (The usual clipped form drops both directions; it would never come
back.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Rounding(nn.Module):
    """Rounds to multiples ``low`` .. ``high`` of ``2 ** exponent``, and adds ``rest``, a constant that is 0 unless set.

    Args:
        exponent: of the step.
        low, high: smallest and largest multiple.
        wide: the result is float64, for what is summed up in float64.
    """

    def __init__(self, exponent: int, low: int, high: int, wide: bool = False) -> None:
        super().__init__()
        self.exponent, self.low, self.high, self.wide = exponent, low, high, wide
        self.rest: Tensor | None
        self.register_buffer("rest", None, persistent=False)

    def forward(self, real: Tensor) -> Tensor:
        """The rounded values, differentiable."""
        result: Tensor = _StraightThrough.apply(real, 2.0**self.exponent, self.low, self.high)
        if self.wide:
            result = result.double()
        return result if self.rest is None else result + self.rest

    def extra_repr(self) -> str:
        return f"multiples {self.low}..{self.high} of 2^{self.exponent}"


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor, step: float, low: int, high: int) -> Tensor:
        # float64 on the way, where no power of two that a scale can have is too large.
        multiple = torch.round(real.double() / step)
        ctx.save_for_backward(multiple > high, multiple < low)
        return (multiple.clamp_(low, high) * step).to(real.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        above, below = ctx.saved_tensors
        # A step of descent goes against the gradient.
        outwards = (above & (grad < 0)) | (below & (grad > 0))
        return grad.masked_fill(outwards, 0.0), None, None, None
