"""Gradients projected away from what earlier tasks used: what HLOP and GPM share.

A weight that changes by -eta delta xbar^T, with xbar = x - H^T H x, leaves its answers to all x in the row space of H as they
are, whichever rule made the error delta (Xiao et al., ICLR 2024, eq. 4; Saha et al., ICLR 2021). On the gradient g itself,

    g  <-  g - (g H^T) H                                                                            ("weight")

is the same and needs no more than H; convolutions have their kernels as rows of g, and unfolded patches as x. Two more things
must rest from the second task on, or old answers move although the weights do not see it: norms (in eval mode, their affine
part frozen), and all parameters of one dimension (thresholds, and biases, which are weights of an input that is always on).

Standardised weights are refused: each update rescales all weights of a neuron, and what is orthogonal before the
standardisation is not behind it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.checks import at_least, flag, tensor
from lava_snnlearn.methods.base import Method, Preset, StepResult, check_method, check_spiking, refuse_delays
from lava_snnlearn.networks.layers import Neurons
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.norms import BatchNorm
from lava_snnlearn.networks.synapse import Synapse

Respond = Callable[[Tensor], Tensor]
"""Activity of the lateral neurons [N, M] for their drive H x [N, M]."""
_UNFOLDED = 4
"""Patches that are unfolded for each one that is kept: whole maps must be, and neighbours on a map tell much the same."""


class ProjectedMethod:
    """What HLOP and GPM have in common: a base method whose weight gradients are projected. State is in ``network.memory``,
    under keys that begin with the method's name; ``<name>.old.<synapse>`` [M, fan-in] are the rows of ended tasks."""

    name: str
    base: Method
    rows: int
    readout: bool

    def check_common(self) -> None:
        """Raise where the base method, ``rows`` or ``readout`` is not valid."""
        check_method(self.base)
        preset = self.base.preset
        if hasattr(self.base, "begin_task") or hasattr(self.base, "constrain") or preset.feedback or preset.energy:
            raise ValueError(
                f"base is {self.base!r}, whose weight gradients cannot be projected; take a method for networks in layers, "
                "e.g. OTTT(), SLTT(), BPTT(), DSR() or RateBP()"
            )
        at_least(1, "rows", self.rows)
        flag("readout", self.readout)

    @property
    def optimiser_every(self) -> str:
        """The base method's."""
        return self.base.optimiser_every

    @property
    def engine(self) -> str | None:
        """The base method's: before the second task the gradients are its own."""
        found: str | None = getattr(self.base, "engine", None)
        return found

    @property
    def perturbs(self) -> bool:
        """Whether the base method adds noise to its forward pass."""
        return bool(getattr(self.base, "perturbs", False))

    @property
    def loss(self) -> Any:
        """The base method's loss; None where it has none."""
        return getattr(self.base, "loss", None)

    @property
    def preset(self) -> Preset:
        """The base method's, with plain weights where it has standardised ones."""
        preset = self.base.preset
        return dataclasses.replace(preset, norm="none") if preset.norm == "sws" else preset

    def check_optimiser(self, optimiser: str, weight_decay: float) -> None:
        """Raise ValueError for optimisers whose step is no multiple of past gradients and so leaves the projection.

        SGD's momentum is fine if it starts from zero at every task.
        """
        if optimiser != "sgd" or weight_decay:
            raise ValueError(
                f"{self.name} projects gradients, but optimiser {optimiser!r} with weight_decay {weight_decay:g} changes "
                "weights in other directions as well; use optimiser='sgd' and weight_decay=0"
            )

    def old(self, network: Network) -> dict[str, Tensor]:
        """Rows [M, fan-in] of ended tasks by the names of their synapses; empty before the first task's end."""
        prefix, like = f"{self.name}.old.", network.like
        return {key.removeprefix(prefix): rows.to(like) for key, rows in network.memory.items() if key.startswith(prefix)}

    def forget(self, network: Network) -> None:
        """Drop what the method keeps in ``network.memory``."""
        network.memory = {key: rows for key, rows in network.memory.items() if not key.startswith(f"{self.name}.")}


