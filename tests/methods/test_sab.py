"""Sparse attentive backtracking against the same equations written out step by step, its structure, and the copying task."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.data.copying import CopyingBatch, copying
from lava_snnlearn.methods.base import Loss
from lava_snnlearn.methods.sab import SAB
from lava_snnlearn.networks.attentive import Attention, AttentiveNetwork
from lava_snnlearn.neurons import LIF, Triangle
from lava_snnlearn.neurons.dsr import DSRIF
from lava_snnlearn.neurons.lif import step

STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 13, 4, 3, 6, 5
TOLERANCE = 1e-12


def random_network(k_top: int, k_att: int = 2, neuron: LIF | None = None) -> AttentiveNetwork:
    torch.manual_seed(3)
    network = AttentiveNetwork(INPUTS, HIDDEN, CLASSES, neuron, k_top=k_top, k_att=k_att).double()
    if network.attention is not None:
        torch.nn.init.normal_(network.attention.recall.weight)
    return network


def random_batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(4)
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64)
    return x, torch.randint(CLASSES, (STEPS, BATCH)), torch.arange(STEPS) % 3 != 1


def sparse_weights(scores: Tensor, constant: Tensor, w: Tensor, k_top: int) -> Tensor:
    """A of one sample from all its scores [N]; ``constant``: the same numbers, without gradient to the memories."""
    if len(scores) > k_top:
        order = torch.argsort(scores.detach(), descending=True)
        theta, heard = constant[order[k_top]], order[:k_top]
    else:
        theta, heard = -w.abs().sum(), torch.arange(len(scores))
    z = torch.zeros_like(scores)
    z[heard] = scores[heard] - theta
    return z / z.sum()


def reference_outputs(network: AttentiveNetwork, x: Tensor, k_trunc: int | None) -> Tensor:
    """The equations of the module, sample by sample, all memories scored."""
    attention, outputs = network.attention, []
    for b in range(x.shape[1]):
        v = s = torch.zeros(HIDDEN, dtype=x.dtype)
        memories = [torch.zeros(2 * HIDDEN, dtype=x.dtype)]
        rows = []
        for t in range(len(x)):
            if k_trunc and t > 0 and t % k_trunc == 0:
                v, s = v.detach(), s.detach()
            current = network.input.weight @ x[t, b] + network.input.bias + network.recurrent.weight @ s
            summary = torch.zeros(2 * HIDDEN, dtype=x.dtype)
            if attention is not None:
                now = step(network.neuron, v, current)
                query = attention.query.weight @ torch.cat([now.membrane, now.spike])
                scores, constant = (
                    torch.stack([torch.tanh(query + attention.key.weight @ m) @ attention.score for m in read])
                    for read in (memories, [m.detach() for m in memories])
                )
                weights = sparse_weights(scores, constant, attention.score, network.k_top)
                summary = sum(weight * m for weight, m in zip(weights, memories, strict=True))
                current = current + attention.recall.weight @ summary / np.sqrt(2 * HIDDEN)
            after = step(network.neuron, v, current)
            v, s = after.membrane, after.spike
            rows.append(network.readout.weight @ torch.cat([v, s, summary]) + network.readout.bias)
            if (t + 1) % network.k_att == 0:
                memories.append(torch.cat([v, s]))
        outputs.append(torch.stack(rows))
    return torch.stack(outputs, 1)


def distance_to_reference(network: AttentiveNetwork, k_trunc: int | None) -> float:
    """Largest difference of outputs, loss and gradients from the reference's."""
    x, y, mask = random_batch()
    network.zero_grad()
    found = SAB(k_trunc=k_trunc).gradients(network, x, y, mask)
    named = dict(network.named_parameters())
    grads = {name: parameter.grad.clone() for name, parameter in named.items()}
    expected = reference_outputs(network, x, k_trunc)
    loss = torch.stack([F.cross_entropy(expected[t], y[t]) for t in range(STEPS) if mask[t]]).mean()
    exact = torch.autograd.grad(loss, list(named.values()))
    assert all(float(grad.abs().max()) > 1e-6 for grad in exact)
    differences = [float((grads[name] - grad).abs().max()) for name, grad in zip(named, exact, strict=True)]
    return max(*differences, float((found.outputs - expected).abs().max()), abs(found.loss - float(loss)))


@pytest.mark.parametrize(
    "neuron", [LIF(reset="zero"), LIF(leak=0.2, surrogate=Triangle(), detach_reset=False)], ids=["zero", "subtract"]
)
def test_all_memories_and_no_cut_is_the_exact_gradient(neuron):
    assert distance_to_reference(random_network(k_top=STEPS, neuron=neuron), None) < TOLERANCE


@pytest.mark.parametrize("k_top, k_att, k_trunc", [(2, 1, 3), (2, 2, 4), (3, 3, None), (4, 2, 1)])
def test_sparse_attention_and_cuts_equal_the_dense_reference(k_top, k_att, k_trunc):
    assert distance_to_reference(random_network(k_top, k_att), k_trunc) < TOLERANCE


