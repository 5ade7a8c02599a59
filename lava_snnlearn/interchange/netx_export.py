"""FixedNetwork -> netx layers, and what netx cannot say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_SHIFT, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS
from lava_snnlearn.fixed_point.validate import waking_neuron
from lava_snnlearn.interchange.netx_weights import effective, kept_by_netx


@dataclass(frozen=True)
class Loss:
    """Something that a netx file cannot hold. ``fatal``: without it the network would spike otherwise."""

    text: str
    fatal: bool = True


@dataclass(frozen=True)
class NetxRun:
    """How ``lava.lib.dl.netx.hdf5.Network`` runs an exported file in the steps of the emulator.

    Args:
        reset_interval: steps from the start of one sample to the next; None: no resets.
        reset_offset: for netx, see ``arguments``.
        input_message_bits: 0: binary spikes, 8: graded ones.
        first_output: step of a sample, from 0, in which the output population is in its first active step.
        one_by_one: every sample has to be a run of its own: nothing is reset, or recurrence or delays would carry spikes of
            one sample into the next.
    """

    reset_interval: int | None
    reset_offset: int
    input_message_bits: int
    first_output: int
    one_by_one: bool

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments: ``Network("net.net", **run.arguments)``."""
        reset = (
            {}
            if self.reset_interval is None
            else {
                "reset_interval": self.reset_interval,
                "reset_offset": self.reset_offset,
            }
        )
        return reset | {"input_message_bits": self.input_message_bits}


@dataclass(frozen=True)
class _Place:
    """A population in the chain, and what it hears: from the one before it (None: an input current), and from itself."""

    population: Population
    feed: Connection | None
    recurrent: Connection | None


def losses(network: FixedNetwork) -> list[Loss]:
    """All that a netx file cannot say of this network."""
    chain, found = _chain(network)
    found += _host_losses(network)
    if chain is None:
        return found
    for place, before in zip(chain, [None, *chain[:-1]], strict=True):
        found += _population_losses(network, place)
        found += _connection_losses(network, place, before)
    if not any(loss.fatal for loss in found):
        found += _time_losses(network, chain)
    return found


def run_of(network: FixedNetwork) -> NetxRun:
    """How to run a network that netx can express."""
    chain, _ = _chain(network)
    assert chain is not None
    starts = [place.population.t_start for place in chain]
    # Samples that run one by one need no reset between them, but layers that start late need the one at their start.
    resets = _step_by_step(starts) and (any(starts) or not network.one_by_one)
    bits = 8 if network.host.form == "graded" else 0
    apart = network.one_by_one or not resets
    return NetxRun(network.period if resets else None, starts[0] if resets else 0, bits, starts[-1], apart)


