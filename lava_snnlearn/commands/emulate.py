"""The command ``lava-snnlearn emulate``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from lava_snnlearn.commands.network_files import TAKEN_OR_REASONER, is_reasoner, read_network
from lava_snnlearn.commands.samples import NPY, read_npy, samples_for


def emulate_file(
    file: Annotated[Path, typer.Argument(help=TAKEN_OR_REASONER)],
    samples: Annotated[int | None, typer.Option(help="How many samples or test triples; default: the whole test set.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set, or 'random'; a reasoner's graph. Default: that of the run.")
    ] = None,
    npy: Annotated[Path | None, typer.Option(help=NPY)] = None,
    save: Annotated[Path | None, typer.Option(help="Write outputs and predictions to this .npz.")] = None,
) -> None:
    """Print a network file and run it in the exact emulator: accuracy, spike rates, clipped membranes, speed.

    Of a graph reasoner: ranks of the test triples, spike rate, speed. Of a sigma-delta network of lava-dl (a .net file of SDNN
    neurons), with --npy: how much its layers send.

    Exit status: 0 done, 2 an error.

    Examples:

      lava-snnlearn emulate runs/ottt-digits/network.h5

      lava-snnlearn emulate network.h5 --npy my_samples.npy --save answers.npz

      lava-snnlearn emulate runs/grsnn-umls/reasoner.h5
    """
    import numpy as np

    from lava_snnlearn.files import replacing
    from lava_snnlearn.fixed_point.emulator import emulate
    from lava_snnlearn.interchange.netx_sigma_delta import SigmaDeltaError

    if is_reasoner(file):
        from lava_snnlearn.reasoning import files

        typer.echo(files.emulate_file(file, data, samples, npy=npy, save=save))
        return
    try:
        network = read_network(file)
    except SigmaDeltaError:
        typer.echo(_emulate_sigma_delta(file, npy, samples, save))
        return
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


def _emulate_sigma_delta(file: Path, npy: Path | None, samples: int | None, save: Path | None) -> str:
    """Run a sigma-delta network of lava-dl; the text says how much its layers send.

    Args:
        file: the network. npy: integers [T, N, features]. samples: how many of them.
        save: .npz for what the last layer sends, int32 [T, N, n], as "outputs".

    Raises:
        ValueError: no samples, or of another shape. TypeError: no integers.
    """
    import numpy as np

    from lava_snnlearn.files import replacing
    from lava_snnlearn.interchange import read_sigma_delta

    if npy is None:
        raise ValueError(
            f"{file} is a sigma-delta network, whose data no run knows; give --npy with integers [time, N, features], scaled "
            "as in training"
        )
    network = read_sigma_delta(file)
    x = read_npy(npy, samples)
    if x.ndim != 3:
        raise ValueError(f"{npy} has shape {x.shape}; a sigma-delta network takes sequences [time, N, {network.inputs}]")
    begin = time.perf_counter()
    trace = network.run(x)
    seconds = time.perf_counter() - begin
    last = network.layers[-1].name
    if save is not None:
        with replacing(save) as target, target.open("wb") as opened:
            np.savez(opened, outputs=trace.sent[last])
    lines = [f"sigma-delta network, {len(network.layers)} layers", *network.notes, ""]
    lines += [_line(name, sent, trace.wrapped[name]) for name, sent in trace.sent.items()]
    return "\n".join([*lines, f"{x.shape[1]} samples of {len(x)} steps in {seconds:.3g} s"])


def _line(name: str, sent: Any, wrapped: int) -> str:
    return f"{name}: {(sent != 0).mean():.4f} messages per neuron and step, {wrapped} sums and states wrapped round"
