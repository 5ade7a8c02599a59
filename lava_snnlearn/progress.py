"""The progress bar of a training run."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from lava_snnlearn.checkpoints import EpochMetrics


class Progress:
    """Shows batches done, loss, accuracy, spike rate and the time left; prints a line an epoch. Silent if not ``shown``."""

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

    def advance(self, loss: float, accuracy: float, rate: float) -> None:
        """One batch is done; running means of this epoch."""
        self._bar.update(self._task, advance=1, means=f"loss {loss:.3f} acc {accuracy:.3f} rate {rate:.3f}")

    def note(self, row: EpochMetrics) -> None:
        """One epoch is done."""
        if self._bar.disable:
            return
        valid = "" if row.valid_accuracy != row.valid_accuracy else f"  valid {row.valid_accuracy:.4f}"
        self._bar.console.print(
            f"epoch {row.epoch:3d}  loss {row.train_loss:.4f}  accuracy {row.train_accuracy:.4f}{valid}  "
            f"spike rate {row.spike_rate:.3f}  {row.seconds:.1f} s",
            highlight=False,
        )
