"""How well a method's gradient agrees with that of another one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lava_snnlearn.methods.base import Method
from lava_snnlearn.methods.ottt import OTTT
from lava_snnlearn.networks.network import Network


def alignment(network: Network, method: Method, x: Tensor, y: Tensor, *, reference: Method | None = None) -> dict[str, float]:
    """Cosine of the gradients of a method and of OTTT (spatial backpropagation with the same traces) on the same batch.

    With OPZO in eval mode it says how good the feedback is; in training mode the noise of the forward pass sets the gradients
    further apart, since OTTT has none.

    Args:
        network: left as it is, with its memory and the global random state.
        method: any training method. x, y: a batch, as for ``gradients``.
        reference: the method to compare with; None: OTTT with the method's loss, if it has one.

    Returns:
        The cosine by the name of each weight (parameters of two or more dimensions); 0.0 where a gradient vanishes.
    """
    if reference is None:
        reference = OTTT(loss=method.loss) if hasattr(method, "loss") else OTTT()
    found, expected = (_weight_gradients(network, rule, x, y) for rule in (method, reference))
    return {name: float(torch.cosine_similarity(found[name], expected[name], dim=0)) for name in expected}


def _weight_gradients(network: Network, method: Method, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    twin = copy.deepcopy(network)
    twin.zero_grad()
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        method.gradients(twin, x, y)
    named = [(name, p) for name, p in twin.named_parameters() if p.dim() > 1 and p.requires_grad]
    return {name: torch.zeros(p.numel()).to(p) if p.grad is None else p.grad.flatten() for name, p in named}
