"""From events to frames: counts per pixel, polarity and time step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import finite, known_name, shown, whole_number

SLICES = ("count", "time")


@dataclass(frozen=True)
class Framing:
    """How a recording of events becomes T frames. No event is lost, unlike with tonic's ToFrame, which drops those after the
    last full slice (all of them, where a recording has fewer time units or events than slices).

    Args:
        sensor_size: width, height and polarities (W, H, P), as tonic gives it; one polarity merges all.
        steps: number of frames T, at least 1.
        by: "time": slices of equal length from the first event to the last; "count": slices of equal numbers of events.
        spatial_downsample: f >= 1 adds up blocks of f x f pixels.
        max_count: larger counts are cut to this, 1..255; 1 gives binary frames.

    Raises:
        ValueError: a number out of range. TypeError: a number that is not whole. UnknownNameError: unknown ``by``.
    """

    sensor_size: tuple[int, int, int]
    steps: int = 10
    by: str = "time"
    spatial_downsample: int = 1
    max_count: int = 255

    def __post_init__(self) -> None:
        if not isinstance(self.sensor_size, (tuple, list)) or len(self.sensor_size) != 3:
            raise TypeError(f"sensor_size is {shown(self.sensor_size)}; give (width, height, polarities), e.g. (34, 34, 2)")
        object.__setattr__(self, "sensor_size", tuple(whole_number("sensor_size", size) for size in self.sensor_size))
        if min(self.sensor_size) < 1:
            raise ValueError(f"sensor_size is {self.sensor_size}; width, height and polarities are at least 1")
        known_name("slices by", self.by, SLICES)
        for name, most in (("steps", None), ("spatial_downsample", None), ("max_count", 255)):
            value = whole_number(name, getattr(self, name))
            if value < 1 or (most is not None and value > most):
                raise ValueError(f"{name} is {value}; it must be at least 1" + (f" and at most {most}" if most else ""))
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels (polarities), height and width of a frame."""
        width, height, polarities = self.sensor_size
        return polarities, -(-height // self.spatial_downsample), -(-width // self.spatial_downsample)

    def __call__(self, events: NDArray[Any], where: str = "recording") -> NDArray[np.uint8]:
        """Frames uint8 [T, P * H * W] (flat order polarity, row, column) of one recording; zeros if it has no events.

        Args:
            events: structured array [n] with fields x, t, p, and y unless the height is 1; t in any unit and order.
            where: what the recording is called in messages.

        Raises:
            TypeError: no such array. ValueError: events outside of the sensor, times that are NaN or infinite.
        """
        fields = _fields(events, where, needs_y=self.sensor_size[1] > 1)
        width, height, polarities = self.sensor_size
        column = _inside(fields["x"], width, f"{where}: x")
        row = _inside(fields["y"], height, f"{where}: y") if height > 1 else np.zeros_like(column)
        polarity = _inside(fields["p"], polarities, f"{where}: polarity") if polarities > 1 else np.zeros_like(column)
        channels, rows, columns = self.shape
        step = self._steps(fields["t"])
        cell = ((step * channels + polarity) * rows + row // self.spatial_downsample) * columns
        cell += column // self.spatial_downsample
        counts = np.bincount(cell, minlength=self.steps * channels * rows * columns)
        return np.minimum(counts, self.max_count).astype(np.uint8).reshape(self.steps, -1)

    def _steps(self, time: NDArray[Any]) -> NDArray[np.int64]:
        """The step of each event, int64 [n]."""
        # Wide enough for the product below.
        time = time.astype(np.float64 if time.dtype.kind == "f" else np.int64)
        step = np.zeros(len(time), np.int64)
        if len(time) == 0:
            return step
        if self.by == "count":
            step[np.argsort(time, kind="stable")] = np.arange(len(time)) * self.steps // len(time)
            return step
        since = time - time.min()
        if since.max() > 0:
            # The last event ends the last slice and belongs to it.
            step = np.minimum(since * self.steps // since.max(), self.steps - 1).astype(np.int64)
        return step


def _fields(events: Any, where: str, needs_y: bool) -> dict[str, NDArray[Any]]:
    wanted = ("x", "y", "t", "p") if needs_y else ("x", "t", "p")
    names = getattr(getattr(events, "dtype", None), "names", None)
    if names is None or not set(wanted) <= set(names):
        raise TypeError(
            f"{where} is of type {type(events).__name__} with fields {names}; events are a structured numpy array with fields "
            f"{', '.join(wanted)} (tonic.io.make_structured_array)"
        )
    # Some readers give columns [n, 1].
    fields = {name: np.asarray(events[name]).reshape(-1) for name in wanted}
    finite(f"{where}: t", fields["t"])
    return fields


def _inside(values: NDArray[Any], size: int, where: str) -> NDArray[np.int64]:
    whole = values.astype(np.int64)
    outside = (whole < 0) | (whole >= size)
    if outside.any():
        raise ValueError(
            f"{where} {whole[outside][0]} of {int(outside.sum())} events is outside of 0..{size - 1}. Give the sensor_size "
            "that the events have after the transform, and clip_outliers=True to transforms that shift events."
        )
    return whole
