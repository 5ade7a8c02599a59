"""A network that learnt by a local rule as a graph: the same counts, sums and answers, in the emulator and on Lava."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.on_chip.local import LocalSettings, LocalState, infer, initial, to_fixed_network, train_epoch


def learnt(**options: Any) -> tuple[LocalState, np.ndarray]:
    settings = LocalSettings(**({"sizes": (9, 14, 4), "eta": 0.004, "seed": 1} | options))
    generator = np.random.default_rng(2)
    x = generator.random((30, settings.sizes[0])).astype(np.float32)
    state, _ = train_epoch(initial(settings), x, generator.integers(0, settings.sizes[-1], 30))
    return state, x


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": (9, 24, 20, 20, 4), "leak": 0.1},
        {"feedback": "fixed", "leak": 0.1, "bias_payload": 0},
        {"feedback": "learned", "noise_bits": 3},
        {"feedback": "learned", "noise_position": "pre", "readout_exponent": 0, "readout_scale_bits": 7},
        {"memory": "shadow", "steps": 13, "readout_leak": 1.0, "input_exponent": 1, "hidden_exponent": 2},
    ],
    ids=str,
)
def test_the_graph_does_what_infer_does(options: dict[str, Any]) -> None:
    state, x = learnt(**options)
    found, trace = infer(state, x), snn.emulate(to_fixed_network(state), x)
    assert not trace.saturated["readout"]
    np.testing.assert_array_equal(trace.outputs, found.z << 6 - state.settings.readout_exponent)
    np.testing.assert_array_equal(trace.predictions, found.predictions)
    for layer, counts in enumerate(found.counts, start=1):
        np.testing.assert_array_equal(trace.spikes[f"hidden{layer}"].sum(axis=0), counts)
        assert 0 < counts.mean() < state.settings.steps
    assert len(set(found.predictions)) > 1


@pytest.mark.parametrize("feedback", ["transport", "learned"])
def test_lava_runs_it(feedback: str) -> None:
    state, x = learnt(feedback=feedback, sizes=(9, 14, 8, 4))
    report = snn.verify(to_fixed_network(state), x[:4], against=["lava"])
    assert report.ok, report


def test_all_weights_fit_into_the_graph() -> None:
    """Also the largest bias, in a neuron's register."""
    settings = LocalSettings(sizes=(2, 3, 2), bias_payload=32)
    state = initial(settings)
    for value in (-256, 254):
        for memory in state.memories:
            memory[:] = value
        x = np.zeros((1, 2))
        trace = snn.emulate(to_fixed_network(state), x)
        np.testing.assert_array_equal(trace.spikes["hidden1"].sum(axis=0), infer(state, x).counts[0])
    with pytest.raises(LimitError, match=r"bias_payload << input_exponent is 64, .*lower bias_payload"):
        LocalSettings(sizes=(2, 3, 2), bias_payload=32, input_exponent=1)


def test_only_states_become_graphs() -> None:
    with pytest.raises(TypeError, match="LocalState"):
        to_fixed_network("state")  # type: ignore[arg-type]
