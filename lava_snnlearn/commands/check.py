"""The command ``lava-snnlearn check``: does a network fit a chip, and what does it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lava_snnlearn.commands.network_files import TAKEN_OR_REASONER, format_of, image_size, is_reasoner, read_network
from lava_snnlearn.commands.samples import NPY, samples_for

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.graph import FixedNetwork
    from lava_snnlearn.placement import Placement


def check_file(
    file: Annotated[Path, typer.Argument(help=TAKEN_OR_REASONER)],
    target: Annotated[str, typer.Option(help="loihi1 (limits are errors) or loihi2 (advice).")] = "loihi1",
    picture: Annotated[Path | None, typer.Option(help="Draw the cores into this .png, .svg or .pdf.")] = None,
    samples: Annotated[
        int | None, typer.Option(help="Also count the events of so many samples, and estimate their energy.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set of the samples, or 'random'; a reasoner's graph. Default: that of the run.")
    ] = None,
    npy: Annotated[Path | None, typer.Option(help=NPY)] = None,
    steps: Annotated[
        int | None, typer.Option(help=".net, .nir: steps of a sample, which only --samples need. Default: as the file says.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(help=".net: C,H,W of the input of a first convolution, where the file does not say it.")
    ] = None,
) -> None:
    """Place a network on the cores of a Loihi chip: a table of what each core holds, and what does not fit.

    With --samples: exact counts of spikes, synaptic operations and neuron updates, and energies estimated from published
    figures.

    Of a graph reasoner: how its nodes are dealt to the cores of Loihi 1, for the graph of --data.

    Exit status: 0 it fits (or there is only advice), 1 it does not fit, 2 an error.

    Examples:

      lava-snnlearn check runs/ottt-digits/network.h5

      lava-snnlearn check network.h5 --target loihi2 --picture cores.png

      lava-snnlearn check network.h5 --samples 100

      lava-snnlearn check trained.net --input-shape 1,28,28
    """
    from lava_snnlearn.checks import known_name
    from lava_snnlearn.placement import CHIPS, place

    known_name("target", target, CHIPS)
    if is_reasoner(file):
        from lava_snnlearn.reasoning import files

        text, fits = files.check_file(file, data, target=target, picture=picture, samples=samples, npy=npy)
        typer.echo(text)
        raise typer.Exit(0 if fits else 1)
    if samples is None and (data is not None or npy is not None):
        raise ValueError("--data and --npy name samples, of which no event is counted; give --samples as well, or neither")
    if steps is None and samples is None and format_of(file) is not None:
        steps = 1  # of which no placement depends; the file need not say any
    network = read_network(file, steps=steps, input_shape=image_size(input_shape))
    placement = place(network, target)
    # All the work first, so that nothing is printed beside an error.
    text = str(placement)
    if samples is not None:
        text += "\n" + _energy(file, network, placement, data, npy, samples)
    if picture is not None:
        placement.plot(picture)
    typer.echo(text)
    raise typer.Exit(1 if placement.errors else 0)


def _energy(file: Path, network: FixedNetwork, placement: Placement, data: str | None, npy: Path | None, samples: int) -> str:
    from lava_snnlearn.fixed_point.event_energy import estimate_energy
    from lava_snnlearn.fixed_point.events import count_events

    x, _ = samples_for(file, network, data, npy, samples)
    counts = count_events(network, x, placement=placement)
    return f"\n{counts.samples} samples\n{counts}\n\n{estimate_energy(counts)}"
