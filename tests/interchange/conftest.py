"""Running an exported file where it belongs: lava-dl's own Network on Lava's simulator."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from lava_snnlearn.lava_presence import require_lava


@pytest.fixture
def shipped() -> Callable[[str], Path]:
    """End of a name -> the file of the tests of netx in lava-dl's wheel."""
    require_lava()
    files = metadata.files("lava-dl") or []

    def find(name: str) -> Path:
        [found] = [file for file in files if str(file).endswith(f"/{name}")]
        return Path(str(found.locate()))

    return find


class NetxResult(NamedTuple):
    """Spikes and membranes [T, B, n] of the output layer in its active steps, in the order C, H, W; of images no membranes."""

    spikes: NDArray[Any]
    membranes: NDArray[Any] | None


def _cut(recorded: NDArray[Any], first: int, steps: int, interval: int, samples: int) -> NDArray[Any]:
    """Recorded [steps of all samples, n] as [T, B, n]."""
    return np.stack([recorded[b * interval + first :][:steps] for b in range(samples)], axis=1)


@pytest.fixture
def run_netx() -> Any:
    """(path, run, signal [T, B, n], input image or None) -> NetxResult; one run of the simulator, or one a sample
    (``one_by_one``)."""
    require_lava()
    from lava.lib.dl.netx.hdf5 import Network
    from lava.proc.io.source import RingBuffer

    from lava_snnlearn.lava_backend import run_guarded
    from lava_snnlearn.processes.recorder.process import Recorder

    def once(path: Any, run: Any, signal: NDArray[Any], image: tuple[int, ...] | None) -> NetxResult:
        steps, samples, size = signal.shape
        interval = run.reset_interval or steps + run.first_output
        fed = np.zeros((samples * interval, size), np.int32)
        for b in range(samples):
            fed[b * interval :][:steps] = signal[:, b]
        net = Network(net_config=str(path), **run.arguments)
        data = fed.T if image is None else fed.T.reshape(*image, -1).transpose(2, 1, 0, 3)
        source = RingBuffer(data=np.ascontiguousarray(data))
        source.s_out.connect(net.in_layer.neuron.a_in if net.in_layer.block == "Input" else net.inp)
        shape = net.out_layer.out.shape
        recorder = Recorder(shape=(int(np.prod(shape)),), steps=len(fed))
        if len(shape) == 1:
            net.out.connect(recorder.s_in)
            recorder.v_ref.connect_var(net.out_layer.neuron.v)
        else:
            net.out.transpose([2, 1, 0]).flatten().connect(recorder.s_in)
        run_guarded(source, len(fed))
        window = run.first_output, steps, interval, samples
        return NetxResult(_cut(recorder.spikes, *window), _cut(recorder.membranes, *window) if len(shape) == 1 else None)

    def netx(path: Any, run: Any, signal: NDArray[Any], image: tuple[int, ...] | None = None) -> NetxResult:
        signal = np.asarray(signal)
        if not run.one_by_one:
            return once(path, run, signal, image)
        parts = [once(path, run, signal[:, b : b + 1], image) for b in range(signal.shape[1])]
        spikes = np.concatenate([part.spikes for part in parts], axis=1)
        if any(part.membranes is None for part in parts):
            return NetxResult(spikes, None)
        return NetxResult(spikes, np.concatenate([part.membranes for part in parts], axis=1))

    return netx
