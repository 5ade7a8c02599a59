"""Training in several processes (``torchrun``): what they exchange, so that N of them do what one does on the joined batch.

Every function here is the identity, or the plain local computation, where no process group is active. Each process works on its
own share of every batch; gradients are summed with the weights of the shares before each optimiser step (also before those
that an online method makes in every time step), batch-norm statistics are those of the joined batch, and random draws per
sample (dropout, rate code) are made for the joined batch of which each process keeps its own part. What is assumed of a loss is
that it is a mean over samples.

A :class:`~lava_snnlearn.training.Trainer` does all this by itself. A training loop of one's own::

    with snn.distributed.process_group():
        for x, y in batches:                                # the joined batch, the same in every process
            share = snn.distributed.share_of(len(y))
            with snn.distributed.working_on(share):
                method.gradients(network, x[share.first : share.last], y[share.first : share.last])
            snn.distributed.join_gradients(network.parameters(), share.weight)
            optimiser.step()
            optimiser.zero_grad()
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as group
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from lava_snnlearn.checks import real_number

TIMEOUT = 600.0
"""Seconds that a process waits for the others. Those that end are noticed at once; this is for those that stand still."""
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")


class LostProcessError(RuntimeError):
    """Another process of the group failed, ended, or did not answer in time; its own message says why."""


@dataclass(frozen=True)
class Share:
    """The samples first .. last - 1 of a joined batch of ``total`` are this process's."""

    first: int
    last: int
    total: int

    @property
    def weight(self) -> float:
        """Its part of the joined batch, 0..1."""
        return (self.last - self.first) / self.total


_share: Share | None = None
_entries = itertools.count()
# What is exchanged lives here until the group has gone. gloo's threads let go of a message some time after it was delivered; if
# nobody else held it then, they would wait for Python's lock, while Python, which destroys the group, waits for them.
_messages: dict[tuple[Any, ...], Tensor] = {}


def _active() -> bool:
    return group.is_available() and group.is_initialized()


def world() -> int:
    """Number of processes that exchange now: 1 where no process group is active."""
    return group.get_world_size() if _active() else 1


def rank() -> int:
    """Number of this process in the active group, from 0."""
    return group.get_rank() if _active() else 0


def launched() -> int:
    """Number of processes that train together: those of the active group, or those that ``torchrun`` started."""
    if _active():
        return world()
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _VARIABLES) else 1


def is_first() -> bool:
    """Whether this is process 0 of those :func:`launched`, which alone writes files and tells of progress."""
    if _active() or launched() == 1:
        return rank() == 0
    return int(os.environ["RANK"]) == 0


def local_rank() -> int:
    """Number of this process on its machine (torchrun's LOCAL_RANK), from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_device(device: str | torch.device) -> torch.device:
    """The device; "cuda" without a number is the GPU :func:`local_rank` where several processes train together."""
    chosen = torch.device(device)
    if str(chosen) == "cuda" and launched() > 1:
        return torch.device("cuda", local_rank() % max(1, torch.cuda.device_count()))
    return chosen


@contextmanager
def process_group(timeout: float = TIMEOUT) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for as long as the block lasts.

    Nothing happens where there are no others, or in a group that is active already. Tensors of the CPU go by gloo, those of a
    GPU by nccl where each process of the machine has a GPU of its own. Leaving waits for the others; leaving by an exception
    does not, and the others, wherever they wait, get a :class:`LostProcessError`.

    Args:
        timeout: seconds to wait for a process that does not answer.

    Raises:
        ValueError: a timeout that is not positive. TypeError: it is no number. LostProcessError: see above.
    """
    real_number("timeout", timeout)
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}; give more than 0 seconds")
    if _active() or launched() == 1:
        yield
        return
    wait = timedelta(seconds=float(timeout))
    # Each group has its own corner of the store: the addresses of an earlier one would be taken for this one's.
    store = group.PrefixStore(f"lava_snnlearn_{next(_entries)}", _store())
    store.set_timeout(wait)
    number, size, hook = int(os.environ["RANK"]), launched(), sys.excepthook
    group.init_process_group(_backend(), store=store, rank=number, world_size=size, timeout=wait)
    try:
        yield
        wait_for_all()
    finally:
        group.destroy_process_group()
        _messages.clear()
        # torch's own hook, which init_process_group sets, asks the group for its rank.
        sys.excepthook = hook


