"""IDE as a method: report of its solver, bounds kept in training, memory, resumed runs, settings."""

from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import Dataset, Split
from lava_snnlearn.methods import IDE, SPIDE, get
from lava_snnlearn.networks import feedback_net, mlp
from lava_snnlearn.neurons import FeedbackLIF
from lava_snnlearn.training import Trainer

BOTH = [IDE(), SPIDE(steps_backward=20)]


def clouds(samples=40):
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((3, 6))

    def split(count):
        y = np.arange(count) % 3
        return Split((centres[y] + rng.standard_normal((count, 6))).astype(np.float32), y.astype(np.int64))

    return Dataset("clouds", split(samples), split(12), split(12), classes=3)


def make_trainer(method, folder=None, *, seed=0, layers=(12,), **options):
    torch.manual_seed(seed)
    network = feedback_net(6, layers, 3, method.preset.neuron, steps=8, dropout=0.2)
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 0.1, "progress": False} | options
    return Trainer(network, method, clouds(), run_dir=folder, **settings)


def batch_of(network, count=6):
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(count, network.inputs, generator=generator, dtype=torch.float64), torch.arange(count) % 3


def gradients(method, network, x, y):
    network.zero_grad()
    result = method.gradients(network, x, y)
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()]), result


# The solver


def test_the_report_says_how_the_solver_ended():
    torch.manual_seed(0)
    network = feedback_net(6, (30,), 3).double()
    x, y = batch_of(network)
    exact, _ = gradients(IDE(tolerance=1e-14, solver_steps=500), network, x, y)
    one, found = gradients(IDE(solver_steps=1), network, x, y)
    assert found.diagnostics["not_converged"] == 1
    assert found.diagnostics["solver_steps"] == 1
    assert found.diagnostics["solver_residual"] > 1e-3
    many, found = gradients(IDE(), network, x, y)
    assert found.diagnostics["not_converged"] == 0
    assert 1 < found.diagnostics["solver_steps"] < 60
    assert found.diagnostics["solver_residual"] <= 1e-6
    assert (many - exact).norm() < 1e-5 * exact.norm() < 1e-2 * (one - exact).norm()


def test_the_tolerance_is_relative_to_the_largest_gradient():
    """A thousandth of the loss: the same number of steps, and gradients a thousandth as large."""
    torch.manual_seed(0)
    network = feedback_net(6, (30,), 3).double()
    x, y = batch_of(network)
    losses = [lambda o, t, s=scale: s * torch.nn.functional.cross_entropy(o, t) for scale in (1.0, 1e-3)]
    (large, first), (small, second) = (gradients(IDE(loss=loss), network, x, y) for loss in losses)
    assert first.diagnostics["solver_steps"] == second.diagnostics["solver_steps"]
    torch.testing.assert_close(small, 1e-3 * large)


@pytest.mark.parametrize(
    "layers, limit, damped",
    [((12,), 1.0, False), ((12,), 1.9, False), ((12,), 1.95, True), ((12,), None, True), ((12, 12), 1.0, True)],
)
def test_updates_are_damped_unless_the_bound_makes_each_a_contraction(layers, limit, damped):
    torch.manual_seed(0)
    network = feedback_net(6, layers, 3).double()
    x, y = batch_of(network)
    method = IDE(norm_limit=limit, solver_steps=5)
    expected, _ = gradients(dataclasses.replace(method, damping=0.5 if damped else 1.0), network, x, y)
    other, _ = gradients(dataclasses.replace(method, damping=1.0 if damped else 0.5), network, x, y)
    found, _ = gradients(method, network, x, y)
    assert torch.equal(found, expected)
    assert not torch.equal(found, other)


def test_convolutions_are_damped():
    network = feedback_net((1, 5, 5), "3C3", 3).double()
    x, y = batch_of(network)
    expected, _ = gradients(IDE(damping=0.5), network, x, y)
    assert torch.equal(gradients(IDE(), network, x, y)[0], expected)


