"""What three processes exchange; each writes what it got to FOLDER, then process 1 fails and nobody catches it.

Usage: torchrun --nproc-per-node 3 exchange.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lava_snnlearn import distributed

TOTAL, CHANNELS = 10, 4


class Stubborn(Exception):
    """Cannot be sent to other processes."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def make_batch(channels: int = CHANNELS) -> torch.Tensor:
    """[10, 4, 3, 2], far from zero mean."""
    return 5 + torch.randn(TOTAL, channels, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss(current: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """A mean over samples of something that depends on sample and statistics."""
    shape = (1, -1, 1, 1)
    normal = (current - mean.view(shape)) / (variance.view(shape) + 0.1).sqrt()
    return (normal.exp() * torch.arange(1, 7).view(3, 2)).sum((1, 2, 3)).mean()


def moments() -> dict[str, Any]:
    """Of a batch in unequal shares, and the gradient of the weights before them."""
    share = distributed.share_of(TOTAL)
    gain = nn.Parameter(torch.linspace(0.5, 2, CHANNELS, dtype=torch.float64))
    with distributed.working_on(share):
        current = make_batch()[share.first : share.last] * gain.view(1, -1, 1, 1)
        mean, variance = distributed.joined_moments(current, [0, 2, 3])
        loss(current, mean, variance).backward()
        count = distributed.joined_count(len(current) * 6)
    distributed.join_gradients([gain], share.weight)
    assert gain.grad is not None
    return {"mean": mean.tolist(), "variance": variance.tolist(), "grad": gain.grad.tolist(), "count": count}


def gradients() -> list[Any]:
    """Of parameters that all, one and no process uses, and of a frozen one."""
    number = distributed.rank()
    used, seldom, never, frozen = (nn.Parameter(torch.zeros(2, 2)) for _ in range(4))
    frozen.requires_grad_(False)
    used.grad = torch.full((2, 2), 1.0 + number)
    if number == 2:
        seldom.grad = torch.eye(2)
    distributed.join_gradients([used, seldom, never, frozen], [0.2, 0.3, 0.5][number])
    return [None if parameter.grad is None else parameter.grad.tolist() for parameter in (used, seldom, never, frozen)]


def draws() -> dict[str, Any]:
    """Along both dims, with and without a share."""
    share = distributed.share_of(TOTAL)
    torch.manual_seed(0)
    with distributed.working_on(share):
        first = distributed.draw(lambda n: torch.rand(n, 2), share.last - share.first)
        second = distributed.draw(lambda n: torch.rand(2, n), share.last - share.first, 1)
    return {"first": first.tolist(), "second": second.tolist(), "after": torch.rand(3).tolist()}


def first() -> dict[str, Any]:
    """What process 0 says."""
    number = distributed.rank()
    heard = distributed.from_first(lambda: {"number": number, "array": np.arange(1000), "none": None})
    errors = []
    for error in (KeyError("key"), Stubborn("one", "two")):

        def fail(error: Exception = error) -> None:
            raise error

        try:
            distributed.from_first(fail)
        except Exception as caught:
            errors.append([type(caught).__name__, str(caught)])
    tensors = [torch.full((3,), float(number)), torch.tensor(number)]
    distributed.take_from_first(tensors)
    sums = distributed.joined_sum([1.0, number, 0.1])
    most = distributed.joined_max([1.0, number, -number])
    answer = [heard["number"], int(heard["array"].sum()), heard["none"]]
    return {"heard": answer, "errors": errors, "tensors": [tensor.tolist() for tensor in tensors], "sums": sums, "most": most}


def standstill() -> str:
    """Process 1 does not answer in time."""
    try:
        with distributed.process_group(timeout=1):
            if distributed.rank() == 1:
                time.sleep(3)
            distributed.joined_sum([1.0])
    except distributed.LostProcessError as error:
        return str(error)
    return "not noticed"


def places() -> list[Any]:
    """Who this process is."""
    return [distributed.world(), distributed.rank(), distributed.launched(), distributed.is_first(), distributed.local_rank()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    hook = sys.excepthook
    outside = places()
    with distributed.process_group():
        inside = places()
        with distributed.process_group():  # that of outside
            pass
        share = distributed.share_of(TOTAL)
        part = distributed.own_part(2)
        answer = {
            "inside": inside,
            "share": [share.first, share.last, share.weight],
            "part": [part.start, part.stop],
            "moments": moments(),
            "gradients": gradients(),
            "draws": draws(),
            "first": first(),
        }
        try:
            distributed.share_of(2)
        except ValueError as error:
            answer["refused"] = str(error)
    answer |= {"outside": [outside, places()], "standstill": standstill(), "hook": sys.excepthook is hook}
    number = int(answer["inside"][1])
    (Path(sys.argv[1]) / f"{number}.json").write_text(json.dumps(answer))
    with distributed.process_group():
        distributed.wait_for_all()
        if number == 1:
            raise ValueError("the last word of process 1")
        distributed.wait_for_all()