def test_without_memories_it_is_truncated_backpropagation():
    network = random_network(k_top=0)
    assert network.attention is None
    assert distance_to_reference(network, 4) < TOLERANCE
    assert distance_to_reference(network, None) < TOLERANCE


def test_no_more_than_k_top_are_selected_and_no_others_get_gradient():
    torch.manual_seed(0)
    attention = Attention(4, 7, 3).double()
    memories = torch.randn(20, 6, 4, dtype=torch.float64, requires_grad=True)
    state = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    reminder = attention(state, memories, attention.key(memories))
    (reminder.summary * torch.randn(6, 4, dtype=torch.float64)).sum().backward()
    selected = torch.zeros(20, 6, dtype=torch.bool)
    for b in range(6):
        selected[reminder.chosen[:, b], b] = True
    assert int(selected.sum()) == 3 * 6
    assert bool((reminder.weights > 0).all())
    torch.testing.assert_close(reminder.weights.sum(0), torch.ones(6, dtype=torch.float64))
    assert bool((memories.grad[~selected] == 0).all())
    assert bool((memories.grad[selected].abs().amax(-1) > 1e-6).all())
    assert float(state.grad.abs().min()) > 0
    scores = torch.tanh(attention.query(state) + attention.key(memories)) @ attention.score
    assert torch.equal(torch.sort(reminder.chosen, 0).values, torch.sort(scores.topk(3, dim=0).indices, 0).values)


def test_tied_memories_give_no_summary_and_no_nan():
    attention = Attention(4, 7, 2).double()
    memories = torch.ones(5, 1, 4, dtype=torch.float64, requires_grad=True)
    reminder = attention(torch.ones(1, 4, dtype=torch.float64), memories, attention.key(memories))
    reminder.summary.sum().backward()
    assert not bool(reminder.summary.any())
    assert all(bool(torch.isfinite(p.grad).all()) for p in [memories, attention.score, attention.key.weight])


def reached(chosen: list[set[int]], last: int, k_att: int, k_trunc: int) -> set[int]:
    """Steps whose input can have gradient from a loss at ``last``: back to the cut, and on from every memory heard there."""
    found: set[int] = set()
    waiting = [last]
    while waiting:
        end = waiting.pop()
        window = set(range(end - end % k_trunc, end + 1)) - found
        found |= window
        waiting += [i * k_att - 1 for t in window for i in chosen[t] if i > 0]
    return found


def test_gradient_reaches_the_selected_memories_and_the_cut_before_them_only():
    k_att, k_trunc = 2, 3
    network = random_network(k_top=1, k_att=k_att)
    some_unreached = False
    for seed in range(5):
        torch.manual_seed(seed)
        x = torch.randn(24, 1, INPUTS, dtype=torch.float64, requires_grad=True)
        run = network.simulate(x, k_trunc)
        assert run.chosen.shape == run.weights.shape == (24, 1, 1)
        run.outputs[-1].sum().backward()
        chosen = [{int(i) for i in now.flatten() if i >= 0} for now in run.chosen]
        allowed = reached(chosen, 23, k_att, k_trunc)
        touched = set(torch.nonzero(x.grad.abs().amax((1, 2))).flatten().tolist())
        assert touched <= allowed
        assert set(range(21, 24)) | {i * k_att - 1 for i in chosen[23] if i > 0} <= touched
        some_unreached |= len(allowed) < 24 and len(allowed) > 3
    assert some_unreached


def test_record_of_the_attention():
    x = random_batch()[0]
    run = random_network(k_top=3, k_att=2).simulate(x)
    weights, chosen = run.weights.numpy(), run.chosen.numpy()
    assert run.spikes.shape == (STEPS, BATCH, HIDDEN)
    assert weights.shape == chosen.shape == (STEPS, 3, BATCH)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    stored = 1 + np.arange(STEPS) // 2
    assert (chosen < stored[:, None, None]).all()
    np.testing.assert_array_equal((chosen >= 0).sum(1), np.repeat(np.minimum(stored, 3)[:, None], BATCH, 1))
    assert ((chosen >= 0) == (weights > 0)).all()
    empty = random_network(k_top=0).simulate(x)
    assert empty.weights.shape == (STEPS, 0, BATCH)