def test_a_vanishing_gradient_is_no_failure():
    network = feedback_net(6, (12,), 3).double()
    with torch.no_grad():
        network.readout.weight.zero_()
    found, result = gradients(IDE(), network, *batch_of(network))
    assert result.diagnostics["not_converged"] == 0
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("method", [IDE(), SPIDE()], ids=["ide", "spide"])
def test_a_loss_that_is_not_finite_is_told_as_such(method):
    """So that a Trainer says it diverged, not that a solver's scale is wrong."""
    network = feedback_net(6, (12,), 3).double()
    with torch.no_grad():
        network.readout.weight[0, 0] = math.inf
    _, result = gradients(method, network, *batch_of(network))
    assert not math.isfinite(result.loss)
    assert result.diagnostics.get("not_converged", 1.0) == 1.0


# Both methods in training


@pytest.mark.parametrize("method", BOTH, ids=["ide", "spide"])
@pytest.mark.parametrize("layers", [(12,), (12, 10)])
def test_a_batch_is_the_mean_of_its_parts(method, layers):
    """What several processes add up."""
    torch.manual_seed(0)
    network = feedback_net(6, layers, 3, method.preset.neuron).double()
    method = dataclasses.replace(method, tolerance=1e-14, solver_steps=500) if isinstance(method, IDE) else method
    x, y = batch_of(network, 7)
    whole, result = gradients(method, network, x, y)
    (first, a), (second, b) = (gradients(method, network, x[part], y[part]) for part in (slice(3), slice(3, 7)))
    torch.testing.assert_close(whole, (3 * first + 4 * second) / 7, rtol=1e-9, atol=1e-12)
    assert result.loss == pytest.approx((3 * a.loss + 4 * b.loss) / 7, rel=1e-12)
    torch.testing.assert_close(result.outputs, torch.cat([a.outputs, b.outputs]), rtol=1e-12, atol=1e-12)


class Watched:
    """The method, noting the norm of the feedback at each batch."""

    def __init__(self, method):
        self._method, self.norms = method, []

    def __getattr__(self, name):
        return getattr(self._method, name)

    def gradients(self, network, x, y, on_step=None):
        weight = network.feedback.weight.detach().numpy()
        self.norms.append((np.linalg.norm(weight, 2), np.linalg.norm(weight)))
        return self._method.gradients(network, x, y, on_step)


@pytest.mark.parametrize("kind, which", [("spectral", 0), ("frobenius", 1)])
@pytest.mark.parametrize("method", BOTH, ids=["ide", "spide"])
def test_the_bound_holds_from_the_first_batch_to_the_end(method, kind, which):
    limit = (0.8, 1.6)[which]
    watched = Watched(dataclasses.replace(method, norm_limit=limit, norm_kind=kind))
    trainer = make_trainer(watched, learning_rate=0.5)
    start = np.linalg.norm(trainer.network.feedback.weight.detach().numpy(), (2, "fro")[which])
    assert start > 1.2 * limit
    trainer.fit()
    weight = trainer.network.feedback.weight.detach().numpy()
    norms = [*(row[which] for row in watched.norms), np.linalg.norm(weight, (2, "fro")[which])]
    assert len(norms) == 10
    assert max(norms) <= limit * (1 + 1e-6)
    assert norms[0] == pytest.approx(limit)


@pytest.mark.parametrize("method", BOTH, ids=["ide", "spide"])
def test_without_a_bound_the_norm_is_free(method):
    watched = Watched(dataclasses.replace(method, norm_limit=None))
    trainer = make_trainer(watched, epochs=1)
    start = np.linalg.norm(trainer.network.feedback.weight.detach().numpy(), 2)
    trainer.fit()
    assert watched.norms[0][0] == pytest.approx(start)
    assert start > 1


class Interruption(Exception):
    pass


class Interrupted(Watched):
    def gradients(self, network, x, y, on_step=None):
        if len(self.norms) == 4:
            raise Interruption
        return super().gradients(network, x, y, on_step)

    def __repr__(self):
        return repr(self._method)


def table(folder):
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("method", BOTH, ids=["ide", "spide"])
def test_a_resumed_run_has_the_same_bits_and_the_same_table(method, tmp_path):
    whole = make_trainer(method, tmp_path / "whole")
    whole.fit()
    with pytest.raises(Interruption):
        make_trainer(Interrupted(method), tmp_path / "broken", checkpoint_batches=1).fit()
    resumed = make_trainer(method, tmp_path / "broken", seed=1, checkpoint_batches=1)
    resumed.resume()
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.network.state_dict().items())
    rows = table(tmp_path / "broken")
    assert rows == table(tmp_path / "whole")
    columns = {
        "ide": {"solver_steps", "solver_residual", "not_converged"},
        "spide": {"saturated", "dead_zone", "median_count"},
    }[method.name]
    assert len(rows) == 3
    assert columns < set(rows[0])
    assert all(math.isfinite(float(row[name])) for row in rows for name in columns)


