"""HLOP: Hebbian learning based orthogonal projection for continual learning (Xiao et al., ICLR 2024).

Each synapse has lateral neurons y = H x over its presynaptic activity x, and their inhibition -H^T y comes back. Once a task is
over, its rows of H are frozen, and the weights learn from what the inhibition leaves (their eqs. 3-5):

    Delta W = -eta delta xbar^T,   xbar = x - H_old^T H_old x

so that old answers stay where they are. The rows of the present task learn beside the weights, from every batch, by Oja's
subspace rule: Hebbian y x^T and anti-Hebbian -y xhat^T with xhat = H^T y of *all* rows, old ones included (their eq. 6), so
that the new rows turn to the principal directions of what the old ones leave.

x is just what enters the weight gradient of the base method: traces (OTTT), spikes (SLTT, BPTT) or rates (DSR, rate-BP). The
forward pass has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lava_snnlearn import distributed
from lava_snnlearn.checks import at_least, flag, known_name, positive, real_number
from lava_snnlearn.methods.base import Method, StepResult
from lava_snnlearn.methods.ottt import OTTT
from lava_snnlearn.methods.projection import ProjectedMethod, Respond, fan_in, run_projected, synapses_of
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Synapse

PROJECTIONS = ("weight", "input")


@dataclass(frozen=True)
class HLOP(ProjectedMethod):
    """Hebbian orthogonal projection around any base method with presynaptic activity.

    A task begins with :meth:`begin_task` and ends with :meth:`end_task`, which
    :class:`~lava_snnlearn.continual.ContinualTrainer` calls; before the first one, gradients are the base method's to the bit.
    From the second task on, norms are in eval mode, and parameters of one dimension (biases, thresholds, gains) rest. Train by
    SGD without weight decay, whose momentum starts anew with each task.

    Args:
        base: the method whose gradients are projected.
        first: lateral neurons (rows of H) of each synapse for the first task: one number for all, or one a synapse in the order
            of the forward pass. None: a quarter of the fan-in.
        increment: the same for every later task; or one such list a task, the last one holding on. None: an eighth of the
            fan-in, as long as there is room. All tasks together must leave some of the fan-in free.
        rate: learning rate of H, one number or one a synapse (published: 0.01, and 0.001 for the 784 pixels of MNIST).
        iterations: steps of Oja's rule a batch. momentum, clip: of its updates.
        spiking: lateral neurons answer in spikes: a signed rate code, +-``spiking_scale`` in ``spiking_steps`` steps. They do
            so in Oja's rule, and in the projection if that is at the input.
        projection: "weight" projects the gradient, "input" the presynaptic activity, as the circuit does: the same update by
            way of more products. The spiking answer has a part in the second only.
        rows: activities that Oja's rule takes from a batch, about, at most; convolutions have many more patches.
        readout: whether the readout is protected. False where each task has a readout of its own.

    Raises:
        ValueError: a number out of range, a base method whose gradients cannot be projected. UnknownNameError: an unknown
            projection. TypeError: a value of another type.
    """

    base: Method = field(default_factory=OTTT)
    first: int | Sequence[int] | None = None
    increment: int | Sequence[int] | Sequence[Sequence[int]] | None = None
    rate: float | Sequence[float] = 0.01
    iterations: int = 5
    momentum: float = 0.9
    clip: float = 10.0
    spiking: bool = False
    spiking_scale: float = 20.0
    spiking_steps: int = 1000
    projection: str = "weight"
    rows: int = 2048
    readout: bool = True
    name = "hlop"

    def __post_init__(self) -> None:
        self.check_common()
        for where, value in (("first", self.first), *(("increment", entry) for entry in self._increments())):
            for number in value if isinstance(value, Sequence) else () if value is None else (value,):
                at_least(0, where, number)
        for rate in self.rate if isinstance(self.rate, Sequence) else (self.rate,):
            positive("rate", rate)
        at_least(1, "iterations", self.iterations)
        real_number("momentum", self.momentum)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1)")
        positive("clip", self.clip)
        flag("spiking", self.spiking)
        positive("spiking_scale", self.spiking_scale)
        at_least(1, "spiking_steps", self.spiking_steps)
        known_name("projection", self.projection, PROJECTIONS)

    def check_tasks(self, network: Network, tasks: int) -> None:
        """Raise ValueError where ``first`` and ``increment`` do not fit the network, or leave nothing for the last of so many
        tasks to learn with."""
        synapses = synapses_of(network, self.readout)
        held = dict.fromkeys(synapses, 0)
        for task in range(tasks):
            full = [name for name, synapse in synapses.items() if held[name] >= fan_in(synapse)]
            if full:
                raise ValueError(
                    f"the rows of the first {task} of {tasks} tasks are all {held[full[0]]} directions of {full[0]}, which "
                    "could learn nothing more; give smaller first or increment, or a wider network"
                )
            old = {name: synapse.weight.new_empty(held[name], 0) for name, synapse in synapses.items()}
            for name, count in zip(synapses, self._counts(synapses, old, task), strict=True):
                held[name] += count

    def begin_task(self, network: Network, task: int) -> None:
        """Give each synapse the rows that task number ``task`` (from 0) learns: random, orthonormal, and orthogonal to those of
        earlier tasks. Draws from torch's generator. Task 0 forgets all that an earlier sequence left.

        Raises:
            ValueError: an earlier task was not ended, ``first`` or ``increment`` do not fit the network's synapses, or more
                rows than a synapse has room for. The network is then unchanged.
        """
        at_least(0, "task", task)
        synapses = synapses_of(network, self.readout)
        found = self.old(network) if task else {name: s.weight.new_zeros(0, fan_in(s)) for name, s in synapses.items()}
        if set(found) != set(synapses):
            raise ValueError(
                f"task {task} begins, but this network has no rows of the tasks before; call begin_task(network, 0), train, "
                "and end_task(network, x) first"
            )
        old = {name: found[name] for name in synapses}
        counts = self._counts(synapses, old, task)
        if task == 0:
            self.forget(network)
        for (name, rows), count in zip(old.items(), counts, strict=True):
            new = random_rows(count, rows)
            network.memory |= {f"hlop.new.{name}": new, f"hlop.velocity.{name}": torch.zeros_like(new)}

    def end_task(self, network: Network, x: Tensor | None = None) -> None:
        """The rows that the task learned become old ones. ``x`` is not used: HLOP keeps no data.

        Raises:
            ValueError: no task has begun.
        """
        synapses, old, memory = synapses_of(network, self.readout), self.old(network), dict(network.memory)
        for name, synapse in synapses.items():
            new = memory.pop(f"hlop.new.{name}", None)
            memory.pop(f"hlop.velocity.{name}", None)
            if new is None:
                raise ValueError(f"no task has begun for {name}; call begin_task(network, task) before training")
            new = new.to(synapse.weight)
            memory[f"hlop.old.{name}"] = torch.cat([old[name], new]) if name in old else new
        network.memory = memory

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the projected gradient to ``.grad`` and let the present task's rows learn from the batch.

        x: [B, n] or [T, B, n] float; y: int64 [B]; ``on_step`` as the base method has it.

        Raises:
            ValueError: a network with standardised weights, recurrent layers or transposed convolutions; rows that learn in
                several processes; all that the base method raises. TypeError: no spiking network.
        """
        new = {key.removeprefix("hlop.new."): rows for key, rows in network.memory.items() if key.startswith("hlop.new.")}
        learning = [name for name, rows in new.items() if len(rows)]
        if learning and distributed.world() > 1:
            raise ValueError("HLOP's rows learn from whole batches, which one process must see; train without torchrun")
        at_input = self.projection == "input"
        result, heard = run_projected(self, network, x, y, on_step, learning=learning, at_input=at_input, respond=self.respond)
        self._learn(network, heard)
        return result

    @torch.no_grad()
    def _learn(self, network: Network, heard: dict[str, Tensor]) -> None:
        old, names = self.old(network), list(synapses_of(network, self.readout))
        for name, x in heard.items():
            keys = [f"hlop.new.{name}", f"hlop.velocity.{name}"]
            new, velocity = (network.memory[key].to(x) for key in keys)
            rate = self.rate[names.index(name)] if isinstance(self.rate, Sequence) else self.rate
            found = subspace_update(
                x,
                old.get(name, x[:0]),
                new,
                velocity,
                rate=rate,
                iterations=self.iterations,
                momentum=self.momentum,
                clip=self.clip,
                respond=self.respond,
            )
            network.memory |= dict(zip(keys, found, strict=True))

    @property
    def respond(self) -> Respond:
        """The lateral neurons' response to their drive."""
        if not self.spiking:
            return _linear
        return lambda drive: signed_rate_code(drive, self.spiking_scale, self.spiking_steps)

    def _increments(self) -> list[Any]:
        """``increment`` by task: [of the second, of the third, ...]."""
        nested = isinstance(self.increment, Sequence) and any(isinstance(entry, Sequence) for entry in self.increment)
        return list(self.increment) if nested else [self.increment]  # type: ignore[arg-type]

    def _counts(self, synapses: dict[str, Synapse], old: dict[str, Tensor], task: int) -> list[int]:
        """New rows of each synapse."""
        increments = self._increments()
        where = "increment" if task else "first"
        wanted = increments[min(task, len(increments)) - 1] if task else self.first
        sizes = [fan_in(synapse) for synapse in synapses.values()]
        room = [size - len(rows) for size, rows in zip(sizes, old.values(), strict=True)]
        if wanted is None:
            return [min(size // (8 if task else 4), left) for size, left in zip(sizes, room, strict=True)]
        counts = list(wanted) if isinstance(wanted, Sequence) else [wanted] * len(sizes)
        for what, given in ((where, wanted), ("rate", self.rate)):
            if isinstance(given, Sequence) and len(given) != len(sizes):
                raise ValueError(
                    f"{what} has {len(given)} numbers, but {len(sizes)} synapses are protected ({', '.join(synapses)}); give "
                    "one for each, or a single one"
                )
        for name, count, left, size in zip(synapses, counts, room, sizes, strict=True):
            if count > left:
                raise ValueError(
                    f"{where} wants {count} rows for {name}, which has room for {left} of its {size} inputs; earlier tasks use "
                    "the others. Give fewer, or use a wider network"
                )
        return counts


def subspace_update(
    x: Tensor,
    old: Tensor,
    new: Tensor,
    velocity: Tensor,
    *,
    rate: float = 0.01,
    iterations: int = 5,
    momentum: float = 0.9,
    clip: float = 10.0,
    respond: Respond | None = None,
) -> tuple[Tensor, Tensor]:
    """Oja's subspace rule for one batch (their eq. 6 and code); repeated ``iterations`` times::

        y = H x,  xhat = H^T y    of all rows;     G = clip(mean over the batch of y (x - xhat)^T, +-clip)    of new rows
        V <- momentum V + (1 - momentum) G,        H <- H + rate V

    Args:
        x: [N, n], not centred: the fixed point is the principal subspace of E[x x^T].
        old, new, velocity: rows [M_old, n] that are frozen, [M, n] that learn, and V [M, n].
        respond: the lateral neurons' response; None: linear.

    Returns:
        The new rows and their V; the arguments are unchanged.
    """
    answer = _linear if respond is None else respond
    left = x - answer(x @ old.t()) @ old
    for _ in range(iterations):
        y = answer(x @ new.t())
        change = (y.t() @ (left - y @ new) / len(x)).clamp(-clip, clip)
        velocity = momentum * velocity + (1 - momentum) * change
        new = new + rate * velocity
    return new, velocity


def signed_rate_code(drive: Tensor, scale: float, steps: int) -> Tensor:
    """What spiking lateral neurons tell of their drive: scale round(steps clip(drive, +-scale) / scale) / steps."""
    return scale * torch.round(steps * drive.clamp(-scale, scale) / scale) / steps


def row_budget(inputs: Sequence[int], tasks: int) -> tuple[list[int], list[int]]:
    """Rows of HLOP that leave room for all tasks: up to a fifth of a synapse's inputs for each later task, fewer where 85 % of
    the inputs would not suffice for all of them, and twice as many for the first task.

    Args:
        inputs: fan-in of each synapse. tasks: how many, at least 1.

    Returns:
        Rows of each synapse for the first task, and for each later one.
    """
    later = [max(1, min(n // 5, n * 17 // 20 // (tasks + 1))) for n in inputs]
    return [min(n, 2 * more) for n, more in zip(inputs, later, strict=True)], later


def random_rows(count: int, old: Tensor) -> Tensor:
    """``count`` orthonormal rows [count, n], orthogonal to ``old`` [M, n], drawn from torch's generator on the CPU."""
    drawn = torch.randn(old.shape[1], count, dtype=torch.float64)
    # An orthonormal basis of the old rows, which Oja's rule leaves only about orthonormal, comes first.
    whole = torch.linalg.qr(torch.cat([old.t().to("cpu", torch.float64), drawn], 1)).Q
    return whole[:, len(old) :].t().contiguous().to(old)


def _linear(drive: Tensor) -> Tensor:
    return drive
