"""The commands that exchange networks with other tools: ``lava-snnlearn export | import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_snnlearn.commands.network_files import FORMATS, TAKEN, format_of, image_size, read_foreign_network, read_network


def export_file(
    file: Annotated[Path, typer.Argument(help=TAKEN)],
    to: Annotated[str, typer.Option("--to", help="netx (lava-dl's HDF5) or nir.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    lossy: Annotated[
        bool, typer.Option("--lossy", help="netx: write also what loses the host's part; never what would change a spike.")
    ] = False,
    whole_biases: Annotated[
        bool, typer.Option("--whole-biases", help="netx: round biases to whole weight units first, as netx holds them.")
    ] = False,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="nir: write what NIR cannot say as metadata, which only this library reads.")
    ] = False,
) -> None:
    """Write a network as netx HDF5 or NIR. What the format cannot hold is listed, and refused.

    Both know neurons that reset to zero. NIR holds weights in real units, and not whether the input is current or spikes.

    Exit status: 0 written, 2 an error.

    Examples:

      lava-snnlearn export network.h5 --to netx -o network.net

      lava-snnlearn export runs/ottt-digits/network.h5 --to netx -o digits.net --lossy --whole-biases

      lava-snnlearn export network.h5 --to nir -o network.nir
    """
    from lava_snnlearn import interchange
    from lava_snnlearn.checks import known_name

    known_name("format (--to)", to, FORMATS)
    network = read_network(file)
    if to == "nir":
        if lossy or whole_biases:
            raise ValueError("--lossy and --whole-biases are for netx; leave them out")
        interchange.to_nir(network, output, annotate=annotate)
        typer.echo(f"wrote {output}")
        return
    if annotate:
        raise ValueError("--annotate is for nir; leave it out")
    if whole_biases:
        network = interchange.with_whole_biases(network)
    run = interchange.to_netx(network, output, lossy=lossy)
    for loss in interchange.netx_losses(network):
        typer.echo(f"lost: {loss}")
    given = "".join(f", {key}={value}" for key, value in run.arguments.items())
    apart = ", every sample in a run of its own" if run.one_by_one else ""
    typer.echo(f'wrote {output}; run it with lava.lib.dl.netx.hdf5.Network("{output}"{given}){apart}')


def import_file(
    file: Annotated[Path, typer.Argument(help="A file of lava-dl (netx, .net) or of NIR (.nir).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The network file to write, e.g. network.h5.")],
    source: Annotated[
        str | None, typer.Option("--from", help="netx or nir. Default: nir for files that end in .nir, else netx.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a sample. Default: as the file says.")] = None,
    timing: Annotated[
        str | None, typer.Option(help="netx: samples (reset between them) or running. Default: see interchange.from_netx.")
    ] = None,
    reset: Annotated[
        str | None, typer.Option(help="NIR: zero or subtract, see interchange.from_nir. Default: as the file says, or zero.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(help="netx: C,H,W of the input of a first convolution, where the file does not say it.")
    ] = None,
) -> None:
    """Read a network of another tool, and write it as a network file. The other commands read such files, too, as they are.

    The input of what comes from NIR is binary spikes, whatever it was before; where it ends with neurons, an accumulator
    "readout" counts their spikes. Sigma-delta networks (SDNN) cannot be imported; emulate runs their .net files.

    Exit status: 0 written, 2 an error.

    Examples:

      lava-snnlearn import trained.net -o network.h5 --steps 32

      lava-snnlearn import conv.net -o network.h5 --steps 32 --input-shape 2,34,34

      lava-snnlearn import foreign.nir -o network.h5 --steps 20
    """
    from lava_snnlearn.checks import known_name

    kind = known_name("format (--from)", source or format_of(file) or "netx", FORMATS)
    if format_of(output) is not None:
        raise ValueError(f"--output is {output}, but it will be a file of this library; choose another ending, e.g. .h5")
    shape = image_size(input_shape)
    network = read_foreign_network(file, kind, steps=steps, input_shape=shape, timing=timing, reset=reset)
    network.save(output)
    typer.echo(f"{network}\n\nwrote {output}")
