"""The command ``lava-snnlearn run``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lava_snnlearn.commands.arguments import (
    given,
    graph_settings_of,
    kind_of_run,
    layer_sizes,
    method_options,
    refuse_graph,
    task_settings_of,
)
from lava_snnlearn.lava_presence import require_lava

if TYPE_CHECKING:
    from lava_snnlearn.continual.pipeline import Summary as TaskSummary
    from lava_snnlearn.on_chip.pipeline import Summary as OnChipSummary
    from lava_snnlearn.pipeline import Summary
    from lava_snnlearn.reasoning.pipeline import Summary as GraphSummary

_RUN = "What to run"
_TASKS = "Task after task"
_NET = "Network"
_TRAIN = "Training"
_CHIP = "Fixed point"
_FILES = "Files"


def run(
    context: typer.Context,
    method: Annotated[
        str,
        typer.Option(
            help="bptt, dfa, dsr, ep, fa, gpm, grsnn, hlop, ide, opzo, ottt, rate_bp, sltt or spide; see 'lava-snnlearn "
            "methods'.",
            rich_help_panel=_RUN,
        ),
    ] = "ottt",
    on_chip: Annotated[
        bool,
        typer.Option(
            "--on-chip",
            help="dfa, hlop, opzo, ottt, spide: train in the chip's integers, replay on Lava.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, fashion, cifar10; events: nmnist, dvs_gesture, shd ...; GRSNN: umls (its default), nations, "
            "family, kinships, wn18rr, fb15k-237, wn18rr_v1.., fb237_v1.., cora, citeseer, pubmed or a folder of triples.",
            rich_help_panel=_RUN,
        ),
    ] = "digits",
    frames: Annotated[str, typer.Option(help="Events to frames by time or count.", rich_help_panel=_RUN)] = "time",
    augment: Annotated[
        str | None, typer.Option(help="Images: crop, flip, cutout joined by _, e.g. crop_flip.", rich_help_panel=_RUN)
    ] = None,
    update: Annotated[str | None, typer.Option(help="OTTT: accumulate or online.", rich_help_panel=_RUN)] = None,
    k: Annotated[int | None, typer.Option(help="SLTT: steps with a backward (SLTT-K).", rich_help_panel=_RUN)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="Any option of the method, e.g. trace_bias=false, on chip error=mse, of a base method base.trace_bias=false; "
            "see 'methods'.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(
            help="Learn so many tasks one after another. Default: 1; HLOP and GPM 2, of split and rotated data 5.",
            rich_help_panel=_TASKS,
        ),
    ] = None,
    sequence: Annotated[
        str | None,
        typer.Option(
            help="permuted (default), rotated, split (a head each), five (data sets, a head each).", rich_help_panel=_TASKS
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="HLOP, GPM: the method that is protected. Default: ottt.", rich_help_panel=_TASKS)
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Also train from the same weights: gpm, hlop, joint (all tasks at once), sequential (no protection), joined "
            "by commas.",
            rich_help_panel=_TASKS,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Dense layers, e.g. 128,128; a conv net, e.g. 16C3-P2-32C3-P2-128; or vgg, preact_resnet, nf_resnet. "
            "IDE and SPIDE feed the last layer back to the first.",
            rich_help_panel=_NET,
        ),
    ] = None,
    width: Annotated[
        float, typer.Option(help="Factor on the channels of a conv net; GRSNN: neurons of a node.", rich_help_panel=_NET)
    ] = 1.0,
    steps: Annotated[int | None, typer.Option(help="Time steps T of a sample.", rich_help_panel=_NET)] = None,
    leak: Annotated[float | None, typer.Option(help="Membrane lost per step, 0..1 (0: IF).", rich_help_panel=_NET)] = None,
    reset: Annotated[
        str, typer.Option(help="subtract, or zero (runs on Lava's stock LIF).", rich_help_panel=_NET)
    ] = "subtract",
    norm: Annotated[str | None, typer.Option(help="none, bn_step, bn_time or sws.", rich_help_panel=_NET)] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Default: 30 for digits (on chip 10), 2 for mnist and fashion, else 10 (2); of each task 6, 1, else 5; "
            "GRSNN 4 or 20.",
            rich_help_panel=_TRAIN,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Samples a batch. Default: 128, EP 20, task after task 32 for digits, else 64; GRSNN 16, by its "
            "published recipes 5 to 32; on chip always 1.",
            rich_help_panel=_TRAIN,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Default: the method's published one.", rich_help_panel=_TRAIN)
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bits.", rich_help_panel=_TRAIN)] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads of the training; another number may round differently.", rich_help_panel=_TRAIN)
    ] = 1,
    train_size: Annotated[int | None, typer.Option(help="Use only so many training samples.", rich_help_panel=_TRAIN)] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="current (default), graded (8-bit spikes; EP), rate or latency (binary spikes), spikes (events).",
            rich_help_panel=_CHIP,
        ),
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="2..8.", rich_help_panel=_CHIP)] = 8,
    verify_samples: Annotated[
        int, typer.Option(help="Test samples (GRSNN: queries, 4) run on Lava's simulator.", rich_help_panel=_CHIP)
    ] = 32,
    against: Annotated[
        str | None,
        typer.Option(help="Verify against these, with commas: lava, torch. Default: both.", rich_help_panel=_CHIP),
    ] = None,
    replay_samples: Annotated[
        int, typer.Option(help="On chip: training samples (of each task) that Lava learns again.", rich_help_panel=_CHIP)
    ] = 10,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the run; default METHOD-DATA, METHOD-on-chip-DATA or METHOD-SEQUENCE-DATA.", rich_help_panel=_FILES
        ),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder of all runs.", rich_help_panel=_FILES)] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.", rich_help_panel=_FILES)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.", rich_help_panel=_FILES)] = False,
) -> None:
    """Train, quantize, emulate on the whole test set, verify on Lava, write a report.

    With --on-chip the network learns in the chip's own integers, and Lava learns the first samples again.

    HLOP and GPM learn a sequence of tasks, and so does every method with --tasks or --sequence (the sequential baseline).

    GRSNN learns the synaptic delays of a network that reasons on a graph of facts.

    Exit status: 0 all equal, 1 a mismatch between emulator (or simulator) and Lava, 2 an error.

    Examples:

      lava-snnlearn run

      lava-snnlearn run --method sltt --k 2 --epochs 30

      lava-snnlearn run --method bptt --data mnist --input graded --weight-bits 6

      lava-snnlearn run --method rate_bp --data fashion --layers 16C3-P2-32C3-P2-128 --augment flip

      lava-snnlearn run --data nmnist --input spikes --steps 10

      lava-snnlearn run --method ide --data mnist --layers 400 --steps 5

      lava-snnlearn run --method spide --on-chip --option error=mse --replay-samples 20

      lava-snnlearn run --method opzo --option position=pre

      lava-snnlearn run --method hlop --compare sequential,joint

      lava-snnlearn run --method gpm --base sltt --data mnist --sequence split

      lava-snnlearn run --method hlop --on-chip --tasks 3

      lava-snnlearn run --method grsnn --data umls

      lava-snnlearn run --method grsnn --data my_triples --width 32 --option max_delay=6

      torchrun --nproc-per-node 2 -m lava_snnlearn run --data mnist
    """
    if resume and overwrite:
        raise ValueError("--resume continues an earlier run and --overwrite deletes it; give one of them")
    options = given(context)
    kind = kind_of_run(options, method, on_chip)
    if kind != "graph":
        refuse_graph(data)
    if kind in ("graph", "on chip"):
        require_lava()
    shared: dict[str, Any] = {
        "method": method,
        "data": data,
        "options": (
            *((key, value) for key, value in (("update", update), ("k", k)) if value is not None),
            *((("leak", leak),) if on_chip and leak is not None else ()),
            *method_options(option or []),
        ),
        "layers": None if layers is None else layer_sizes(layers),
        "epochs": epochs,
        "steps": steps,
        "learning_rate": learning_rate,
        "seed": seed,
        "verify_samples": verify_samples,
        "train_size": train_size,
    }
    job: Callable[..., Summary | OnChipSummary | TaskSummary | GraphSummary | None]
    off_chip: dict[str, Any] = {
        "width": width,
        "frames": frames,
        "augment": augment,
        "leak": leak,
        "reset": reset,
        "norm": norm,
        "input": input,
        "weight_bits": weight_bits,
        "against": None if against is None else tuple(against.split(",")),
        "batch_size": batch_size,
        "threads": threads,
    }
    default_name = f"{method}-{data}"
    headings: tuple[str, ...] = ("", "test accuracy")
    if kind == "graph":
        from lava_snnlearn.reasoning import pipeline as graph_pipeline

        graph_settings = graph_settings_of(shared | off_chip, options)
        default_name, headings = f"{method}-{graph_settings.title}", ("test queries", "float", "fixed point")
        job = partial(graph_pipeline.run, graph_settings)
    elif kind == "on chip":
        from lava_snnlearn.on_chip import pipeline as on_chip_pipeline

        default_name = f"{method}-on-chip-{data}"
        on_chip_settings = on_chip_pipeline.Settings(**shared, tasks=tasks, replay_samples=replay_samples)
        job = partial(on_chip_pipeline.run, on_chip_settings)
    elif kind == "tasks":
        from lava_snnlearn.continual import pipeline as task_pipeline

        task_settings = task_settings_of(shared | off_chip, options, tasks, sequence, base, compare)
        default_name = f"{method}-{task_settings.title}"
        job = partial(task_pipeline.run, task_settings)
    else:
        from lava_snnlearn import pipeline

        job = partial(pipeline.run, pipeline.Settings(**shared, **off_chip))
    folder = runs_dir / (name or default_name)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        summary = job(folder, resume=resume, overwrite=overwrite, tell=console.print)
    except FileExistsError as error:
        raise FileExistsError(
            f"{folder} holds a checkpoint of an earlier run. Continue it with --resume, replace it with --overwrite, or choose "
            "another --name."
        ) from error
    if summary is None:
        raise typer.Exit(0)
    table = Table(title=str(folder))
    for heading in headings:
        table.add_column(heading)
    for row in summary.rows():
        table.add_row(*row)
    Console().print(table)
    console.print(f"open {folder / 'report.html'}")
    raise typer.Exit(0 if summary.ok else 1)
