"""Checks of a FixedNetwork as a whole (ranges of single values are checked by Population, Connection and HostInput)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lava_snnlearn.checks import LimitError, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX, lif_step
from lava_snnlearn.fixed_point.population import INPUT
from lava_snnlearn.fixed_point.sums import largest_sum

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.convolution import ConvShape
    from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population


WAITING = -MEMBRANE_MAX
"""Membrane in which stock LIFs that start late begin a run of one sample on Lava: biases are far from the threshold then."""


def validate(network: FixedNetwork) -> None:
    """Raise where names, shapes, sums or times of the graph do not fit together."""
    names = [population.name for population in network.populations]
    if not names:
        raise ValueError("a FixedNetwork needs at least one population")
    if len(set(names)) != len(names):
        raise ValueError(f"population names must be unique, got {names}")
    within("steps", whole_number("steps", network.steps), 1, 1 << 24, "A sample needs at least one time step.")
    known_name("output population", network.output, names)
    names_of_synapses = [connection.name for connection in network.connections]
    if twice := sorted({name for name in names_of_synapses if names_of_synapses.count(name) > 1}):
        raise ValueError(
            f"there must be at most one connection of a name (source_to_target, or source_to_target_label), but there are "
            f"several {twice[0]!r}; give them labels of their own, or rename a population"
        )
    for connection in network.connections:
        _check_ends(network, connection)
    _check_running(network)
    _check_input(network)
    _check_reach(network)
    for name in names:
        _check_sums(network, name)


def _check_ends(network: FixedNetwork, connection: Connection) -> None:
    names = [population.name for population in network.populations]
    known_name(f"target of connection {connection.name}", connection.target, names)
    known_name(f"source of connection {connection.name}", connection.source, [*names, INPUT])
    target = network.population(connection.target)
    sending = network.host.size if connection.source == INPUT else network.population(connection.source).size
    expected = (target.size, sending)
    if connection.shape != expected:
        what = "weight has shape" if connection.geometry is None else "the convolution has a matrix of shape"
        raise ValueError(f"connection {connection.name}: {what} {connection.shape}, expected {expected}")
    if connection.geometry is not None:
        _check_images(network, connection, connection.geometry)
    if connection.source == INPUT:
        return
    source = network.population(connection.source)
    if not source.spiking:
        raise ValueError(f"connection {connection.name}: an accumulator sends no spikes")


def _check_running(network: FixedNetwork) -> None:
    """Where a sample is a run on Lava: stock LIFs and relays, which never pause, must not touch active steps of others."""
    late = [population for population in network.populations if population.t_start]
    if not late or not network.one_by_one:
        return
    running = [population.name for population in network.populations if population.running]
    if running:
        raise ValueError(
            f"populations {running} have an initial state or resets at fixed times, which on Lava count from the first step of "
            f"a run; so all populations must have t_start 0, but {[population.name for population in late]} have not"
        )
    for connection in network.connections:
        _check_first_arrival(network, connection)
    for population in late:
        if population.kind == "lif":
            _check_wait(population)


def _check_first_arrival(network: FixedNetwork, connection: Connection) -> None:
    """Nothing arrives before the target starts; so what a source sends after its last step arrives after the target's last."""
    target = network.population(connection.target)
    source = None if connection.source == INPUT else network.population(connection.source)
    first = network.first_arrival(connection)
    unpausing = [p for p in (source, target) if p is not None and not p.pauses]
    if unpausing and target.t_start > first:
        kind = "a stock LIF" if unpausing[0].kind == "lif" else "a relay"
        raise ValueError(
            f"connection {connection.name}: population {unpausing[0].name!r} is {kind}, which cannot pause, and what arrives "
            f"first does so in step {first}; so {target.name!r} must start in that step or before (t_start is {target.t_start})"
        )


def _check_wait(population: Population) -> None:
    neuron = waking_neuron(population, WAITING)
    if neuron is not None:
        raise ValueError(
            f"population {population.name!r} is a stock LIF, which cannot pause, and the bias of its neuron {neuron} alone "
            f"makes it spike before its first active step (t_start is {population.t_start}); use a smaller bias, a higher "
            "threshold, t_start 0, or reset by subtraction"
        )


