"""The commands that exchange networks with other tools: ``lava-snnlearn export | import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("netx", "nir")


def export_file(
    file: Annotated[Path, typer.Argument(help="A file of a network (network.h5).")],
    to: Annotated[str, typer.Option("--to", help="netx (lava-dl's HDF5) or nir.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    lossy: Annotated[
        bool, typer.Option("--lossy", help="netx: write also what loses the host's part; never what would change a spike.")
    ] = False,
    whole_biases: Annotated[
        bool, typer.Option("--whole-biases", help="netx: round biases to whole weight units first, as netx holds them.")
    ] = False,
) -> None:
    """Write a network file as netx HDF5 or NIR. What the format cannot hold is listed, and refused.

    Exit status: 0 written, 2 an error.

    Examples:

      lava-snnlearn export network.h5 --to netx -o network.net

      lava-snnlearn export runs/ottt-digits/network.h5 --to netx -o digits.net --lossy --whole-biases

      lava-snnlearn export network.h5 --to nir -o network.nir
    """
    from lava_snnlearn import interchange
    from lava_snnlearn.checks import known_name
    from lava_snnlearn.fixed_point.graph import FixedNetwork

    known_name("format (--to)", to, FORMATS)
    network = FixedNetwork.load(file)
    if to == "nir":
        if lossy or whole_biases:
            raise ValueError("--lossy and --whole-biases are for netx; leave them out")
        interchange.to_nir(network, output)
        typer.echo(f"wrote {output}")
        return
    if whole_biases:
        network = interchange.with_whole_biases(network)
    run = interchange.to_netx(network, output, lossy=lossy)
    for loss in interchange.netx_losses(network):
        typer.echo(f"lost: {loss}")
    given = "".join(f", {key}={value}" for key, value in run.arguments.items())
    typer.echo(f'wrote {output}; run it with lava.lib.dl.netx.hdf5.Network("{output}"{given})')


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
) -> None:
    """Read a network of another tool, and write it as a network file, which verify and emulate take.

    Exit status: 0 written, 2 an error.

    Examples:

      lava-snnlearn import trained.net -o network.h5 --steps 32

      lava-snnlearn import foreign.nir -o network.h5 --steps 20
    """
    from lava_snnlearn import interchange
    from lava_snnlearn.checks import known_name

    kind = source or ("nir" if file.suffix == ".nir" else "netx")
    known_name("format (--from)", kind, FORMATS)
    if kind == "netx":
        if reset is not None:
            raise ValueError("--reset is for NIR; netx's neurons reset to zero")
        network = interchange.from_netx(file, steps, timing=timing)
    else:
        if timing is not None:
            raise ValueError("--timing is for netx; leave it out")
        network = interchange.fixed_from_nir(file, steps=steps, reset=reset)
    network.save(output)
    typer.echo(f"{network}\n\nwrote {output}")
