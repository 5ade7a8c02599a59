"""Two tasks of permuted digits: forgotten without a projection, kept with HLOP and GPM, and the new one learnt all the same."""

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.continual import ContinualTrainer
from lava_snnlearn.methods import GPM, HLOP, OTTT
from lava_snnlearn.methods.projection import run_projected, synapses_of

SEEDS = (0, 1, 2)
METHODS = {"sequential": OTTT(), "hlop": HLOP(OTTT(), first=[20, 40, 30], increment=[14, 30, 20]), "gpm": GPM(OTTT())}


def two_tasks(method, seed):
    """Network and results; 64-128-128-10, LIF with leak 0.5, T = 6."""
    torch.manual_seed(seed)
    network = snn.networks.mlp([64, 128, 128, 10], norm="none", steps=6)
    tasks = snn.data.permuted(snn.data.load("digits"), 2, seed=seed)
    options = {"batch_size": 32, "learning_rate": 0.1, "progress": False}
    changes = Changes(method, network, torch.from_numpy(tasks.tasks[0].train.x[:300]))
    results = ContinualTrainer(network, changes, tasks, epochs=6, seed=seed, **options).fit()
    return results, changes


class Changes:
    """The method; it also notes weights and the old task's activity when the second task begins."""

    def __init__(self, method, network, x):
        self.method, self.network, self.x = method, network, x

    def __getattr__(self, name):
        return getattr(self.method, name)

    def __repr__(self):
        return repr(self.method)

    def begin_task(self, network, task):
        if hasattr(self.method, "begin_task"):
            self.method.begin_task(network, task)
        if task == 1:
            self.before = {name: synapse.weight.detach().clone() for name, synapse in synapses_of(network).items()}
            labels = torch.zeros(len(self.x), dtype=torch.int64)
            self.activity = run_projected(HLOP(OTTT()), network, self.x, labels, learning=list(self.before))[1]
            network.zero_grad()

    def end_task(self, network, x):
        if hasattr(self.method, "end_task"):
            self.method.end_task(network, x)

    def touched(self):
        """H5: mean of |dW x| / (|dW| |x|) over the old task's activity, of each synapse."""
        found = []
        for name, x in self.activity.items():
            change = self.network.get_parameter(f"{name}.weight").detach() - self.before[name]
            norms = torch.linalg.matrix_norm(change, 2) * x.norm(dim=1)
            some = norms > 0
            found.append(float(((x @ change.t()).norm(dim=1)[some] / norms[some]).mean()))
        return found


@pytest.fixture(scope="module")
def runs():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {name: [two_tasks(method, seed) for seed in SEEDS] for name, method in METHODS.items()}
    torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_old_tasks_are_kept_and_new_ones_learnt(runs, seed):
    """H7."""
    sequential, hlop, gpm = (runs[name][seed][0] for name in METHODS)
    assert sequential.bwt <= -0.20
    assert hlop.bwt >= -0.03
    assert gpm.bwt >= -0.03
    for results in (hlop, gpm):
        assert results.new_task[0] == sequential.new_task[0] >= 0.94  # the first task is the base method's
        assert results.new_task[1] >= sequential.new_task[1] - 0.04


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_change_in_directions_that_old_activity_does_not_have(runs, seed):
    """H5."""
    with_it, without = (runs[name][seed][1].touched() for name in ("hlop", "sequential"))
    assert max(with_it) < 0.1
    assert np.mean(without) > 0.3
    assert all(kept < 0.5 * lost for kept, lost in zip(with_it, without, strict=True))
