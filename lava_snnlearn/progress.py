"""The progress bar of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from lava_snnlearn.checkpoints import EpochMetrics


class Progress:
    """Shows batches (or samples) done, running means and the time left; prints a line an epoch. Silent if not ``shown``."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self._bar = RichProgress(
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[means]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task("training", total=total, completed=done, means="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, means: Mapping[str, float], by: int = 1) -> None:
        """So much more is done; running means of this epoch, by name."""
        self._bar.update(self._task, advance=by, means=" ".join(f"{name} {value:.3f}" for name, value in means.items()))

    def note(self, row: EpochMetrics) -> None:
        """One epoch is done."""
        valid = "" if row.valid_accuracy != row.valid_accuracy else f"  valid {row.valid_accuracy:.4f}"
        told = "".join(f"  {name} {value:.3g}" for name, value in row.diagnostics.items())
        self.tell(
            f"epoch {row.epoch:3d}  loss {row.train_loss:.4f}  accuracy {row.train_accuracy:.4f}{valid}  "
            f"spike rate {row.spike_rate:.3f}{told}  {row.seconds:.1f} s"
        )

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        if not self._bar.disable:
            self._bar.console.print(line, highlight=False)