def with_whole_biases(network: FixedNetwork) -> FixedNetwork:
    """The network with biases rounded to whole weight units (64/64), as netx holds them; half a unit goes up.

    The result is another network, by up to half a weight unit of bias, which ``emulate`` and ``to_netx`` take as it is.

    Raises:
        LimitError: a bias beyond 4095 weight units.
    """
    populations = []
    for population in network.populations:
        if population.kind in ("lif", "accumulator"):
            whole = (population.bias + MEMBRANE_UNIT // 2) >> MEMBRANE_SHIFT
            population = replace(population, bias_mant=whole, bias_exp=MEMBRANE_SHIFT)
        populations.append(population)
    note = "biases rounded to whole weight units, as netx holds them"
    return replace(network, populations=tuple(populations), notes=(*network.notes, note))


def _chain(network: FixedNetwork) -> tuple[list[_Place] | None, list[Loss]]:
    """The populations in the order of the chain; None (and the reason) where they form no chain that ends at the output."""
    places: list[_Place] = []
    sender = INPUT
    if network.host.form == "current":
        if len(network.host.targets) > 1:
            return None, [Loss(f"input currents of several populations {network.host.targets}: netx has one input layer")]
        sender = network.host.targets[0]
        places.append(_Place(network.population(sender), None, _own(network, sender)))
    while True:
        heard = [c for c in network.connections if c.source == sender and c.target != sender]
        if not heard or len(places) > len(network.populations):
            break
        target = heard[0].target
        places.append(_Place(network.population(target), heard[0], _own(network, target)))
        sender = target
    used = sum((place.feed is not None) + (place.recurrent is not None) for place in places)
    names = [place.population.name for place in places]
    if used != len(network.connections) or len(set(names)) != len(network.populations):
        text = "connections that skip layers, lead back to an earlier layer, or are parallel: netx has chains of layers only"
        return None, [Loss(text)]
    if names[-1] != network.output:
        return None, [Loss(f"the output {network.output!r} is not the last layer {names[-1]!r}, whose spikes netx gives out")]
    return places, []


def _own(network: FixedNetwork, name: str) -> Connection | None:
    """The connection of a population with itself."""
    return next((c for c in network.connections if c.source == c.target == name), None)


def _host_losses(network: FixedNetwork) -> Iterator[Loss]:
    host = network.host
    remedy = "give netx the integers of network.encode(x)"
    if host.form == "current" and host.weight is not None and input_transform(network) is None:
        yield Loss(f"host weights, which make the input current of the data: {remedy}", fatal=False)
    if host.form == "graded" and host.step:
        yield Loss(f"range of the graded input, offset {host.offset:g} and step {host.step:g}: {remedy}", fatal=False)
    if host.form == "graded" and host.largest is not None:
        yield Loss(f"graded input up to +-{host.largest}: netx files are written for 8-bit payloads 0..255")
    if host.encoding != "direct":
        yield Loss(f"the {host.encoding} code of the input: {remedy}", fatal=False)


def input_transform(network: FixedNetwork) -> tuple[int, int] | None:
    """(factor, summand) with which the host makes currents of all data alike, as netx's input layer says it; or None."""
    host = network.host
    if host.form != "current" or host.weight is None or host.geometry is None or host.shift != DATA_FRACTION_BITS:
        return None
    weight, bias = np.asarray(host.weight), np.asarray(host.bias)
    channels = host.geometry.input_shape[0]
    same = host.geometry.groups == channels and weight.shape == (channels, 1, 1, 1)
    same &= all((axis.stride, axis.padding) == (1, 0) for axis in host.geometry.axes)
    summand, rest = divmod(int(bias.flat[0]), 1 << DATA_FRACTION_BITS)
    if not same or rest or (weight != weight.flat[0]).any() or (bias != bias.flat[0]).any():
        return None
    return int(weight.flat[0]), summand


def _population_losses(network: FixedNetwork, place: _Place) -> Iterator[Loss]:
    p, where = place.population, f"population {place.population.name!r}"
    if p.kind == "soft_reset_lif":
        yield Loss(f"{where}: reset by subtraction; netx's CUBA neurons reset to zero. Train with reset='zero'")
    elif p.kind == "accumulator":
        if p.name != network.output or p.v_init or place.recurrent is not None:
            yield Loss(f"{where}: an accumulator must be the last layer, and start at 0")
    elif p.kind != "lif":
        yield Loss(f"{where}: neurons of the kind {p.kind!r}")
    if p.running:
        yield Loss(f"{where}: an initial state, or resets at fixed times")
    if (p.bias % MEMBRANE_UNIT).any():
        yield Loss(f"{where}: biases in 1/64 weight unit; netx holds whole ones. See with_whole_biases (export --whole-biases)")
    if place.feed is None and p.bias.any():
        yield Loss(f"{where}: a bias beside its input current, which netx's input layer has not")


def _connection_losses(network: FixedNetwork, place: _Place, before: _Place | None) -> Iterator[Loss]:
    feed, own = place.feed, place.recurrent
    for connection in (feed, own):
        if connection is not None and effective(np.asarray(connection.weight), connection.exponent) is None:
            yield Loss(f"connection {connection.name}: the exponent {connection.exponent} rounds sums")
            return
    if own is not None and (feed is None or feed.geometry is not None or own.geometry is not None):
        yield Loss(f"connection {own.name}: netx has recurrence in dense layers only")
        return
    if own is not None and feed is not None and (own.max_delay or feed.max_delay):
        yield Loss(f"connections {feed.name}, {own.name}: delays in a recurrent layer, which netx does not run")
    if feed is None:
        return
    if feed.binary and network.largest_sent(feed.source) > 1:
        yield Loss(f"connection {feed.name}: graded input that counts as binary")
    yield from _matrix_losses(feed, own) if feed.geometry is None else _conv_losses(network, feed, before)


def _matrix_losses(feed: Connection, own: Connection | None) -> Iterator[Loss]:
    weight = _weights(feed)
    whole = weight if own is None else np.hstack((weight, _weights(own)))
    kept = kept_by_netx(whole)
    if kept is None or (kept != whole).any():
        reason = "all of them are 0" if not whole.any() else f"they reach from {whole.min()} to {whole.max()}"
        yield Loss(f"connection {feed.name}: weights that netx cannot load, or would clip ({reason})")


def _conv_losses(network: FixedNetwork, feed: Connection, before: _Place | None) -> Iterator[Loss]:
    assert feed.geometry is not None
    if before is not None and before.feed is not None and before.feed.geometry is None:
        yield Loss(f"connection {feed.name}: a convolution behind a dense layer")
    if feed.max_delay:
        yield Loss(f"connection {feed.name}: a delay, which netx drops without a word in convolutions")
    largest = feed.geometry.largest_number(np.shape(feed.weight))
    if largest > limits.CONV_GEOMETRY_MAX:
        yield Loss(f"connection {feed.name}: kernel, stride, padding, dilation or groups of {largest}, in Lava's Conv int8")
    weight = _weights(feed)
    if weight.min() < limits.WEIGHT_MIN or weight.max() > limits.UNSIGNED_WEIGHT_MAX:
        yield Loss(f"connection {feed.name}: weights from {weight.min()} to {weight.max()}, beyond 8 bits")
    if feed.bound(network.largest_sent(feed.source)) > limits.CONV_SUM_MAX:
        yield Loss(f"connection {feed.name}: sums beyond 24 bits, which Lava's Conv wraps")


def _time_losses(network: FixedNetwork, chain: list[_Place]) -> Iterator[Loss]:
    """netx resets layer after layer, one step each, or not at all; and nobody is silent until then where biases are large."""
    for population in (place.population for place in chain if network.one_by_one and place.population.kind == "lif"):
        neuron = waking_neuron(population, 0)
        if neuron is not None:
            yield Loss(
                f"population {population.name!r}: the bias of its neuron {neuron} alone makes it spike before a sample reaches "
                "it, and in a network with recurrent layers or mixed delays that spike is heard"
            )
    starts = [place.population.t_start for place in chain]
    still = not any(np.any(place.population.bias_mant) for place in chain)
    # Without any bias nothing happens before the first spike arrives, so that it is all the same when a layer starts.
    lagging = all(place.feed is None or place.population.t_start <= network.first_arrival(place.feed) for place in chain)
    if not _step_by_step(starts) and any(starts) and not (still and lagging):
        yield Loss(f"first active steps {starts}: netx starts every layer one step after the one before, or all in step 0")


def _step_by_step(starts: list[int]) -> bool:
    """Whether every layer starts one step after the one before, as netx resets them."""
    return starts == list(range(starts[0], starts[0] + len(starts)))


def _weights(connection: Connection) -> NDArray[np.int64]:
    weight = effective(np.asarray(connection.weight), connection.exponent)
    assert weight is not None
    return weight


def write(network: FixedNetwork, file: h5py.File) -> None:
    """Write a network without fatal losses."""
    chain, _ = _chain(network)
    assert chain is not None
    layers = file.create_group("layer")
    for index, entries in enumerate(_layers(network, chain)):
        _store(layers.create_group(str(index)), entries)
    _store(file.create_group("simulation"), {"Ts": 1, "tSample": network.steps})


def _store(group: h5py.Group, entries: Mapping[str, Any]) -> None:
    for key, value in entries.items():
        if isinstance(value, Mapping):
            _store(group.create_group(key), value)
        elif isinstance(value, str):
            group.create_dataset(key, (1,), "S10", [value.encode("ascii")])
        else:
            group.create_dataset(key, data=np.asarray(value))


def _layers(network: FixedNetwork, chain: list[_Place]) -> Iterator[dict[str, Any]]:
    first = chain[0]
    if first.feed is None:
        factor, summand = input_transform(network) or (1, 0)
        transform = {"weight": np.array([factor], np.float32), "bias": np.array([summand], np.float32)}
        shape = _image(chain) or (first.population.size,)
        yield {"type": "input", "shape": shape, **transform, "neuron": _neuron(first.population)}
    else:
        shape = first.feed.geometry.input_shape if first.feed.geometry is not None else (network.host.size,)
        yield {"type": "input", "shape": shape}
    flat = len(shape) == 1
    for place in chain:
        feed = place.feed
        if feed is None:
            continue
        if feed.geometry is None and not flat:
            yield {"type": "flatten", "shape": (feed.shape[1],)}
        flat = feed.geometry is None
        yield _dense(place, feed) if feed.geometry is None else _conv(place.population, feed, feed.geometry)


def _image(chain: list[_Place]) -> tuple[int, ...] | None:
    """Shape of the input neurons as an image, where the next layer hears an image."""
    hears = chain[1].feed.geometry if len(chain) > 1 and chain[1].feed is not None else None
    return None if hears is None else hears.input_shape


def _dense(place: _Place, feed: Connection) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "type": "dense" if place.recurrent is None else "dense_rec",
        "shape": (place.population.size,),
        "inFeatures": feed.shape[1],
        "outFeatures": feed.shape[0],
        "weight": _weights(feed).astype(np.float32),
        "neuron": _neuron(place.population),
    }
    if place.recurrent is not None:
        entries["weight_rec"] = _weights(place.recurrent).astype(np.float32)
    if feed.max_delay:
        delay = np.broadcast_to(np.asarray(feed.delay), feed.shape)
        entries["delay"] = np.array(delay[:, 0] if (delay == delay[:, :1]).all() else delay, np.float32)
    bias = _whole_bias(place.population)
    return entries | ({"bias": bias.astype(np.float32)} if bias.any() else {})


