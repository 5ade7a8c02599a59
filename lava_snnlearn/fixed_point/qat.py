"""Quantisation-aware training: a network whose forward is the chip's arithmetic, with gradients straight through its rounding.

    qat = snn.prepare_qat(network, weight_bits=4, calibration=data.train.x)
    snn.Trainer(qat, snn.methods.BPTT(), data, epochs=3, learning_rate=0.01).fit()
    chip = snn.quantize(qat)

The network is made from the stages and choices that :func:`~lava_snnlearn.fixed_point.quantize.quantize` makes its integers
from; these choices (scales, thresholds, exponents, the code of the data) stay as they are. In eval mode spikes, membranes and
the answer equal those of :func:`~lava_snnlearn.fixed_point.emulator.emulate` on the quantised network, bit for bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lava_snnlearn.checks import LimitError, instance_of, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS, DATA_MAX
from lava_snnlearn.fixed_point.inputs import HostMap, current_host
from lava_snnlearn.fixed_point.lowering import Link, Stage
from lava_snnlearn.fixed_point.plan import Plan, assemble, make_plan, population_of
from lava_snnlearn.fixed_point.qat_layers import (
    ChipLayer,
    ChipReadout,
    ChipSynapse,
    Graph,
    Grid,
    JoinedPopulation,
    Place,
    chip_grid,
    chip_neuron,
    host_grid,
    present,
)
from lava_snnlearn.methods.rate_engine import RateWalk
from lava_snnlearn.networks.network import Network, Simulation
from lava_snnlearn.networks.synapse import Shape
from lava_snnlearn.networks.walk import Walk, is_static
from lava_snnlearn.neurons.lif import NeuronState

FLOAT32_SUM = 1 << 21
"""Synaptic sums that can reach no more weight units than this are made in float32: with a bias, they stay exact to 1/8 unit."""


def prepare_qat(
    network: Network, *, weight_bits: int = 8, input: str | None = None, calibration: ArrayLike | None = None
) -> QATNetwork:
    """A copy of a trained network for fine-tuning at the precision of the chip.

    Args:
        network: trained; it is not changed. Norms (running statistics), standardisation and worth of spikes are folded into the
            weights that will be trained, so smaller learning rates than before are due. Trained thresholds are fixed now.
        weight_bits, input, calibration: as in :func:`~lava_snnlearn.fixed_point.quantize.quantize`, which gives the same
            integers for the untrained result as for ``network``.

    Returns:
        QATNetwork, to be trained with any method but the rate-based ones, and handed to ``quantize`` without further arguments.

    Raises:
        TypeError: no Network. ValueError: a network that is prepared already; recurrence or feedback beside shortcuts, or a
            readout that hears the data. Else as ``quantize``.
    """
    remedy = "prepare_qat takes a trained network of lava_snnlearn.networks, reasoning.prepare_reasoner_qat a GraphReasoner"
    instance_of("network", network, Network, remedy)
    if isinstance(network, QATNetwork):
        raise ValueError("this network is prepared already; prepare the one that it was made from to change its precision")
    plan = make_plan(network, weight_bits, input, calibration)
    assemble(plan)  # what cannot be put on a chip is refused now, not after the training
    like = network.readout.weight
    return QATNetwork(network, plan).to(like.device, like.dtype)


class QATNetwork(Network):
    """A network in the chip's arithmetic, with real-valued parameters behind it; made by :func:`prepare_qat`.

    A weight beyond the range of its bits, or a bias beyond its mantissa, takes part as the end of the range. In training mode
    the readout's answer is a plain sum, in eval mode that of a 24-bit accumulator. There is no dropout.

    The neurons run on the CPU, in integers, wherever the parameters lie.

    To load weights, or resume a run, prepare the same float network by the same arguments again.
    """

    def __init__(self, network: Network, plan: Plan) -> None:
        builder = _Builder(network, plan)
        layers, readout, feedback = builder.build()
        super().__init__(
            layers,
            readout,
            steps=network.steps,
            encoding=network.encoding,
            feedback=feedback,
            feedback_delay=network.feedback_delay,
        )
        self.plan, self.signal = plan, builder.signal

    @property
    def weight_bits(self) -> int:
        """Bits a weight."""
        return self.plan.weight_bits

    def encode(self, x: Tensor) -> Tensor:
        """As in Network, then as the chip is sent it, in real units: data rounded to 1/1024, payloads or spikes.

        Raises:
            LimitError: data that the host's code cannot hold. ValueError: spikes other than 0 and 1; and as in Network.
        """
        signal = super().encode(x)
        frames = signal[:1] if is_static(signal) else signal
        host = self.plan.entry.host
        values = frames.flatten(2).detach().cpu().numpy()
        if host.form == "current":
            coded: NDArray[Any] = np.rint(values.astype(np.float64) * (1 << DATA_FRACTION_BITS))
            remedy = f"Data must stay below {(DATA_MAX + 1) >> DATA_FRACTION_BITS}; rescale."
            within("input (in 1/1024)", coded, -DATA_MAX, DATA_MAX, remedy)
        else:
            coded = host.encode(values, len(values))
        sent = torch.from_numpy(coded * 2.0**self.signal).to(signal).view(frames.shape)
        return sent.expand(signal.shape)

    def respond(self, signal: Any, walk: Any) -> Any:
        """As in Network.

        Raises:
            ValueError: the walk of a rate-based method, which knows no integers.
        """
        if isinstance(walk, RateWalk):
            raise ValueError(
                "rate-based methods have no forward in integers; fine-tune a network of prepare_qat with BPTT, SLTT or OTTT"
            )
        return super().respond(signal, walk)

    def simulate(self, x: Tensor) -> Simulation:
        """As in Network: every state of the chip's neurons, in real units."""
        walk = _Recording(self, self.encode(x))
        outputs = torch.cat([walk.advance(1) for _ in range(self.steps)])
        states = [walk.states[population] for population in self.populations]
        return Simulation(outputs, [NeuronState(*map(torch.stack, zip(*state, strict=True))) for state in states])

    def deployed(self) -> FixedNetwork:
        """The present weights in integers; :func:`~lava_snnlearn.fixed_point.quantize.quantize` returns this."""
        entry = self.plan.entry
        maps = tuple(self._host_map(part) for part in entry.maps)
        stages = [self._stage(stage) for stage in entry.stages]
        host = current_host(maps, self.encoding) if maps else entry.host
        return assemble(replace(self.plan, entry=replace(entry, host=host, stages=stages, maps=maps)))

    def refuse_other_choices(self, weight_bits: int | None, input: str | None, calibration: ArrayLike | None) -> None:
        """Raise ValueError for arguments of ``quantize`` that contradict those of the preparation."""
        form = self.plan.entry.host.form
        if weight_bits not in (None, self.weight_bits) or input not in (None, form) or calibration is not None:
            raise ValueError(
                f"this network was prepared for {self.weight_bits} bits and input {form!r}, and its scales are fixed; call "
                "quantize without weight_bits, input and calibration, or prepare the original network anew"
            )

    def _stage(self, stage: Stage) -> Stage:
        holder = self.readout if stage.neuron is None else self._population(stage.name)
        links = tuple(replace(link, weight=self._weight(stage, link), delay=self._delay(stage, link)) for link in stage.links)
        neurons = holder.integers()
        return replace(stage, links=links, bias=neurons.included + neurons.missing)

    def _host_map(self, part: HostMap) -> HostMap:
        synapse = self._population(part.target).carrier
        bias = np.repeat(present(synapse.bias), len(part.bias) // len(synapse.bias))
        return replace(part, link=replace(part.link, weight=present(synapse.weight)), bias=bias)

    def _population(self, name: str) -> Any:
        return self.populations[[stage.name for stage in self.plan.entry.stages].index(name)]

    def _weight(self, stage: Stage, link: Link) -> NDArray[np.float64]:
        """The present weight of a link, per unit of what is sent."""
        if stage.neuron is None:
            sources = [other.source for other in stage.links]
            ends = np.cumsum([other.weight.shape[1] for other in stage.links])
            return np.split(present(self.readout.weight), ends[:-1], axis=1)[sources.index(link.source)]
        synapse = self._synapse(stage, link)
        if synapse is None:
            return present(self._population(stage.name).parametrizations.recurrent.original)
        return present(synapse.weight) * (2.0**self.signal if link.source == INPUT and not link.lag else 1.0)

    def _delay(self, stage: Stage, link: Link) -> NDArray[np.int64] | None:
        """The present delays of a link."""
        synapse = None if link.delays is None else self._synapse(stage, link)
        if synapse is None:
            return None
        steps: NDArray[np.int64] = synapse.delays.matrix().cpu().numpy()
        return steps

    def _synapse(self, stage: Stage, link: Link) -> Any:
        """The module that a link into a spiking population has become; None: the population's recurrent weight."""
        population = self._population(stage.name)
        if link.lag:
            own = population.recurrent is not None and link.source == stage.name
            return None if own else self.feedback
        if isinstance(population, JoinedPopulation):
            return next(synapse for synapse in population.synapses if synapse.reads == link.source)
        return population

    def extra_repr(self) -> str:
        return f"{self.weight_bits} bits a weight, input {self.plan.entry.host.form!r}"


class _Recording(Walk):
    """Keeps spikes, potentials and membranes of every step; to be advanced step by step."""

    def __init__(self, network: Network, signal: Tensor) -> None:
        super().__init__(network, signal)
        self.states: dict[nn.Module, list[NeuronState]] = {population: [] for population in network.populations}

    def _integrate(self, population: Any, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        now = current if steps is None else current.unsqueeze(0)
        before = self.membranes.get(population)
        spike = super()._integrate(population, now, threshold, None, False)
        charged = population.integers().charged(now, before, population.neuron.lam)
        self.states[population].append(NeuronState(spike[0], charged[0].to(spike.dtype), self.membranes[population]))
        return spike


@dataclass(frozen=True)
class _Source:
    """A link into a stage without lag, and whether the host computes it."""

    link: Link
    hosted: bool


class _Builder:
    """Turns the stages of a plan into modules: a chain of layers where each stage hears the one before, else a graph.

    ``signal``: data are sent in units of 2^signal.
    """

    def __init__(self, network: Network, plan: Plan) -> None:
        self.network, self.plan, self.entry = network, plan, plan.entry
        host = plan.entry.host
        # Near to the step of the payload, so that weights keep the size they had and learn as fast.
        steps = {"current": -DATA_FRACTION_BITS, "graded": round(math.log2(host.step or 1.0)), "spikes": 0}
        self.signal = steps[host.form]
        self.shapes: dict[str, Shape] = {INPUT: network.input_shape} | {s.name: s.shape for s in plan.entry.stages}
        self.maps = {part.target: part for part in plan.entry.maps}

    def build(self) -> tuple[list[nn.Module], ChipReadout, ChipSynapse | None]:
        """Layers, readout, feedback."""
        *body, last = self.entry.stages
        names = [INPUT, *(stage.name for stage in body)]
        heard = [[source.link.source for source in self._sources(stage)] for stage in self.entry.stages]
        if heard == [[name] for name in names]:
            readout = self._readout(last, self.shapes[names[-1]])
            return [self._layer(stage) for stage in body], readout, self._feedback(body[0])
        if any(link.lag for stage in body for link in stage.links) or INPUT in heard[-1]:
            raise ValueError(
                "prepare_qat takes recurrent layers and feedback in plain chains of layers only, and no readout that hears the "
                "data; this network has one of them beside shortcuts"
            )
        graph = Graph(self.network.input_shape, [self._joined(stage) for stage in body], tuple(heard[-1]))
        return [graph], self._readout(last, graph.shape), None

    def _sources(self, stage: Stage) -> list[_Source]:
        hosted = [_Source(self.maps[stage.name].link, True)] if stage.name in self.maps else []
        return hosted + [_Source(link, False) for link in stage.links if not link.lag]

    def _place(self, stage: Stage, by_channel: bool) -> tuple[Place, NDArray[np.float64]]:
        """The stage's neurons, and the bias to be trained: one a channel, or a neuron."""
        name = stage.name
        empty = replace(stage, bias=np.zeros(stage.size))
        population = population_of(empty, self.plan.scales[name], self.plan.exponents[name])
        bias = self.maps[name].bias if name in self.maps else stage.bias
        if not by_channel:
            return Place(population, name in self.maps), bias
        rows = bias.reshape(stage.shape[0], -1)
        if (rows == rows[:, :1]).all():
            return Place(population, name in self.maps), rows[:, 0]
        # The offset of graded payloads, which padding does not have: it differs near the edges.
        return Place(population, False, bias), np.zeros(len(rows))

    def _wide(self, stage: Stage) -> bool:
        """Whether the stage's synaptic sums need float64, whatever its weights become."""
        reach = sum(link.weight[0].size * (self.entry.largest if link.source == INPUT else 1) for link in stage.links)
        return -limits.WEIGHT_MIN * reach > FLOAT32_SUM

    def _grid(self, stage: Stage, place: Place, source: _Source, bias: bool) -> Grid:
        if source.hosted:
            part = self.maps[stage.name]
            return host_grid(part.scale, part.shift)
        signal = self.signal if source.link.source == INPUT else 0
        return chip_grid(place.population, self.plan.weight_bits, bias=bias, wide=self._wide(stage), signal=signal)

    def _options(self, link: Link) -> dict[str, Any]:
        """Options of a Synapse with the shape of a link's map."""
        source = self.shapes[link.source]
        if link.geometry is None:
            return {"source": source, "outputs": len(link.weight)}
        (stride, _), (padding, _) = np.broadcast_to(link.geometry.stride, 2), np.broadcast_to(link.geometry.padding, 2)
        kernel = link.weight.shape[2]
        options = {"kernel": kernel, "stride": int(stride), "padding": int(padding)}
        return {"source": source, "outputs": len(link.weight), **options}

    def _values(self, source: _Source) -> NDArray[np.float64]:
        """A link's weight per unit of the signal."""
        on_chip = source.link.source == INPUT and not source.hosted
        return source.link.weight * (2.0**-self.signal if on_chip else 1.0)

    def _layer(self, stage: Stage) -> ChipLayer:
        (source,) = self._sources(stage)
        place, bias = self._place(stage, source.link.geometry is not None)
        options = self._options(source.link)
        own = next((link for link in stage.links if link.lag and link.source == stage.name), None)
        if self.network.feedback is not None and not self._recurrent(stage):
            own = None
        assert stage.neuron is not None
        layer = ChipLayer(options.pop("source"), options.pop("outputs"), chip_neuron(stage.neuron, place.population), **options)
        layer.place = place
        layer.delays = copy.deepcopy(source.link.delays)
        layer.put_on_grid(self._values(source), bias, self._grid(stage, place, source, bias=True), stage.shape)
        if own is not None:
            if -limits.WEIGHT_MIN * stage.size > FLOAT32_SUM:
                most = FLOAT32_SUM // -limits.WEIGHT_MIN
                raise LimitError(
                    f"{stage.name} is recurrent and has {stage.size} neurons; prepare_qat takes at most {most} there"
                )
            grid = chip_grid(place.population, self.plan.weight_bits, bias=False, wide=False)
            layer.put_recurrent(own.weight, grid.weight)
        return layer

    def _recurrent(self, stage: Stage) -> bool:
        names = [other.name for other in self.entry.stages]
        return self.network.populations[names.index(stage.name)].recurrent is not None

    def _feedback(self, first: Stage) -> ChipSynapse | None:
        if self.network.feedback is None:
            return None
        link = next(link for link in first.links if link.lag and not (link.source == first.name and self._recurrent(first)))
        return self._synapse(first, self._place(first, False)[0], _Source(link, False), None)

    def _synapse(self, stage: Stage, place: Place, source: _Source, bias: NDArray[np.float64] | None) -> ChipSynapse:
        synapse = ChipSynapse(**self._options(source.link))
        synapse.reads = source.link.source
        synapse.delays = copy.deepcopy(source.link.delays)
        grid = self._grid(stage, place, source, bias=bias is not None)
        synapse.put_on_grid(self._values(source), np.zeros(0) if bias is None else bias, grid, stage.shape)
        return synapse

    def _joined(self, stage: Stage) -> JoinedPopulation:
        sources = self._sources(stage)
        place, bias = self._place(stage, sources[0].link.geometry is not None)
        biases: Sequence[NDArray[np.float64] | None] = [bias, *[None] * (len(sources) - 1)]
        synapses = [self._synapse(stage, place, source, b) for source, b in zip(sources, biases, strict=True)]
        assert stage.neuron is not None
        population = JoinedPopulation(stage.name, stage.shape, chip_neuron(stage.neuron, place.population), synapses)
        population.place = place
        return population

    def _readout(self, stage: Stage, source: Shape) -> ChipReadout:
        place, bias = self._place(stage, by_channel=False)
        weight = np.concatenate([link.weight for link in stage.links], axis=1)
        readout = ChipReadout(source, stage.size, leak=stage.leak)
        readout.place = place
        grid = chip_grid(place.population, self.plan.weight_bits, bias=True, wide=self._wide(stage))
        readout.put_on_grid(weight, bias, grid, stage.shape)
        return readout
