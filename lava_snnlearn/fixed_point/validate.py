"""Checks of a FixedNetwork as a whole (ranges of single values are checked by Population, Connection and HostInput)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lava_snnlearn.checks import LimitError, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.population import INPUT
from lava_snnlearn.fixed_point.sums import in_lockstep, largest_sum

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.convolution import ConvShape
    from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork


def validate(network: FixedNetwork) -> None:
    """Raise where names, shapes, sums or times of the graph do not fit together."""
    names = [population.name for population in network.populations]
    if not names:
        raise ValueError("a FixedNetwork needs at least one population")
    if len(set(names)) != len(names):
        raise ValueError(f"population names must be unique, got {names}")
    within("steps", whole_number("steps", network.steps), 1, 1 << 24, "A sample needs at least one time step.")
    known_name("output population", network.output, names)
    pairs = [(connection.source, connection.target, connection.label) for connection in network.connections]
    if len(set(pairs)) != len(pairs):
        raise ValueError(f"there must be at most one connection of the same label from one population to another, got {pairs}")
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
    """What Lava can run only as a run a sample must be active from the first step on."""
    late = [population.name for population in network.populations if population.t_start]
    if not late or not network.one_by_one:
        return
    for connection in network.connections:
        if not in_lockstep(network, connection):
            _refuse_lag(network, connection)
    running = [population.name for population in network.populations if population.running]
    raise ValueError(
        f"populations {running} have an initial state or resets at fixed times, which on Lava count from the first step of a "
        f"run; so all populations must have t_start 0, but {late} have not"
    )


def _refuse_lag(network: FixedNetwork, connection: Connection) -> None:
    source, target = network.population(connection.source), network.population(connection.target)
    kind = "a stock LIF" if source.kind == "lif" else "a relay"
    start = source.t_start + 1 + int(np.min(connection.delay))
    raise ValueError(
        f"connection {connection.name}: population {source.name!r} is {kind}, which cannot pause between samples, so all "
        f"delays must be equal and {target.name!r} must start 1 + delay steps after it, at step {start} (t_start is "
        f"{target.t_start}), or all populations must start at step 0. "
        "Use reset by subtraction for recurrent nets and mixed delays."
    )


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
