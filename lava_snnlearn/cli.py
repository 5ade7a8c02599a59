"""The command line: ``lava-snnlearn run | methods | verify | emulate``."""

from __future__ import annotations

import json
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lava_snnlearn.checks import known_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lava_snnlearn.fixed_point.graph import FixedNetwork

app = typer.Typer(
    name="lava-snnlearn",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    help="Train spiking networks in torch, convert them to Loihi's integers, run them on Lava, prove that both are equal.\n\n"
    "Start with [bold]lava-snnlearn run[/bold]: it trains OTTT on the embedded digits, quantizes to 8 bits, emulates the whole "
    "test set, verifies on Lava's simulator and writes runs/ottt-digits/report.html.",
)
_RUN = "What to run"
_NET = "Network"
_TRAIN = "Training"
_CHIP = "Fixed point"
_FILES = "Files"


@app.command()
def run(
    method: Annotated[
        str, typer.Option(help="bptt, dsr, ottt, rate_bp or sltt; see 'lava-snnlearn methods'.", rich_help_panel=_RUN)
    ] = "ottt",
    data: Annotated[
        str,
        typer.Option(help="digits, mnist, fashion, cifar10, or events: nmnist, dvs_gesture, shd ...", rich_help_panel=_RUN),
    ] = "digits",
    frames: Annotated[str, typer.Option(help="Events to frames by time or count.", rich_help_panel=_RUN)] = "time",
    augment: Annotated[
        str | None, typer.Option(help="Images: crop, flip, cutout joined by _, e.g. crop_flip.", rich_help_panel=_RUN)
    ] = None,
    update: Annotated[str | None, typer.Option(help="OTTT: accumulate or online.", rich_help_panel=_RUN)] = None,
    k: Annotated[int | None, typer.Option(help="SLTT: steps with a backward (SLTT-K).", rich_help_panel=_RUN)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Any option of the method, e.g. trace_bias=false; see 'methods'.", rich_help_panel=_RUN),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Dense layers, e.g. 128,128; a conv net, e.g. 16C3-P2-32C3-P2-128; or vgg, preact_resnet, nf_resnet.",
            rich_help_panel=_NET,
        ),
    ] = None,
    width: Annotated[float, typer.Option(help="Factor on the channels of a conv net.", rich_help_panel=_NET)] = 1.0,
    steps: Annotated[int | None, typer.Option(help="Time steps T of a sample.", rich_help_panel=_NET)] = None,
    leak: Annotated[float | None, typer.Option(help="Membrane lost per step, 0..1 (0: IF).", rich_help_panel=_NET)] = None,
    reset: Annotated[
        str, typer.Option(help="subtract, or zero (runs on Lava's stock LIF).", rich_help_panel=_NET)
    ] = "subtract",
    norm: Annotated[str | None, typer.Option(help="none, bn_step, bn_time or sws.", rich_help_panel=_NET)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Default: 30 for digits, 2 for mnist and fashion, else 10.", rich_help_panel=_TRAIN)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples a batch.", rich_help_panel=_TRAIN)] = 128,
    learning_rate: Annotated[
        float | None, typer.Option(help="Default: the method's published one.", rich_help_panel=_TRAIN)
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bits.", rich_help_panel=_TRAIN)] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads of the training; another number may round differently.", rich_help_panel=_TRAIN)
    ] = 1,
    train_size: Annotated[int | None, typer.Option(help="Use only so many training samples.", rich_help_panel=_TRAIN)] = None,
    input: Annotated[
        str,
        typer.Option(
            help="current, graded (8-bit spikes), rate or latency (binary spikes), spikes (events).", rich_help_panel=_CHIP
        ),
    ] = "current",
    weight_bits: Annotated[int, typer.Option(help="2..8.", rich_help_panel=_CHIP)] = 8,
    verify_samples: Annotated[int, typer.Option(help="Test samples run on Lava's simulator.", rich_help_panel=_CHIP)] = 32,
    name: Annotated[str | None, typer.Option(help="Name of the run; default METHOD-DATA.", rich_help_panel=_FILES)] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder of all runs.", rich_help_panel=_FILES)] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.", rich_help_panel=_FILES)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.", rich_help_panel=_FILES)] = False,
) -> None:
    """Train, quantize, emulate on the whole test set, verify on Lava, write a report.

    Exit status: 0 all equal, 1 a mismatch between emulator and Lava, 2 an error.

    Examples:

      lava-snnlearn run

      lava-snnlearn run --method sltt --k 2 --epochs 30

      lava-snnlearn run --method bptt --data mnist --input graded --weight-bits 6

      lava-snnlearn run --method rate_bp --data fashion --layers 16C3-P2-32C3-P2-128 --augment flip

      lava-snnlearn run --data nmnist --input spikes --steps 10

      torchrun --nproc-per-node 2 -m lava_snnlearn run --data mnist
    """
    from lava_snnlearn import pipeline

    if resume and overwrite:
        raise ValueError("--resume continues an earlier run and --overwrite deletes it; give one of them")
    settings = pipeline.Settings(
        method=method,
        data=data,
        options=(
            *((key, value) for key, value in (("update", update), ("k", k)) if value is not None),
            *_options(option or []),
        ),
        layers=None if layers is None else _layers(layers),
        width=width,
        frames=frames,
        augment=augment,
        epochs=epochs,
        steps=steps,
        leak=leak,
        reset=reset,
        norm=norm,
        input=input,
        weight_bits=weight_bits,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        verify_samples=verify_samples,
        train_size=train_size,
        threads=threads,
    )
    folder = runs_dir / (name or f"{method}-{data}")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        summary = pipeline.run(settings, folder, resume=resume, overwrite=overwrite, tell=console.print)
    except FileExistsError as error:
        raise FileExistsError(
            f"{folder} holds a checkpoint of an earlier run. Continue it with --resume, replace it with --overwrite, or choose "
            "another --name."
        ) from error
    if summary is None:
        raise typer.Exit(0)
    table = Table(title=str(folder))
    for heading in ("", "test accuracy"):
        table.add_column(heading)
    table.add_row("float (torch)", f"{summary.float_accuracy:.4f}")
    table.add_row(f"fixed point, {weight_bits} bits", f"{summary.fixed_accuracy:.4f}")
    table.add_row("same prediction in both", f"{summary.agreement:.4f}")
    Console().print(table)
    console.print(f"open {folder / 'report.html'}")
    raise typer.Exit(0 if summary.verification.ok else 1)