def waking_neuron(population: Population, membrane: int) -> int | None:
    """A neuron of a stock LIF that spikes before its first active step by its bias alone, which acts from a run's start on.

    membrane: v of all neurons at the start of the run, 1/64 weight units. None: all are silent until then.
    """
    bias = population.bias
    u, v = np.zeros(population.size, dtype=np.int64), np.full(population.size, membrane, dtype=np.int64)
    for _ in range(population.t_start):
        before = v
        spike, u, v, *_ = lif_step(u, v, 0, du=population.du, dv=population.dv, bias=bias, vth=population.vth)
        if spike.any():
            return int(np.argmax(spike))
        if np.array_equal(before, v):
            break
    return None


def _check_images(network: FixedNetwork, connection: Connection, geometry: ConvShape) -> None:
    """Populations that have a shape must have that of the convolution."""
    images = {connection.target: geometry.output_shape(np.shape(connection.weight))}
    if connection.source != INPUT:
        images[connection.source] = geometry.input_shape
    for name, image in images.items():
        shape = network.population(name).shape
        if shape is not None and shape != image:
            raise ValueError(f"connection {connection.name}: population {name!r} has the shape {shape}, expected {image}")


def _check_input(network: FixedNetwork) -> None:
    fed = [connection for connection in network.connections if connection.source == INPUT]
    if network.host.form == "current":
        if fed:
            raise ValueError(
                "input of the form 'current' goes straight into a population; connections from 'input' are not allowed"
            )
        targets = [network.population(name) for name in network.host.targets]
        size, start = sum(target.size for target in targets), min(target.t_start for target in targets)
        if size != network.host.size or start != 0:
            raise ValueError(
                f"populations {list(network.host.targets)} take the input current: they must have {network.host.size} neurons "
                f"together and the earliest must have t_start 0, but they have {size} and t_start {start}"
            )
        if network.host.geometry is not None:
            _check_channels(network, network.host.geometry)
    elif not fed:
        raise ValueError(f"input of the form {network.host.form!r} needs a connection from 'input'")


def _check_channels(network: FixedNetwork, geometry: ConvShape) -> None:
    """The targets of a convolved input current are blocks of its output channels."""
    _, rows, columns = geometry.output_shape(np.asarray(network.host.weight).shape)
    for name in network.host.targets:
        target = network.population(name)
        channels, rest = divmod(target.size, rows * columns)
        if rest or target.shape not in (None, (channels, rows, columns)):
            raise ValueError(
                f"population {name!r} takes channels of {rows}x{columns} from the input current, but it has {target.size} "
                f"neurons of shape {target.shape}"
            )


def _check_reach(network: FixedNetwork) -> None:
    """Lava runs only the processes that hang together with the first source."""
    reached = {INPUT, *network.host.targets[:1]}
    while True:
        ends = [{connection.source, connection.target} for connection in network.connections]
        more = reached.union(*(pair for pair in ends if pair & reached))
        if more == reached:
            break
        reached = more
    apart = [population.name for population in network.populations if population.name not in reached]
    if apart:
        first = f"population {network.host.targets[0]!r}, which takes the input" if network.host.targets else "the input"
        raise ValueError(f"populations {apart} are not connected with {first}; connect or remove them")


def _check_sums(network: FixedNetwork, name: str) -> None:
    kind = network.population(name).kind
    limit = limits.WRAP_FREE_MAX if kind == "lif" else limits.CHANNEL_MAX
    # Lava makes the sum before it shifts it right.
    before = [connection.reach(network.largest_sent(connection.source)) for connection in network.incoming(name)]
    total = max([largest_sum(network, name), *before])
    if total > limit:
        raise LimitError(
            f"population {name!r}: its synaptic sum can reach {total}, more than {limit}, which Lava's int32 channels carry "
            f"for {kind}. Use smaller weights, a smaller exponent or a smaller fan-in."
        )
