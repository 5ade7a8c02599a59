"""Round trips with snnTorch and norse: equal spike trains over whole sequences, both ways."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import nir
import norse.torch
import pytest
import snntorch
import torch
from norse.torch.functional.iaf import IAFFeedForwardState
from norse.torch.functional.lif_box import LIFBoxParameters
from norse.torch.module.iaf import IAFCell
from snntorch.export_nir import export_to_nir
from snntorch.import_nir import import_from_nir
from torch import nn

import lava_snnlearn as snn
from lava_snnlearn.interchange import from_nir, to_nir

STEPS, DT = 40, 1e-4


pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.*deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """snnTorch prints while it converts."""
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


def _spikes(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return (torch.rand(STEPS, 1, *shape, generator=generator) < 0.4).float()


def _ours(neuron: Any, **options: Any) -> Any:
    torch.manual_seed(2)
    network = snn.networks.mlp([12, 20, 16, 5], neuron, norm="none", steps=STEPS, **options).eval()
    with torch.no_grad():
        network.readout.weight.normal_()
        for layer in network.spiking_layers:
            layer.bias.normal_(std=0.1)
    return network


def _through_time(step: Callable[..., Any], x: torch.Tensor) -> torch.Tensor:
    """A foreign network (frame, state) -> (output, state), step by step; outputs [T, 1, n]."""
    outputs, state = [], None
    with torch.no_grad():
        for frame in x:
            output, state = step(frame, state)
            outputs.append(output.reshape(1, -1))
    return torch.stack(outputs)


def _busy(network: Any, x: torch.Tensor) -> None:
    for layer in network.simulate(x).layers:
        assert 0.02 < float(layer.spike.mean()) < 0.8


@pytest.mark.parametrize("leak", [0.25, 0.3])
@pytest.mark.parametrize("recurrent", [False, True])
def test_ours_in_snntorch(tmp_path: Any, leak: float, recurrent: bool) -> None:
    network = _ours(snn.neurons.LIF(leak=leak, threshold=0.8, reset="zero"), recurrent=recurrent)
    x = _spikes(12)
    _busy(network, x)
    to_nir(network, tmp_path / "net.nir")
    theirs = import_from_nir(nir.read(tmp_path / "net.nir"))
    found = _through_time(theirs, x)
    assert float((found - network(x)).abs().max()) < 1e-5
    assert found.abs().max() > 1


def test_our_maps_in_snntorch(tmp_path: Any) -> None:
    torch.manual_seed(2)
    network = snn.networks.conv_net(
        (2, 8, 8), "4C3-P2-6C3s2-12", 5, snn.neurons.LIF(leak=0.25, reset="zero"), norm="none", steps=STEPS
    ).eval()
    with torch.no_grad():
        network.readout.weight.normal_()
    x = _spikes(2, 8, 8) * 2
    _busy(network, x.flatten(2))
    to_nir(network, tmp_path / "net.nir")
    found = _through_time(import_from_nir(nir.read(tmp_path / "net.nir")), x)
    assert float((found - network(x.flatten(2))).abs().max()) < 1e-5


@pytest.mark.parametrize("leak", [0.0, 0.25, 0.3])
def test_ours_in_norse(tmp_path: Any, leak: float) -> None:
    network = _ours(snn.neurons.LIF(leak=leak, threshold=0.8, reset="zero"))
    x = _spikes(12)
    _busy(network, x)
    to_nir(network, tmp_path / "net.nir")
    theirs = norse.torch.from_nir(nir.read(tmp_path / "net.nir"), dt=DT)
    found = _through_time(theirs, x)
    assert float((found - network(x)).abs().max()) < 1e-5
    assert found.abs().max() > 1


def _leaky(size: int, beta: float) -> Any:
    return snntorch.Leaky(
        beta=torch.full((size,), beta),
        threshold=torch.full((size,), 0.7),
        init_hidden=True,
        reset_mechanism="zero",
        reset_delay=False,
    )


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 5)
        options = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
        self.loop = snntorch.RLeaky(beta=torch.full((16,), 0.7), threshold=0.7, linear_features=16, **options)
        self.last = _leaky(5, 0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.loop(self.first(x))))


def _from_snntorch(network: nn.Module, x: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """The graph that snnTorch writes, and its spikes from rest."""
    graph = export_to_nir(network, x[0], ignore_dims=[0])
    for module in network.modules():
        if isinstance(module, snntorch.RLeaky):
            module.spk, module.mem = module.reset_mem()
        elif isinstance(module, snntorch.Leaky):
            module.reset_mem()
    return graph, _through_time(lambda frame, _: (network(frame), None), x)


@pytest.mark.parametrize("kind", ["dense", "recurrent"])
def test_snntorch_in_ours(tmp_path: Any, kind: str) -> None:
    torch.manual_seed(4)
    chain = nn.Sequential(nn.Linear(12, 16), _leaky(16, 0.7), nn.Linear(16, 5), _leaky(5, 0.9))
    network = chain if kind == "dense" else _Recurrent()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(3)
                module.bias.add_(0.3)
    x = _spikes(12)
    graph, expected = _from_snntorch(network, x)
    nir.write(tmp_path / "net.nir", graph)
    ours = from_nir(tmp_path / "net.nir", steps=STEPS)
    assert (ours.layers[0].recurrent is not None) == (kind == "recurrent")
    _busy(ours, x)
    assert torch.equal(ours(x), expected)


def _norse_cell(kind: str, dt: float) -> Any:
    if kind == "IF":
        return IAFCell(dt=dt)
    return norse.torch.LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.as_tensor(0.2 / dt), v_th=torch.as_tensor(0.3)), dt=dt)


@pytest.mark.parametrize("kind", ["IF", "LIF"])
@pytest.mark.parametrize("dt", [1e-3, 1e-4])
def test_norse_in_ours(tmp_path: Any, kind: str, dt: float) -> None:
    torch.manual_seed(1)
    network = norse.torch.SequentialState(
        nn.Linear(12, 16), _norse_cell(kind, dt), nn.Linear(16, 5), _norse_cell(kind, dt), nn.Linear(5, 3)
    )
    with torch.no_grad():
        for index in (0, 2):
            network[index].weight.mul_(3)
    x = _spikes(12)
    expected = _through_time(network, x)
    # norse writes dt / (1 / tau): the time constant itself for dt = 1.
    nir.write(tmp_path / "net.nir", norse.torch.to_nir(network, x[0], dt=1.0), compression=None)
    ours = from_nir(tmp_path / "net.nir", steps=STEPS, dt=dt)
    _busy(ours, x)
    assert float((ours(x) - expected).abs().max()) < 1e-5


def test_a_norse_integrator_is_a_readout_that_forgets() -> None:
    torch.manual_seed(1)
    network = norse.torch.SequentialState(
        nn.Linear(12, 16), _norse_cell("LIF", DT), nn.Linear(16, 5), norse.torch.LIBoxCell(dt=DT)
    )
    x = _spikes(12) * 3
    expected = _through_time(network, x)
    ours = from_nir(norse.torch.to_nir(network, x[0], dt=1.0), steps=STEPS, dt=DT)
    _busy(ours, x)
    assert torch.allclose(ours.answer(x), expected[-1], atol=1e-5)
    # And back (norse writes integrators, but does not read them): the same numbers.
    again = to_nir(ours).nodes
    assert torch.allclose(torch.from_numpy(again["layer1_to_readout"].weight), network[2].weight, atol=1e-6)
    assert torch.allclose(torch.from_numpy(again["readout"].tau), torch.full((5,), 0.01, dtype=torch.float64))
    assert (again["readout"].r == 1).all()


def test_norse_counts_an_if_by_the_step() -> None:
    """The convention that IF nodes are read by: no dt, whatever it is."""
    cell = IAFCell(dt=0.5)
    _, state = cell(torch.tensor([0.25]), IAFFeedForwardState(v=torch.zeros(1)))
    assert state.v.item() == 0.25
