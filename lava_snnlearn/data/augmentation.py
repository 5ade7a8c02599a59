"""Augmentations of training images and of frames of events, for ``Trainer(augment=...)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lava_snnlearn.checks import instance_of, known_name, real_number, shown, whole_number
from lava_snnlearn.distributed import draw

PARTS = ("crop", "cutout", "flip")


@dataclass(frozen=True)
class PerSample:
    """A transform of torchvision (v2) with a draw of its own for each sample, the same for all steps of a sequence.

    Each sample's draws have a seed, which comes from torch's global generator: a seeded or resumed run repeats them, and
    several processes that train together draw what one would. The transform must draw from torch's generator of the CPU.

    Args:
        transform: takes and returns a tensor [C, H, W] ([T, C, H, W] for sequences), as those of torchvision.transforms.v2 do.

    Raises:
        TypeError: the transform cannot be called.
    """

    transform: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if isinstance(self.transform, type) or not callable(self.transform):
            raise TypeError(f"transform is {shown(self.transform)}; pass a transform of torchvision.transforms.v2, made ready")

    def __call__(self, batch: Tensor) -> Tensor:
        """The transformed batch: [B, C, H, W] or [T, B, C, H, W].

        Raises:
            ValueError: a batch without the axes of images.
        """
        if batch.dim() not in (4, 5):
            raise ValueError(
                f"the batch has shape {tuple(batch.shape)}; image augmentations take [B, C, H, W] or [T, B, C, H, W]. Give the "
                "data set its shape=(channels, height, width)"
            )
        along = batch.dim() - 4
        seeds = draw(lambda samples: torch.randint(1 << 62, (samples,)), batch.shape[along]).tolist()
        state = torch.get_rng_state()
        try:
            return torch.stack([self._one(*pair) for pair in zip(batch.unbind(along), seeds, strict=True)], along)
        finally:
            torch.set_rng_state(state)

    def _one(self, sample: Tensor, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)
        return self.transform(sample)


def augmentation(
    name: str, shape: tuple[int, int, int], *, padding: int = 4, cutout: int | None = None, probability: float = 0.5
) -> PerSample:
    """An augmentation by name: "crop", "flip" and "cutout", joined by "_", e.g. "crop_flip_cutout"; applied in this order.

    "crop": a random window of zero-padded images, which for events is a random shift. "flip": left-right. "cutout": a random
    square, inside of the image, is set to zero (DeVries & Taylor 2017, arXiv 1708.04552).

    Args:
        name: see above.
        shape: (C, H, W) of the images or frames, i.e. ``data.shape``.
        padding: of "crop", pixels on each side; the largest shift.
        cutout: of "cutout", side of the square in pixels; None: half of the shorter side (16 on CIFAR).
        probability: of "flip".

    Raises:
        UnknownNameError: an unknown part. ValueError: a number out of range. TypeError: a number of another type, no shape.
    """
    from torchvision.transforms import v2

    instance_of("shape", shape, tuple, "give (channels, height, width), i.e. data.shape of a data set of images")
    height, width = (whole_number("shape", size) for size in shape[-2:])
    side = max(1, min(height, width) // 2) if cutout is None else whole_number("cutout", cutout)
    if not 1 <= side < min(height, width):
        raise ValueError(f"cutout is {side}; the side of the square must lie in 1..{min(height, width) - 1}")
    if whole_number("padding", padding) < 1:
        raise ValueError(f"padding is {padding}; it must be at least 1")
    real_number("probability", probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; it must lie in [0, 1]")
    share = side * side / (height * width)
    ready = {
        "crop": v2.RandomCrop((height, width), padding=padding),
        "cutout": v2.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0), value=0),
        "flip": v2.RandomHorizontalFlip(probability),
    }
    return PerSample(v2.Compose([ready[known_name("augmentation", part, PARTS)] for part in name.split("_")]))
