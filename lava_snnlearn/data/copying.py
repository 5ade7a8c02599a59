"""The copying task: read a few symbols, wait, write them down again in order. A measure of how long a network can remember.

    step       0 .. length - 1    length .. length + delay - 1    length + delay .. 2 length + delay - 1
    input      the symbols        nothing; at the last, "go"      nothing
    target     blank              blank                           the symbols

Source: S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; in this form M. Arjovsky,
A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.checks import whole_number


class CopyingBatch(NamedTuple):
    """``x``: spikes 0.0/1.0, float32 [T, B, symbols + 1], the last channel is "go". ``y``: int64 [T, B], class ``symbols`` is
    blank. ``mask``: bool [T], the steps of recall. T = 2 length + delay."""

    x: Tensor
    y: Tensor
    mask: Tensor


def copying(
    samples: int, delay: int, *, length: int = 3, symbols: int = 3, generator: torch.Generator | None = None
) -> CopyingBatch:
    """Random samples of the copying task.

    Args:
        samples: B >= 1.
        delay: steps between the last symbol and its recall, at least 1.
        length: symbols in a sample, at least 1.
        symbols: size of the alphabet, at least 2. Guessing is right once in ``symbols`` times.
        generator: of the draw; None is torch's global one.

    Raises:
        ValueError: a number out of range. TypeError: a number that is not whole.
    """
    for name, value, least in (("samples", samples, 1), ("delay", delay, 1), ("length", length, 1), ("symbols", symbols, 2)):
        if whole_number(name, value) < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    drawn = torch.randint(symbols, (length, samples), generator=generator)
    steps = 2 * length + delay
    x = torch.zeros(steps, samples, symbols + 1)
    x[:length] = F.one_hot(drawn, symbols + 1)
    x[length + delay - 1, :, symbols] = 1.0
    y = torch.full((steps, samples), symbols)
    y[-length:] = drawn
    return CopyingBatch(x, y, torch.arange(steps) >= length + delay)