@app.command("methods")
def list_methods() -> None:
    """List the training methods, their options and the papers to cite.

    Example:

      lava-snnlearn methods
    """
    import dataclasses

    from lava_snnlearn.citations import citation
    from lava_snnlearn.methods import METHODS

    for name, cls in METHODS.items():
        summary = (cls.__doc__ or "").strip().splitlines()[0]
        options = ", ".join(f"{field.name}={_default(field)}" for field in dataclasses.fields(cls))
        typer.echo(f"{name}: {summary}\n  options: {options}")
        typer.echo("  cite: " + citation(name).replace("\n", "\n        ") + "\n")


@app.command("verify")
def verify_file(
    file: Annotated[Path, typer.Argument(help="A network file (network.h5).")],
    samples: Annotated[int, typer.Option(help="How many samples to run on Lava.")] = 8,
    data: Annotated[str | None, typer.Option(help="Data set, or 'random'. Default: that of the run.")] = None,
    npy: Annotated[Path | None, typer.Option(help="Your own samples, float [N, features], as .npy.")] = None,
    against: Annotated[str | None, typer.Option(help="lava, torch or lava,torch. Default: all that can be compared.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds without progress until the run is killed.")] = 60.0,
) -> None:
    """Run a network file on Lava and compare every spike and membrane with the emulator and torch.

    Exit status: 0 all equal, 1 a mismatch (the first one is named), 2 an error.

    Examples:

      lava-snnlearn verify runs/ottt-digits/network.h5

      lava-snnlearn verify network.h5 --npy my_samples.npy --samples 100
    """
    from lava_snnlearn.fixed_point.graph import FixedNetwork
    from lava_snnlearn.verification import verify

    if not time_limit > 0:
        raise ValueError(f"--time-limit is {time_limit:g}; give more than 0 seconds")
    network = FixedNetwork.load(file)
    x, _ = _samples(file, network, data, npy, samples)
    report = verify(network, x, against=None if against is None else against.split(","), time_limit=time_limit)
    typer.echo(str(report))
    raise typer.Exit(0 if report.ok else 1)


@app.command("emulate")
def emulate_file(
    file: Annotated[Path, typer.Argument(help="A network file (network.h5).")],
    samples: Annotated[int | None, typer.Option(help="How many samples; default: all of the test set.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set, or 'random'. Default: that of the run.")] = None,
    npy: Annotated[Path | None, typer.Option(help="Your own samples, float [N, features], as .npy.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write outputs and predictions to this .npz.")] = None,
) -> None:
    """Print a network file and run it in the exact emulator: accuracy, spike rates, clipped membranes, speed.

    Exit status: 0 done, 2 an error.

    Examples:

      lava-snnlearn emulate runs/ottt-digits/network.h5

      lava-snnlearn emulate network.h5 --npy my_samples.npy --save answers.npz
    """
    import numpy as np

    from lava_snnlearn.files import replacing
    from lava_snnlearn.fixed_point.emulator import emulate
    from lava_snnlearn.fixed_point.graph import FixedNetwork

    network = FixedNetwork.load(file)
    x, labels = _samples(file, network, data, npy, samples)
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


