"""The commands that take a file: ``lava-snnlearn verify | emulate``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from lava_snnlearn.samples import samples_for

_REASONER = "FixedReasoner"


def verify_file(
    file: Annotated[Path, typer.Argument(help="A file of a network (network.h5) or a graph reasoner (reasoner.h5).")],
    samples: Annotated[
        int | None, typer.Option(help="How many samples or queries to run on Lava. Default: 8 samples, 4 queries.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set, or 'random'; a reasoner's graph. Default: that of the run.")
    ] = None,
    npy: Annotated[Path | None, typer.Option(help="Your own samples, float [N, features], as .npy.")] = None,
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
    from lava_snnlearn.files import content_of
    from lava_snnlearn.fixed_point.graph import FixedNetwork
    from lava_snnlearn.verification import verify

    if not time_limit > 0:
        raise ValueError(f"--time-limit is {time_limit:g}; give more than 0 seconds")
    if content_of(file) == _REASONER:
        from lava_snnlearn.reasoning import files

        proof = files.verify_file(file, data, samples, against, time_limit, npy=npy)
        typer.echo(str(proof))
        raise typer.Exit(0 if proof.report.ok else 1)
    network = FixedNetwork.load(file)
    x, _ = samples_for(file, network, data, npy, 8 if samples is None else samples)
    report = verify(network, x, against=None if against is None else against.split(","), time_limit=time_limit)
    typer.echo(str(report))
    raise typer.Exit(0 if report.ok else 1)


def emulate_file(
    file: Annotated[Path, typer.Argument(help="A file of a network (network.h5) or a graph reasoner (reasoner.h5).")],
    samples: Annotated[int | None, typer.Option(help="How many samples or test triples; default: the whole test set.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set, or 'random'; a reasoner's graph. Default: that of the run.")
    ] = None,
    npy: Annotated[Path | None, typer.Option(help="Your own samples, float [N, features], as .npy.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write outputs and predictions to this .npz.")] = None,
) -> None:
    """Print a network file and run it in the exact emulator: accuracy, spike rates, clipped membranes, speed.

    Of a graph reasoner: ranks of the test triples, spike rate, speed.

    Exit status: 0 done, 2 an error.

    Examples:

      lava-snnlearn emulate runs/ottt-digits/network.h5

      lava-snnlearn emulate network.h5 --npy my_samples.npy --save answers.npz

      lava-snnlearn emulate runs/grsnn-umls/reasoner.h5
    """
    import numpy as np

    from lava_snnlearn.files import content_of, replacing
    from lava_snnlearn.fixed_point.emulator import emulate
    from lava_snnlearn.fixed_point.graph import FixedNetwork

    if content_of(file) == _REASONER:
        from lava_snnlearn.reasoning import files

        typer.echo(files.emulate_file(file, data, samples, npy=npy, save=save))
        return
    network = FixedNetwork.load(file)
    x, labels = samples_for(file, network, data, npy, samples)
    with ExitStack() as stack:
        # Before the work: a place that cannot be written is refused at once.
        target = None if save is None else stack.enter_context(replacing(save))
        begin = time.perf_counter()
        trace = emulate(network, x, record="spikes")
        seconds = time.perf_counter() - begin
        if target is not None:
            with target.open("wb") as opened:
                np.savez(opened, outputs=trace.outputs, predictions=trace.predictions)
    typer.echo(f"{network}\n")
    if labels is not None:
        typer.echo(f"accuracy {float((trace.predictions == labels).mean()):.4f} on {len(labels)} samples")
    for name, rate in trace.spike_rates().items():
        typer.echo(f"{name}: {rate:.4f} spikes per neuron and step, {trace.saturated[name]} membranes clipped")
    typer.echo(f"{len(trace.outputs)} samples in {seconds:.3g} s ({len(trace.outputs) / seconds:.0f} a second)")