@lru_cache(maxsize=1)
def _store() -> Any:
    """Where the processes find each other. Kept: where torchrun does not host it, process 0 does, and cannot do so twice."""
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=TIMEOUT)))
    return store


def _backend() -> str:
    if not torch.cuda.is_available():
        return "gloo"
    gpus = torch.cuda.device_count()
    torch.cuda.set_device(local_rank() % gpus)
    # nccl refuses two processes on one GPU; gloo takes tensors of GPUs as well, by way of the CPU.
    return "cpu:gloo,cuda:nccl" if group.is_nccl_available() and gpus >= _local_world() else "gloo"


def _local_world() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", launched()))


def share_of(total: int) -> Share:
    """This process's share of a batch of ``total`` samples: consecutive samples, as equal as can be.

    Raises:
        ValueError: fewer samples than processes.
    """
    if total < world():
        raise ValueError(
            f"a batch of {total} samples cannot be shared by {world()} processes; use larger batches or fewer processes"
        )
    first, last = _bounds(total, rank())
    return Share(first, last, total)


def _bounds(total: int, number: int) -> tuple[int, int]:
    return total * number // world(), total * (number + 1) // world()


def own_part(total: int) -> slice:
    """This process's part of ``total`` things, which may be none."""
    return slice(*_bounds(total, rank()))


@contextmanager
def working_on(share: Share) -> Iterator[None]:
    """Within the block, :func:`joined_count`, :func:`joined_moments` and :func:`draw` know of which joined batch the local one
    is a part. Without it, all processes are taken to have equally many samples."""
    global _share
    before, _share = _share, share
    try:
        yield
    finally:
        _share = before


def joined_count(local: int) -> int:
    """How many of something the joined batch has if the local share has ``local`` (samples, or a multiple of them)."""
    if world() == 1 or _share is None:
        return local * world()
    return local * _share.total // (_share.last - _share.first)


def draw(make: Callable[[int], Tensor], batch: int, dim: int = 0) -> Tensor:
    """``make(samples)`` for the joined batch, cut to this process's samples along ``dim``; all processes draw the same."""
    if world() == 1 or _share is None or _share.last - _share.first != batch:
        return make(batch)
    return make(_share.total).narrow(dim, _share.first, batch)


def joined_moments(current: Tensor, dims: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over ``dims`` of all processes' ``current``, differentiable once.

    The gradient is that of the joined loss, the sum of weight * loss over processes, divided by this process's weight: right
    once :func:`join_gradients` has multiplied by it.
    """
    mean, variance = _JoinedMoments.apply(current, tuple(dims))
    return mean, variance


class _JoinedMoments(torch.autograd.Function):
    """One message forward and one backward."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        local_variance, local_mean = torch.var_mean(current, dim=dims, correction=0, keepdim=True)
        table = _message((world(), 2, local_mean.numel()), current).zero_()
        table[rank(), 0], table[rank(), 1] = local_mean.flatten(), local_variance.flatten()
        _exchange(group.all_reduce, table)
        weights = current.new_tensor(_weights()).unsqueeze(1)
        means, variances = table.unbind(1)
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)
        ctx.save_for_backward(current, mean.view_as(local_mean))
        ctx.weight, ctx.count = _weights()[rank()], current.numel() // max(1, local_mean.numel())
        return mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, for_mean: Tensor, for_variance: Tensor) -> tuple[Tensor, None]:
        current, mean = ctx.saved_tensors
        joined = _message((2, *for_mean.shape), current)
        torch.stack([for_mean, for_variance], out=joined).mul_(ctx.weight)
        _exchange(group.all_reduce, joined)
        # Divided by weight * (values of the joined batch), which is the number of local values.
        mean_part, variance_part = (joined / ctx.count).view(2, *mean.shape).unbind(0)
        return mean_part + 2 * variance_part * (current - mean), None


@torch.no_grad()
def join_gradients(parameters: Iterable[torch.nn.Parameter], weight: float) -> None:
    """Replace every ``.grad`` by the sum over processes of weight * grad, in one message; None stays where all have None.

    Raises:
        LostProcessError: see there.
    """
    if world() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    grads = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
    present = grads[0].new_tensor([float(parameter.grad is not None) for parameter in trained])
    flat = _message((sum(grad.numel() for grad in grads) + len(trained),), grads[0])
    torch.cat([*(grad.flatten() for grad in grads), present], out=flat).mul_(weight)
    _exchange(group.all_reduce, flat)
    *joined, anywhere = flat.split([*(grad.numel() for grad in grads), len(trained)])
    for parameter, grad, total, known in zip(trained, grads, joined, anywhere.tolist(), strict=True):
        if known:
            parameter.grad = grad.copy_(total.view_as(grad))


