"""From the stages of a NIR graph to a torch network, or straight to integers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork, HostInput, Population
from lava_snnlearn.fixed_point.inputs import Entry
from lava_snnlearn.fixed_point.lowering import Link, Stage
from lava_snnlearn.fixed_point.plan import Plan, assemble, bias_exponent
from lava_snnlearn.fixed_point.population import UNFILTERED
from lava_snnlearn.fixed_point.scales import exponent_below, readout_scale, spiking_scale
from lava_snnlearn.interchange.nir_pools import pooled_kernel
from lava_snnlearn.interchange.nir_stages import Found
from lava_snnlearn.networks.delays import DelaySettings
from lava_snnlearn.networks.layers import Readout, SpikingLayer
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Shape, Synapse
from lava_snnlearn.neurons.feedback import FeedbackLIF
from lava_snnlearn.neurons.lif import LIF


def torch_network(found: Found, steps: int, encoding: str) -> Network:
    """A chain of layers with these weights, with recurrent layers, and feedback from the last layer to the first.

    Raises:
        LimitError: another graph than such a chain, or neurons that torch networks do not have; the message names it.
    """
    if found.filters:
        name, share = next(iter(found.filters.items()))
        raise LimitError(
            f"{name}: the synaptic current is filtered (CubaLIF, {share:.4g} lost in a step), which the neurons of torch "
            "networks are not. Read the graph with fixed_from_nir, or set tau_syn to the step."
        )
    *body, last = found.stages
    shape, layers = found.input_shape, []
    feedback: Link | None = None
    for index, stage in enumerate(body):
        before = INPUT if index == 0 else body[index - 1].name
        forward, own, back = _sorted_links(stage, before, body[-1].name, first=index == 0)
        layers.append(_layer(stage, shape, forward, own))
        feedback = feedback if back is None else back
        shape = layers[-1].shape
    forward, _, _ = _sorted_links(last, body[-1].name, "", first=False)
    readout = Readout(shape, last.size, leak=last.leak)
    _put(readout.weight, forward.weight)
    _put(readout.bias, last.bias)
    synapse = None if feedback is None else _feedback(feedback, body[-1], layers[0])
    delay = 1 if feedback is None else feedback.lag
    return Network(layers, readout, steps=steps, encoding=encoding, feedback=synapse, feedback_delay=delay,
                   feedback_joins="behind_norm")  # fmt: skip


def _sorted_links(stage: Stage, before: str, last: str, first: bool) -> tuple[Link, Link | None, Link | None]:
    """The links into a layer: from the layer before, from itself one step late, and feedback from the last one."""
    forward = own = back = None
    for link in stage.links:
        if link.source == before and not link.lag:
            forward = link
        elif link.source == stage.name and link.lag == 1 and link.delay is None and link.geometry is None:
            own = link
        elif first and link.source == last and link.lag and link.delay is None:
            back = link
        else:
            late = f", {link.lag} step(s) late" if link.lag else ""
            raise LimitError(
                f"{stage.name} hears {link.source}{late}; torch networks are chains of layers, with recurrent dense layers and "
                "feedback from the last layer to the first. Read the graph with fixed_from_nir, which takes any."
            )
    if forward is None:
        raise LimitError(f"{stage.name} does not hear {before}, the population before it; torch networks are chains of layers")
    return forward, own, back


def _layer(stage: Stage, source: Shape, forward: Link, own: Link | None) -> SpikingLayer:
    options: dict[str, Any] = {"recurrent": own is not None}
    weight = forward.weight
    if forward.geometry is None:
        if len(stage.shape) > 1:
            raise LimitError(f"{stage.name} has the shape {stage.shape}, but hears a dense map; make it {(stage.size,)}")
        outputs = stage.size
        if forward.delay is not None:
            options["delays"] = _settings(forward.delay)
    else:
        if forward.delay is not None:
            raise LimitError(f"{stage.name}: a convolution has delays, which torch networks have in dense layers only")
        pool, weight, stride, padding = pooled_kernel(forward)
        outputs = len(weight)
        options |= {"kernel": weight.shape[2], "stride": stride, "padding": padding, "pool": pool}
    inputs = source if forward.geometry is not None or len(source) > 1 else math.prod(source)
    layer = SpikingLayer(inputs, outputs, _with_start(stage), "none", first=True, **options)
    _put(layer.weight, weight)
    _put(layer.bias, _per_channel(stage))
    if own is not None:
        _put(layer.recurrent, own.weight)
    if layer.delays is not None:
        assert forward.delay is not None
        layer.delays.put(torch.from_numpy(forward.delay[0] if layer.delays.axonal else forward.delay))
    return layer


def _with_start(stage: Stage) -> LIF:
    """The neuron, as one of feedback networks where its membrane does not start at 0."""
    neuron = stage.neuron
    assert neuron is not None
    if not stage.start:
        return neuron
    if neuron.reset != "subtract" or not 0 < stage.start < stage.threshold:
        raise LimitError(
            f"{stage.name}: the membrane starts at {stage.start:g}; torch networks have starts between 0 and the threshold "
            f"({stage.threshold:g}), with reset by subtraction. Read the graph with fixed_from_nir."
        )
    return FeedbackLIF(leak=neuron.leak, threshold=stage.threshold, firing=1 - stage.start / stage.threshold)


def _per_channel(stage: Stage) -> NDArray[np.float64]:
    """Bias of a layer; of maps one a channel."""
    own = stage.neuron.leak * stage.start if stage.neuron is not None else 0.0  # neurons with a start add this themselves
    rows = (stage.bias - own).reshape(stage.shape[0], -1)
    if np.ptp(rows, axis=1).any():
        raise LimitError(f"{stage.name}: the bias differs within a channel; layers of torch networks have one a channel")
    return rows[:, 0]


def _settings(delay: NDArray[np.int64]) -> DelaySettings:
    longest = int(delay.max())
    if longest > limits.DELAY_MAX:
        raise LimitError(f"a delay of {longest} steps; Loihi's delay field holds 0..{limits.DELAY_MAX}")
    return DelaySettings("axonal" if (delay == delay[0]).all() else "synaptic", longest)


def _feedback(link: Link, source: Stage, target: SpikingLayer) -> Synapse:
    options: dict[str, Any] = {}
    weight = link.weight
    if link.geometry is not None:
        pool, weight, stride, padding = pooled_kernel(link)
        options = {"kernel": weight.shape[2], "stride": stride, "padding": padding, "pool": pool}
    elif len(target.shape) > 1:
        raise LimitError("feedback to maps must be a convolution; this one is dense")
    synapse = Synapse(source.shape, len(weight), bias=False, **options)
    _put(synapse.weight, weight)
    return synapse


@torch.no_grad()
def _put(parameter: nn.Parameter | None, values: NDArray[np.float64]) -> None:
    assert parameter is not None
    parameter.copy_(torch.from_numpy(np.array(values, dtype=np.float64)))


# Integers.


def fixed_network(found: Found, steps: int, encoding: str, weight_bits: int) -> FixedNetwork:
    """The graph in integers, for binary spikes as input.

    Raises:
        LimitError: what the chip cannot hold.
    """
    stages = found.stages
    host = HostInput("spikes", math.prod(found.input_shape), encoding=encoding)
    scales = {stage.name: _scale(stage, found.filters.get(stage.name, 1.0), steps, weight_bits) for stage in stages}
    exponents = {stage.name: bias_exponent(stage, scales[stage.name]) for stage in stages}
    # Assembled with reset by subtraction, whose populations may start when they like; the rest is put in place below.
    soft = [_soft(stage) for stage in stages]
    network = assemble(Plan(Entry(host, soft, {}), weight_bits, steps, scales, exponents))
    hard = {stage.name: stage for stage in stages if stage.neuron is not None and stage.neuron.reset == "zero"}
    populations = [
        _stock(part, hard[part.name].threshold, found.filters.get(part.name)) if part.name in hard else part
        for part in network.populations
    ]
    try:
        return replace(network, populations=tuple(populations))
    except ValueError:
        if not hard:
            raise
        # Stock LIFs that cannot wait silently until a sample reaches them.
        populations = [replace(part, t_start=0) for part in populations]
        early = ", ".join(stage.name for stage in stages if stage.bias.any())
        note = f"running: all populations are active from step 0 on; biases that act early: {early}"
        return replace(network, populations=tuple(populations), notes=(*network.notes, note))


def _soft(stage: Stage) -> Stage:
    return stage if stage.neuron is None else replace(stage, neuron=replace(stage.neuron, reset="subtract"))


def _stock(part: Population, threshold: float, share: float | None) -> Population:
    """The population as Lava's stock LIF; ``threshold``: in real units; ``share``: what its current loses in a step."""
    # Without leak and filter all potentials are whole weight units: those at a threshold or above are those above the last
    # whole one below it.
    whole = part.dv == 0 and share is None
    vth = math.ceil(threshold * 2.0**part.scale_bits) - 1 if whole else part.vth
    filtered = UNFILTERED if share is None else round(DECAY_ONE * share) - 1
    return replace(part, kind="lif", vth=vth, delta=None, du=filtered)


def _scale(stage: Stage, share: float, steps: int, weight_bits: int) -> int:
    if stage.neuron is None:
        return readout_scale(stage, weight_bits, steps, None)
    scale = spiking_scale(stage, weight_bits, 1)
    if share < 1:
        # A filtered current adds up over time; Loihi's register wraps.
        largest = sum(np.abs(link.weight).reshape(len(link.weight), -1).sum(1).max() for link in stage.links)
        scale = min(scale, exponent_below(MEMBRANE_MAX / MEMBRANE_UNIT, float(largest) * min(steps, 1 / share)))
    return scale