def synapses_of(network: Network, readout: bool = True) -> dict[str, Synapse]:
    """Synapses with their names, in the order of the forward pass, the feedback's last; ``readout``: with the readout's.

    Raises:
        TypeError: no spiking network. ValueError: one with standardised or quantised weights, delays, a recurrent layer or a
            transposed convolution.
    """
    check_spiking(network)
    refuse_delays(network, "projected gradients do not keep old answers where delays change what a synapse hears")
    found: dict[str, Synapse] = {}
    for name, module in network.named_modules():
        if isinstance(module, Neurons) and module.recurrent is not None:
            raise ValueError(f"{name} is recurrent; projected gradients take feed-forward layers, recurrent=False")
        if not isinstance(module, Synapse) or (module is network.readout and not readout):
            continue
        if module.standardise is not None:
            raise ValueError(
                f"{name} has standardised weights (norm='sws'), whose every update rescales all weights of a neuron, so that "
                "old answers move whatever is projected; build the network with norm='none', 'bn_step' or 'bn_time'"
            )
        if module.geometry is not None and module.geometry.transposed:
            raise ValueError(f"{name} is a transposed convolution; projected gradients take dense maps and convolutions")
        if not isinstance(module.weight, nn.Parameter):
            raise ValueError(f"{name} has quantised weights; train the plain network, and quantise it afterwards")
        found[name] = module
    return found


def fan_in(synapse: Synapse) -> int:
    """Length of a row of the weight: inputs of a neuron, or channels x kernel."""
    return math.prod(synapse.weight.shape[1:])


def project(gradient: Tensor, rows: Tensor) -> Tensor:
    """g - (g H^T) H for a weight's gradient [n_out, ...] and rows H [M, fan-in]; of the gradient's shape."""
    flat = gradient.flatten(1)
    return (flat - (flat @ rows.t()) @ rows).view_as(gradient)


def patches(synapse: Synapse, operand: Tensor) -> Tensor:
    """What each row of the weight is multiplied with, [M * positions, fan-in], of an operand [M, *pooled source]."""
    geometry = synapse.geometry
    if geometry is None:
        return operand.flatten(1)
    columns = F.unfold(operand, geometry.kernel, padding=geometry.padding, stride=geometry.stride)
    return columns.transpose(1, 2).flatten(0, 1)


def spread(total: int, count: int) -> Tensor:
    """``count`` different numbers below ``total``, evenly spread but in no rhythm with rows of maps, int64; all if it is
    greater. Without chance, so that the base method's draws stay what they are."""
    if count >= total:
        return torch.arange(total)
    step = max(1, round(total * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, total) != 1:
        step += 1
    return torch.arange(count) * step % total


class _Ear:
    """Listens to a synapse's weight gradients: keeps rows of its operand, and corrects the gradient in place.

    Args:
        batch: samples. quota: rows to keep of a time step.
        keeps: whether rows are kept.
        old: rows of which the operand must be freed ("input" projection); None: nothing is corrected.
    """

    def __init__(self, synapse: Synapse, batch: int, quota: int, keeps: bool, old: Tensor | None, respond: Respond) -> None:
        self.synapse, self.batch, self.quota = synapse, batch, quota
        self.keeps, self.old, self.respond = keeps, old, respond
        self.kept: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, operand: Tensor, grad: Tensor) -> None:
        if self.keeps:
            self.kept.append(self._rows(operand.detach()))
        if self.old is not None:
            weight = self.synapse.weight
            error = grad if grad.dim() == 2 else grad.flatten(2).transpose(1, 2).flatten(0, 1)
            answer = self.respond(patches(self.synapse, operand) @ self.old.t())
            change = -((error.t() @ answer) @ self.old).view_as(weight)
            weight.grad = change if weight.grad is None else weight.grad + change

    def _rows(self, operand: Tensor) -> Tensor:
        """At most ``quota`` rows of each time step, the same of every step: they do not depend on the pieces of time."""
        positions = math.prod(self.synapse.shape[1:])
        if self.batch * positions <= self.quota:
            return patches(self.synapse, operand)
        steps = operand.view(-1, self.batch, *operand.shape[1:])
        samples = spread(self.batch, math.ceil(_UNFOLDED * self.quota / positions)).to(operand.device)
        rows = patches(self.synapse, steps[:, samples].flatten(0, 1)).view(len(steps), len(samples) * positions, -1)
        return rows[:, spread(rows.shape[1], self.quota).to(operand.device)].flatten(0, 1)

    def heard(self) -> Tensor:
        """All rows kept [N, fan-in]."""
        return torch.cat(self.kept)