def _default(field: Any) -> Any:
    import dataclasses

    return field.default_factory() if field.default is dataclasses.MISSING else field.default


def _options(pairs: list[str]) -> tuple[tuple[str, Any], ...]:
    """KEY=VALUE with VALUE in JSON (true, 2, null), or plain text."""
    found = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--option is {pair!r}; give KEY=VALUE, e.g. trace_bias=false")
        try:
            found.append((key, json.loads(text)))
        except json.JSONDecodeError:
            found.append((key, text))
    return tuple(found)


def _layers(text: str) -> tuple[int, ...] | str:
    """Sizes of dense layers; a text with letters and no comma is a conv net or a name, read where the data are known."""
    if "," not in text and any(letter.isalpha() for letter in text):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--layers is {text!r}; give sizes separated by commas, e.g. 128,128, or a conv net, e.g. 16C3-P2-32C3-P2-128"
        ) from None


def _samples(
    file: Path, network: FixedNetwork, data: str | None, npy: Path | None, count: int | None
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Samples and, where known, labels for a network file: from --npy, --data, or the run that the file belongs to."""
    import torch

    from lava_snnlearn.data import DATASETS, EVENT_DATASETS, load
    from lava_snnlearn.data.batches import inputs

    if count is not None and count < 1:
        raise ValueError(f"--samples is {count}; give at least 1")
    if npy is not None:
        if data is not None:
            raise ValueError("--npy and --data both name the samples; give one of them")
        x = _read_npy(npy)
        # Sequences are time first.
        return (x[:, :count] if x.ndim == 3 else x[:count]), None
    chosen = _data_of_run(file.parent / "summary.json") if data is None else data
    if known_name("data set", chosen, [*DATASETS, *EVENT_DATASETS, "random"]) == "random":
        return _random(network, count or 64), None
    if chosen in EVENT_DATASETS:
        most: dict[str, Any] = {"max_count": 1} if network.host.form == "spikes" else {}
        test = load(chosen, steps=network.steps, **most).test
    else:
        test = load(chosen, scale="unit" if network.host.encoding != "direct" else "standard").test
    return inputs(test.x[:count], torch.device("cpu"), torch.float32).numpy(), test.y[:count]


def _read_npy(path: Path) -> NDArray[Any]:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays (.npz); save the samples alone with numpy.save")
    if array.ndim not in (2, 3):
        raise ValueError(f"{path} has shape {array.shape}; expected samples [N, features] or sequences [time, N, features]")
    return array


def _data_of_run(summary: Path) -> str:
    """The data set of the run that wrote this summary.json; "random" where there is none."""
    if not summary.is_file():
        return "random"
    try:
        return str(json.loads(summary.read_text(encoding="utf-8"))["settings"]["data"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{summary} does not say which data set the run used ({error!r}); name it with --data") from error


def _random(network: FixedNetwork, count: int) -> NDArray[Any]:
    """Random samples over the range that the network's input takes."""
    import numpy as np

    from lava_snnlearn.fixed_point import limits

    host = network.host
    generator = np.random.default_rng(0)
    if (host.form == "current" and host.weight is None) or (host.form == "graded" and host.step == 0):
        # A network that takes integers only: up to two thresholds of current, or any payload.
        top = 2 * min(network.population(name).vth for name in host.targets) if host.targets else limits.GRADED_MAX
        return generator.integers(0, min(top, limits.CURRENT_MAX), (count, host.size), endpoint=True)
    draws = generator.random((count, host.features))
    if host.encoding != "direct":
        return draws.astype(np.float32)  # the rate and latency codes take intensities from 0 to 1
    if host.form == "graded":
        draws = host.offset + draws * host.step * 255
    elif host.form == "spikes":
        draws = np.rint(draws)
    return draws.astype(np.float32)


def main() -> None:
    """Entry point: errors become one line and exit status 2; what no user can mend keeps its traceback."""
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError, ImportError, ArithmeticError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
        raise SystemExit(2) from None
    except Exception:
        # Not left to Python, whose exit status 1 would say "mismatch".
        traceback.print_exc()
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
