"""The command ``lava-snnlearn deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_snnlearn.commands.network_files import TAKEN, read_network
from lava_snnlearn.commands.samples import NPY, samples_for


def deploy_file(
    file: Annotated[Path, typer.Argument(help=TAKEN)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    target: Annotated[str, typer.Option(help="loihi2.")] = "loihi2",
    samples: Annotated[int, typer.Option(help="How many samples to run there, at most 256.")] = 8,
    data: Annotated[str | None, typer.Option(help="Data set, or 'random'. Default: that of the run.")] = None,
    npy: Annotated[Path | None, typer.Option(help=NPY)] = None,
    populations: Annotated[
        str | None, typer.Option(help="Names, joined by commas, whose spikes are compared. Default: all.")
    ] = None,
) -> None:
    """Write a self-contained folder for the Loihi cloud: network, samples, expected spikes, run and compare scripts.

    Its run.py also runs here, on Lava's simulator: python run.py --sim && python compare.py

    Exit status: 0 done, 2 an error.

    Examples:

      lava-snnlearn deploy runs/ottt-digits/network.h5 --samples 8 -o bundle

      lava-snnlearn deploy network.h5 --npy my_samples.npy --populations out -o bundle
    """
    from lava_snnlearn.deployment import SAMPLES_MAX, deploy

    if samples > SAMPLES_MAX:
        raise ValueError(f"--samples is {samples}; a bundle holds at most {SAMPLES_MAX}")
    network = read_network(file)
    x, _ = samples_for(file, network, data, npy, samples)
    chosen = None if populations is None else populations.split(",")
    folder = deploy(network, x, output, target=target, populations=chosen)
    held = x.shape[1] if x.ndim == 3 else len(x)
    less = f" ({npy} holds no more)" if npy is not None and held < samples else ""
    typer.echo(
        f"wrote {folder} with {held} sample{'s' * (held > 1)}{less}. "
        f"Next: cd {folder} && python run.py --sim && python compare.py"
    )