def test_loss_and_mask_are_used():
    x, y, _ = random_batch()
    network = random_network(2)
    first = torch.arange(STEPS) < 2
    ignored = y.clone()
    ignored[2:] = -1
    found = SAB(loss=Loss(mse_weight=1.0)).gradients(network, x, ignored, first)
    expected = F.mse_loss(found.outputs[:2], F.one_hot(y[:2], CLASSES).double())
    assert found.loss == pytest.approx(float(expected), rel=1e-12)
    assert found.spike_rate == float(network.simulate(x).spikes.mean())
    whole = SAB().gradients(network, x, y)
    assert whole.loss == pytest.approx(float(F.cross_entropy(whole.outputs.flatten(0, 1), y.flatten())), rel=1e-12)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"k_top": -1}, ValueError),
        ({"k_att": 0}, ValueError),
        ({"k_top": 1.5}, TypeError),
        ({"hidden": 0}, ValueError),
        ({"classes": 0}, ValueError),
        ({"inputs": 0}, ValueError),
        ({"input_scale": 0}, ValueError),
        ({"input_scale": float("nan")}, ValueError),
        ({"input_scale": "2"}, TypeError),
        ({"neuron": LIF}, TypeError),
        ({"neuron": DSRIF()}, ValueError),
    ],
)
def test_refused_networks(options, error):
    with pytest.raises(error, match=next(iter(options))):
        AttentiveNetwork(**{"inputs": 3, "hidden": 4, "classes": 2, **options})


@pytest.mark.parametrize(
    "options, error", [({"k_trunc": 0}, ValueError), ({"k_trunc": 2.0}, TypeError), ({"loss": Loss}, TypeError)]
)
def test_refused_settings(options, error):
    with pytest.raises(error, match=next(iter(options))):
        SAB(**options)


def test_refused_batches():
    network, (x, y, mask) = random_network(2), random_batch()
    refused = [
        (ValueError, "input has shape", (x[..., :2], y, mask)),
        (ValueError, "input has dtype", (x.float(), y, mask)),
        (ValueError, "NaN", (x / 0, y, mask)),
        (ValueError, "labels have shape", (x, y[0], mask)),
        (ValueError, "dtype torch.int32", (x, y.int(), mask)),
        (ValueError, "labels reach", (x, y + 1, mask)),
        (ValueError, "mask has shape", (x, y, mask[:-1])),
        (ValueError, "mask has shape", (x, y, mask.long())),
        (ValueError, "no step", (x, y, mask & False)),
        (TypeError, "input must be a torch tensor", (x.numpy(), y, mask)),
        (TypeError, "labels must be a torch tensor", (x, y.tolist(), mask)),
    ]
    for error, text, batch in refused:
        with pytest.raises(error, match=text):
            SAB().gradients(network, *batch)
    with pytest.raises(ValueError, match="at least 1 step"):
        network(x[:0])
    with pytest.raises(TypeError, match="AttentiveNetwork"):
        SAB().gradients(torch.nn.Linear(3, 5), x, y)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_copying_samples():
    batch = copying(50, 4, length=2, symbols=5, generator=torch.Generator().manual_seed(1))
    assert batch.x.shape == (8, 50, 6)
    assert batch.mask.tolist() == [False] * 6 + [True] * 2
    assert torch.equal(batch.x[:2, :, :5].argmax(-1), batch.y[-2:])
    assert bool((batch.x[:2].sum(-1) == 1).all())
    assert bool((batch.x[5, :, 5] == 1).all())
    assert float(batch.x.sum()) == 3 * 50
    assert bool((batch.y[:6] == 5).all())
    assert set(batch.y[-2:].flatten().tolist()) == set(range(5))
    again = copying(50, 4, length=2, symbols=5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(batch.y, again.y)
    for options in ({"samples": 0}, {"delay": 0}, {"length": 0}, {"symbols": 1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            copying(**{"samples": 2, "delay": 3, **options})


def recall(network: AttentiveNetwork, batch: CopyingBatch) -> float:
    """Share of symbols that are written down right."""
    with torch.no_grad():
        right = network(batch.x).argmax(-1) == batch.y
    return float(right[batch.mask].float().mean())


def train_to_copy(k_top: int, seed: int, iterations: int) -> Iterator[AttentiveNetwork]:
    """Delay 20, 3 symbols, 32 neurons; yields the network at every 20th iteration."""
    torch.manual_seed(seed)
    neuron = LIF(leak=0.5, reset="zero", surrogate=Triangle())
    network = AttentiveNetwork(4, 32, 4, neuron, k_top=k_top, k_att=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for iteration in range(1, iterations + 1):
        optimiser.zero_grad()
        SAB(k_trunc=5).gradients(network, *copying(64, 20))
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if iteration % 20 == 0:
            yield network


@pytest.mark.learning
def test_copies_over_a_delay_that_truncated_backpropagation_cannot_bridge():
    draw = torch.Generator().manual_seed(99)
    valid, test = copying(500, 20, generator=draw), copying(2000, 20, generator=draw)
    for network in train_to_copy(k_top=3, seed=2, iterations=300):
        if recall(network, valid) >= 0.98:
            break
    assert recall(network, test) >= 0.95
    *_, truncated = train_to_copy(k_top=0, seed=2, iterations=300)
    assert recall(truncated, test) <= 0.45  # a guess is right once in three times