@contextmanager
def _settled(network: Network, readout: bool) -> Iterator[None]:
    """Norms in eval mode, and no gradient for parameters of one dimension (a readout that is nobody else's keeps its bias)."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm) and module.training]
    own = set() if readout else set(network.readout.parameters())
    resting = [p for p in network.parameters() if p.dim() <= 1 and p.requires_grad and p not in own]
    for norm in norms:
        norm.eval()
    for parameter in resting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
        for parameter in resting:
            parameter.requires_grad_(True)


class _Projection:
    """Keeps what ``.grad`` held apart from what the base method adds, which alone is projected."""

    def __init__(self, weights: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> None:
        self.weights, self.old = weights, old
        self.before: dict[str, Tensor | None] = {}

    def begin(self) -> None:
        for name, weight in self.weights.items():
            self.before[name], weight.grad = weight.grad, None

    def finish(self) -> None:
        for name, weight in self.weights.items():
            before = self.before[name]
            if weight.grad is not None and name in self.old:
                weight.grad = project(weight.grad, self.old[name])
            if before is not None:
                weight.grad = before if weight.grad is None else before.add_(weight.grad)

    def undo(self) -> None:
        for name, weight in self.weights.items():
            weight.grad = self.before[name]


def run_projected(
    method: ProjectedMethod,
    network: Network,
    x: Tensor,
    y: Tensor,
    on_step: Callable[[], None] | None = None,
    *,
    learning: Collection[str] = (),
    at_input: bool = False,
    respond: Respond = lambda drive: drive,
) -> tuple[StepResult, dict[str, Tensor]]:
    """The base method's gradients, each projected on the complement of its synapse's old rows before anybody sees it.

    Args:
        method: gives base method and old rows.
        network, x, y, on_step: as in :meth:`lava_snnlearn.methods.base.Method.gradients`.
        learning: names of synapses whose operands are wanted.
        at_input: project the operand of each weight gradient, as a circuit does, in place of the gradient; the same but for
            rounding while ``respond`` is the identity.
        respond: the lateral neurons' response, if at_input.

    Returns:
        The base method's result, and the operands' rows [N, fan-in] of each synapse in ``learning``, of about ``method.rows``
        rows a batch at most.

    Raises:
        ValueError: a network of another kind (:func:`synapses_of`), a base method that does not say what its weight gradients
            are made of, and all that the base method raises; ``.grad`` is then what it was.
    """
    tensor("labels", y)
    synapses, old = synapses_of(network, method.readout), method.old(network)
    active = {name: rows for name, rows in old.items() if len(rows)}
    projection = _Projection({name: synapses[name].weight for name in active}, {} if at_input else active)
    quota = max(1, method.rows // network.steps)
    ears = {
        name: _Ear(synapse, y.numel(), quota, name in learning, active.get(name) if at_input else None, respond)
        for name, synapse in synapses.items()
        if name in learning or (at_input and name in active)
    }

    def step() -> None:
        assert on_step is not None
        projection.finish()
        on_step()
        projection.begin()

    projection.begin()
    for name, ear in ears.items():
        synapses[name].observer = ear
    try:
        with _settled(network, method.readout) if old else nullcontext():
            result = method.base.gradients(network, x, y, step if on_step is not None and active else on_step)
        _check_heard(method, ears, learning)
    except BaseException:
        projection.undo()
        raise
    finally:
        for name in ears:
            synapses[name].observer = None
    projection.finish()
    return result, {name: ears[name].heard() for name in learning if ears[name].kept}


def _check_heard(method: ProjectedMethod, ears: Mapping[str, _Ear], learning: Collection[str]) -> None:
    """A silent synapse is one that does not learn, or a method that makes gradients in ways nobody can listen to."""
    silent = [name for name in learning if not ears[name].kept and ears[name].synapse.weight.requires_grad]
    if silent:
        raise ValueError(
            f"{method.base!r} gave no presynaptic activity for {silent[0]}; {method.name} needs a base method that makes its "
            "weight gradients by the synapses' products, such as OTTT, SLTT, BPTT, DSR or RateBP"
        )