def _conv(population: Population, feed: Connection, geometry: ConvShape) -> dict[str, Any]:
    weight = _weights(feed)
    rows, columns = geometry.axes
    shape = geometry.output_shape(weight.shape)
    entries: dict[str, Any] = {
        "type": "conv",
        "shape": shape,
        "inChannels": geometry.input_shape[0],
        "outChannels": shape[0],
        "kernelSize": weight.shape[2:],
        "stride": (rows.stride, columns.stride),
        "padding": (rows.padding, columns.padding),
        "dilation": (rows.dilation, columns.dilation),
        "groups": geometry.groups,
        "weight": weight.astype(np.float32),
        "neuron": _neuron(population),
    }
    bias = _whole_bias(population)
    if bias.any():
        channels = bias.reshape(shape[0], -1)
        # netx takes one value a channel, or one a neuron in the order W, H, C.
        same = (channels == channels[:, :1]).all()
        entries["bias"] = (channels[:, 0] if same else bias.reshape(shape).transpose(2, 1, 0)).astype(np.float32)
    return entries


def _whole_bias(population: Population) -> NDArray[np.int64]:
    """Bias in weight units."""
    return population.bias >> MEMBRANE_SHIFT


def _neuron(population: Population) -> dict[str, Any]:
    """An accumulator is a neuron that does not fire: its membrane stays below the largest threshold."""
    silent = population.kind == "accumulator"
    return {
        "type": "CUBA",
        "iDecay": population.du + 1,
        "vDecay": population.dv,
        "vThMant": limits.THRESHOLD_MAX if silent else population.vth,
        "refDelay": 1,
        "gradedSpike": False,
    }
