"""Both phases of equilibrium propagation on Lava's simulator, bit for bit those of the integer training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.energy_networks import TOP, EnergyIntegers
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, run_guarded
from lava_snnlearn.lava_backend.schedule import held, scheduled
from lava_snnlearn.processes.ep_neuron.process import EPNeuron
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource


@dataclass(frozen=True)
class BothPhases:
    """``states`` and ``messages`` of each layer, int64 [T + K, B, n_l]: the state after each step, and what was sent then."""

    states: tuple[NDArray[np.int64], ...]
    messages: tuple[NDArray[np.int64], ...]

    @property
    def events(self) -> NDArray[np.int64]:
        """Messages other than 0 of all layers, [T + K, B]."""
        return np.asarray(sum(np.count_nonzero(sent, axis=2) for sent in self.messages))


def run_both_phases(
    chip: EnergyIntegers,
    payloads: NDArray[np.integer[Any]],
    target: NDArray[np.integer[Any]],
    *,
    beta: int,
    steps: int,
    nudged_steps: int,
    changes: bool = False,
    time_limit: float = TIME_LIMIT,
) -> BothPhases:
    """Run samples one after the other: ``steps`` free steps, then ``nudged_steps`` nudged ones.

    Layers are ``EPNeuron`` processes, the matrices stock ``Dense``, once in each direction.

    Args:
        chip: the network; see :func:`~lava_snnlearn.fixed_point.energy_networks.energy_integers`.
        payloads, target: integers [B, n] and [B, classes]; 127 is 1.0.
        beta: in 1/256; the second run of a centred estimate has -beta.
        steps, nudged_steps: T and K.
        changes: neurons send changes of their state instead of the state; same states, fewer messages.
        time_limit: see :func:`~lava_snnlearn.lava_backend.graph.run_lava`.

    Raises:
        ValueError: a number of steps below 1; shapes that do not fit. LavaRunError: the run failed.
    """
    total = at_least(1, "steps", steps) + at_least(1, "nudged_steps", nudged_steps)
    sizes = [chip.weights[0].shape[1], *(len(weight) for weight in chip.weights)]
    for name, rows, size in (("payloads", payloads, sizes[0]), ("target", target, sizes[-1])):
        if rows.ndim != 2 or rows.shape[1] != size or len(rows) != len(payloads) or not len(rows):
            raise ValueError(f"{name} has shape {rows.shape}; expected [{len(payloads)} (samples, at least 1), {size}]")
    period, last = total + 1, len(chip.weights) - 1
    neurons = [
        EPNeuron(
            shape=(sizes[index + 1],),
            shift=chip.shift,
            top=TOP,
            bias_mant=chip.mantissas[index],
            bias_exp=chip.exponents[index],
            beta=beta if index == last else 0,
            t_nudge=1 + steps,
            changes=changes,
            t_start=1,
            reset_interval=period,
        )
        for index in range(last + 1)
    ]
    # A constant input is one change, and then none.
    source = SampleSource(data=scheduled(held(payloads, 1 if changes else total), period))
    _connect(source, chip.weights[0], neurons[0])
    for weight, below, above in zip(chip.weights[1:], neurons, neurons[1:], strict=False):
        _connect(below, weight, above)
        _connect(above, weight.T, below)
    SampleSource(data=scheduled(held(target, 1), period)).s_out.connect(neurons[-1].y_in)
    recorders = [Recorder(shape=(size,), steps=len(payloads) * period) for size in sizes[1:]]
    for neuron, recorder in zip(neurons, recorders, strict=True):
        neuron.s_out.connect(recorder.s_in)
        recorder.v_ref.connect_var(neuron.v)
    run_guarded(source, len(payloads) * period, run_config("fixed_pt"), time_limit)

    def active(rows: NDArray[Any]) -> NDArray[np.int64]:
        return rows.reshape(len(payloads), period, -1).swapaxes(0, 1)[1:].astype(np.int64)

    return BothPhases(
        tuple(active(recorder.membranes) for recorder in recorders),
        tuple(active(recorder.spikes) for recorder in recorders),
    )


def _connect(sender: AbstractProcess, weight: NDArray[np.int64], target: AbstractProcess) -> None:
    synapse = Dense(weights=weight, num_weight_bits=limits.WEIGHT_BITS, num_message_bits=8, sign_mode=SignMode.MIXED)
    sender.s_out.connect(synapse.s_in)
    synapse.a_out.connect(target.a_in)
