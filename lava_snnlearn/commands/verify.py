"""The command ``lava-snnlearn verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_snnlearn.commands.network_files import TAKEN_OR_REASONER, is_reasoner, read_network
from lava_snnlearn.commands.samples import NPY, samples_for


def verify_file(
    file: Annotated[Path, typer.Argument(help=TAKEN_OR_REASONER)],
    samples: Annotated[
        int | None, typer.Option(help="How many samples or queries to run on Lava. Default: 8 samples, 4 queries.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set, or 'random'; a reasoner's graph. Default: that of the run.")
    ] = None,
    npy: Annotated[Path | None, typer.Option(help=NPY)] = None,
    against: Annotated[str | None, typer.Option(help="lava, torch or lava,torch. Default: all that can be compared.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds without progress until the run is killed.")] = 60.0,
) -> None:
    """Run a network file on Lava and compare every spike and membrane with the emulator and torch.

    Of a graph reasoner, test queries: spikes, membranes and scores, with the emulator.

    Exit status: 0 all equal, 1 a mismatch (the first one is named), 2 an error.

    Examples:

      lava-snnlearn verify runs/ottt-digits/network.h5

      lava-snnlearn verify network.h5 --npy my_samples.npy --samples 100

      lava-snnlearn verify runs/grsnn-umls/reasoner.h5 --samples 10
    """
    from lava_snnlearn.verification import verify

    if not time_limit > 0:
        raise ValueError(f"--time-limit is {time_limit:g}; give more than 0 seconds")
    if is_reasoner(file):
        from lava_snnlearn.reasoning import files

        proof = files.verify_file(file, data, samples, against, time_limit, npy=npy)
        typer.echo(str(proof))
        raise typer.Exit(0 if proof.report.ok else 1)
    network = read_network(file)
    x, _ = samples_for(file, network, data, npy, 8 if samples is None else samples)
    report = verify(network, x, against=None if against is None else against.split(","), time_limit=time_limit)
    typer.echo(str(report))
    raise typer.Exit(0 if report.ok else 1)