@torch.no_grad()
def join_means(means: Sequence[Tensor]) -> list[Tensor]:
    """Means over the samples of the joined batch, from those over the local ones, in one message; all of one dtype.

    Raises:
        LostProcessError: see there.
    """
    if world() == 1 or not means:
        return list(means)
    total = _message((sum(mean.numel() for mean in means),), means[0])
    torch.cat([mean.flatten() for mean in means], out=total).mul_(_weights()[rank()])
    _exchange(group.all_reduce, total)
    parts = total.split([mean.numel() for mean in means])
    return [part.clone().view(mean.shape) for part, mean in zip(parts, means, strict=True)]


def joined_sum(values: Sequence[float]) -> list[float]:
    """Sums over processes.

    Raises:
        LostProcessError: see there.
    """
    return _joined(values, group.ReduceOp.SUM)


def joined_max(values: Sequence[float]) -> list[float]:
    """The largest of all processes: what depends on the size of a share, and on which all must agree, depends on these.

    Raises:
        LostProcessError: see there.
    """
    return _joined(values, group.ReduceOp.MAX)


def _joined(values: Sequence[float], operation: Any) -> list[float]:
    if world() == 1:
        return list(values)
    like = torch.tensor(values, dtype=torch.float64, device=_message_device())
    total = _message(like.shape, like).copy_(like)
    _exchange(group.all_reduce, total, operation)
    return total.tolist()


def wait_for_all() -> None:
    """Return when all processes have come here."""
    joined_sum([0.0])


def from_first(make: Callable[[], T]) -> T:
    """What ``make()`` returns in process 0, where alone it is called, for all processes; what it raises there, all raise."""
    if world() == 1:
        return make()
    answer: Any = None
    failure: Exception | None = None
    told = b""
    if rank() == 0:
        try:
            answer = make()
        except Exception as error:
            failure = error
        told = pickle.dumps((answer, None if failure is None else _portable(failure)))
    heard = _from_first(told)
    if rank() > 0:
        answer, failure = pickle.loads(heard)
    if failure is not None:
        raise failure
    result: T = answer
    return result


def _from_first(told: bytes) -> bytes:
    """The bytes of process 0."""
    device = _message_device()
    size = _message((1,), torch.zeros(1, dtype=torch.int64, device=device)).fill_(len(told))
    _exchange(group.broadcast, size, 0)
    length = int(size)
    # Sizes are rounded up, so that few messages are kept.
    content = _message((1 << max(8, length.bit_length()),), torch.zeros(1, dtype=torch.uint8, device=device))
    if rank() == 0:
        content[:length] = torch.frombuffer(bytearray(told), dtype=torch.uint8)
    _exchange(group.broadcast, content, 0)
    return content[:length].cpu().numpy().tobytes()


def _portable(error: Exception) -> Exception:
    """The error, or what can be told of it to other processes."""
    try:
        copied: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        return LostProcessError(f"process 0 failed: {type(error).__name__}: {error}")
    return copied


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Give tensors, in place, the values that they have in process 0."""
    if world() > 1:
        for tensor in tensors:
            message = _message(tensor.shape, tensor).copy_(tensor)
            _exchange(group.broadcast, message, 0)
            tensor.copy_(message)


def _weights() -> list[float]:
    """The weights of all processes' shares."""
    total = world() if _share is None else _share.total
    return [(last - first) / total for first, last in (_bounds(total, number) for number in range(world()))]


def _message_device() -> str:
    return "cuda" if group.get_backend() == "nccl" else "cpu"


def _message(shape: Sequence[int], like: Tensor) -> Tensor:
    """Room for a message of this shape, in the dtype and on the device of ``like``."""
    key = (tuple(shape), like.dtype, like.device)
    if key not in _messages:
        _messages[key] = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
    return _messages[key]


def _exchange(collective: Callable[..., Any], *arguments: Any) -> None:
    failure: str | None = None
    try:
        collective(*arguments)
    except RuntimeError as error:
        failure = str(error)
    # Not raised above: the caught error would keep the group's connections open, and with them processes waiting for this one.
    if failure is not None:
        raise LostProcessError(
            f"process {rank()} of {world()} lost another one, which failed, ended, or did not answer in time; see its own "
            f"message ({failure})"
        )
