"""A network and a trace made by hand, and a reader of HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.trace import Trace

STEPS = 6
SPIKES = {
    # rows: neurons; columns: steps. 0, 3, 1, 5, 3 and 0 spikes
    "first": ["000000", "101010", "000001", "111110", "010101", "000000"],
    "second": ["110000", "000000", "000100"],
}


@pytest.fixture
def network() -> FixedNetwork:
    """first: threshold 12 weight units, 4 of them are 1.0; second: one step later, threshold 5 weight units = 10.0."""
    return FixedNetwork(
        populations=(
            Population("first", 6, vth=12, scale_bits=2),
            Population("second", 3, vth=5, scale_bits=-1, t_start=1),
            Population("out", 4, "accumulator", t_start=2),
        ),
        connections=(
            Connection("first", "second", np.full((3, 6), 2)),
            Connection("second", "out", np.full((4, 3), 2)),
        ),
        host=HostInput("current", 6, targets=("first",)),
        steps=STEPS,
        output="out",
    )


@pytest.fixture
def trace() -> Trace:
    """Two samples: sample 1 has the spikes above, sample 0 none; membrane of neuron n at step t: 64 (10 n + t)."""
    spikes, membranes = {}, {}
    for name, rows in SPIKES.items():
        train = np.array([[int(bit) for bit in row] for row in rows], dtype=np.uint8).T
        spikes[name] = np.stack([np.zeros_like(train), train], axis=1)
        ramp = 64 * (10 * np.arange(train.shape[1]) + np.arange(STEPS)[:, None])
        membranes[name] = np.stack([np.zeros_like(ramp), ramp], axis=1).astype(np.int32)
    membranes["out"] = np.zeros((STEPS, 2, 4), np.int32)
    return Trace(spikes, membranes, np.zeros((2, 4), np.int64))


class Page(HTMLParser):
    """What a browser would see: text, the elements, what it would have to load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.elements, self.sources, self.open = "", [], [], []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.sources += [
            value or "" for key, value in attributes if key in ("src", "href", "data", "action", "srcset", "poster")
        ]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture
def page() -> type[Page]:
    return Page