def test_the_table_has_the_share_of_batches_that_did_not_converge():
    history = make_trainer(IDE(solver_steps=1), epochs=1).fit()
    assert history.epochs[0].diagnostics["not_converged"] == 1
    assert history.epochs[0].diagnostics["solver_steps"] == pytest.approx(1)


def kept_for_backward(method, steps, layers):
    """Bytes of all tensors that one call keeps for its backward passes."""
    torch.manual_seed(0)
    network = feedback_net(6, layers, 3, method.preset.neuron, steps=steps)
    x, y = torch.randn(steps, 4, 6), torch.arange(4) % 3
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method.gradients(network, x, y)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("method", BOTH, ids=["ide", "spide"])
@pytest.mark.parametrize("layers", [(20,), (20, 20)])
def test_memory_does_not_depend_on_the_steps(method, layers):
    found = {kept_for_backward(method, steps, layers) for steps in (4, 64, 512)}
    assert len(found) == 1
    assert found.pop() > 4 * 4 * 20


@pytest.mark.parametrize("timing", ["instant", "pipelined"])
@pytest.mark.parametrize("method", BOTH, ids=["ide", "spide"])
def test_outputs_and_spike_rate_are_those_of_the_networks_own_forward(method, timing):
    torch.manual_seed(0)
    network = feedback_net(6, (12, 10), 3, dataclasses.replace(method.preset.neuron, leak=0.1), timing=timing).double().eval()
    x, y = batch_of(network)
    result = method.gradients(network, x, y)
    with torch.no_grad():
        found = network.simulate(x)
    torch.testing.assert_close(result.outputs, network.readout.collect(found.outputs), rtol=1e-12, atol=1e-12)
    spikes = sum(float(state.spike.sum()) for state in found.layers)
    assert result.spike_rate == pytest.approx(spikes / (30 * 6 * 22), rel=1e-12)


# Settings


def test_presets_are_the_published_ones():
    ide, spide = IDE().preset, SPIDE().preset
    assert (ide.neuron, spide.neuron) == (FeedbackLIF(), FeedbackLIF(firing=0.5))
    assert (ide.neuron.threshold, spide.neuron.threshold) == (2.0, 2.0)
    assert ide.feedback
    assert spide.feedback
    assert (ide.norm, ide.steps, ide.learning_rate) == (spide.norm, spide.steps, spide.learning_rate) == ("none", 30, 0.1)
    assert (IDE().mask, SPIDE().mask) == ("preact", "rate")


def test_they_are_found_by_name():
    assert get("ide", solver_steps=5) == IDE(solver_steps=5)
    assert get("spide", gain=2.0) == SPIDE(gain=2.0)
    assert snn.methods.METHODS["ide"] is IDE


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: IDE(mask="pre"), UnknownNameError, "unknown mask 'pre'.*preact"),
        (lambda: IDE(norm_kind="spectra"), UnknownNameError, "Did you mean 'spectral'"),
        (lambda: IDE(norm_limit=0.0), ValueError, "norm_limit is 0.0.*None for no limit"),
        (lambda: IDE(norm_limit="1"), TypeError, "norm_limit"),
        (lambda: IDE(norm_limit=math.nan), ValueError, "norm_limit is nan"),
        (lambda: IDE(solver_steps=0), ValueError, "solver_steps is 0"),
        (lambda: IDE(solver_steps=2.5), TypeError, "solver_steps is 2.5"),
        (lambda: IDE(tolerance=0.0), ValueError, "tolerance is 0.0"),
        (lambda: IDE(damping=0.0), ValueError, "damping is 0.0"),
        (lambda: IDE(damping=1.5), ValueError, "damping is 1.5"),
        (lambda: IDE(damping=True), TypeError, "damping"),
        (lambda: IDE(loss="ce"), TypeError, "loss"),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_network_without_feedback_has_no_bound_to_keep():
    network = mlp([6, 5, 3], FeedbackLIF(), norm="none")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    IDE().constrain(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
