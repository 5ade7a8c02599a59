"""From stored samples to the tensors of a batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn.checks import shown

Augmentation = Callable[[Tensor], Tensor]


def inputs(x: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Static samples [B, n] as they are, sequences [B, T, n] time first: [T, B, n]; in ``dtype`` on ``device``."""
    values = torch.from_numpy(x).to(device)
    # Turned while the counts are small; a float copy is made only here.
    return (values.transpose(0, 1).contiguous() if values.dim() == 3 else values).to(dtype)


def check_augmentation(augment: Any) -> None:
    """Raise TypeError if ``augment`` is neither None nor a function of a batch."""
    if augment is not None and (isinstance(augment, type) or not callable(augment)):
        raise TypeError(
            f'augment is {shown(augment)}; pass a function of a batch, e.g. snn.data.augmentation("flip", data.shape)'
        )


def description(setting: Any) -> str | None:
    """The repr of a setting without memory addresses, which are others in each process; None for None."""
    return None if setting is None else re.sub(r" at 0x[0-9a-f]+", "", repr(setting))


def augmented(augment: Augmentation, x: Tensor, shape: tuple[int, int, int] | None) -> Tensor:
    """A batch [B, n] or [T, B, n], changed by ``augment``, which sees [..., C, H, W] where ``shape`` is (C, H, W).

    Raises:
        ValueError: what came back has another shape or dtype, or is no tensor.
    """
    images = x if shape is None else x.unflatten(-1, shape)
    changed = augment(images)
    if not isinstance(changed, Tensor) or changed.shape != images.shape or changed.dtype != images.dtype:
        raise ValueError(
            f"augment returned {_described(changed)} for a batch of {_described(images)}; it must return a tensor of the same "
            "shape and dtype"
        )
    return changed.reshape(x.shape)


def _described(value: Any) -> str:
    return f"shape {tuple(value.shape)} and {value.dtype}" if isinstance(value, Tensor) else shown(value)
