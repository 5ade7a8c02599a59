"""The whole network that learns, phase by phase, compiled by numba: the loop around ``fixed_point.local_learning``.

Arrays of all layers lie one after the other ("flat"). Connection c joins layer c (0: the input) to layer c + 1 (the last: the
readout); hidden layer l = c + 1 and connection c have the same place in every tuple. Within a phase the order is that of the
Lava processes: neurons hear what the connections sent on the phase before, the readout computes its error, then connections
read spikes and factors of this phase, and learn.

``walk`` is one long loop on purpose: numba counts the references to every array of a tuple that is handed on, also to functions
that it pastes in, and cut into parts the walk of a small network takes 1.3 to 2 times as long.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from lava_snnlearn.fixed_point import local_learning as local
from lava_snnlearn.neurons.compiling import compiled, inlined

Plan = namedtuple(
    "Plan",
    "layers steps period classes rule accumulate error feedback antithetic pre_noise spike_bits amplitude dv vth table"
    " table_shift readout_dv error_table error_shift momentum baseline average learn_step"
    " n_in n_out memory_at pre_at post_at exponent back_exponent impulse trace_dv delay multiplier shift seed"
    " matrix_at signal_shift noise_seed"
    " rows old subspace_at turn_multiplier turn_shift",
)
"""Constants of a network: integers, tables, and from ``n_in`` on one int64 array each with an entry a connection
(``matrix_at``, ``signal_shift``, ``noise_seed``: a hidden layer). See ``simulator.plan_of``."""

Memory = namedtuple("Memory", "weights matrices means subspaces velocities sums")
"""What changes by learning, flat: weights int16, matrices int32, means int32 [layers, classes], subspaces int16, velocities
int32, sums int64."""

Record = namedtuple("Record", "spikes noise factors signals outputs weights matrices subspaces")
"""What happened: spikes and noise int8 [B, P, N], factors int16 [B, P, N + classes] (the readout's: its error), signals int16
[B, P, N], outputs int32 [B, P, classes], weights and matrices after every phase, subspaces after every sample. B = 0: none is
kept."""

TRANSPORT, FIXED, LEARNED = range(3)
"""Numbers of ``settings.FEEDBACKS``."""


@compiled
def walk(
    plan: Plan, memory: Memory, payload: np.ndarray, labels: np.ndarray, sample: int, count: int, learning: bool,
    record: Record, counts: np.ndarray, evidence: np.ndarray, tally: np.ndarray,
) -> int:  # fmt: skip
    """Samples one after the other; returns the number of feedback updates so far.

    payload: int32 [B, 1 or T, channels]. labels: int64 [B], -1: no error. sample: number of the first. count: feedback updates
    before. counts: int32 [B, N], is filled with spike counts; evidence: int64 [B, classes], with the readout's sums.
    tally: int64 [3]: adds clipped membranes, signals at their limit, signals.
    """
    hidden = plan.layers
    neurons = plan.post_at[hidden]
    total_out, total_in = neurons + plan.classes, plan.pre_at[hidden] + plan.n_in[hidden]
    membrane, spikes, noise = np.zeros(neurons, np.int32), np.zeros(neurons, np.int32), np.zeros(neurons, np.int32)
    quiet = np.zeros(neurons, np.int32)
    sent = np.zeros(total_in, np.int32)
    psi = np.zeros((plan.period, neurons), np.int32)
    past_noise = np.zeros((plan.period, neurons), np.int32)
    past_spikes = np.zeros((plan.period, total_in), np.int32)
    trace, rest, image = np.zeros(total_in, np.int32), np.zeros(total_in, np.int32), np.zeros(total_in, np.int32)
    response = np.zeros(max(1, plan.rows.max()), np.int32)
    current, factor = np.zeros(total_out, np.int32), np.zeros(total_out, np.int32)
    back, signal = np.zeros(total_in, np.int32), np.zeros(neurons, np.int32)
    gradient = np.zeros(len(memory.weights) if plan.accumulate else 0, np.int32)
    output, heard, centred = (
        np.zeros(plan.classes, np.int32), np.zeros(plan.classes, np.int32), np.zeros(plan.classes, np.int32),
    )  # fmt: skip
    for b in range(len(payload)):
        number = sample + b
        membrane[:], trace[:], current[:], back[:], signal[:], output[:] = 0, 0, 0, 0, 0, 0
        for phase in range(plan.period):
            # Neurons.
            for c in range(hidden):
                at, end = plan.post_at[c], plan.post_at[c + 1]
                down = plan.pre_at[c + 1]
                active = c + 1 <= phase < c + 1 + plan.steps
                noise[at:end] = 0
                if active:
                    if learning and plan.feedback == LEARNED:
                        step = number * plan.steps + phase - c - 1
                        local.rademacher(noise[at:end], plan.noise_seed[c], step, plan.antithetic)
                    shaking = noise[at:end] if plan.pre_noise else quiet[at:end]
                    tally[0] += local.fire(
                        membrane[at:end], current[at:end], shaking, spikes[at:end], psi[phase, at:end], plan.dv, plan.vth,
                        plan.amplitude, plan.table, plan.table_shift,
                    )  # fmt: skip
                else:
                    spikes[at:end] = 0
                    psi[phase, at:end] = 0
                past_noise[phase, at:end] = noise[at:end]
                for i in range(at, end):
                    counts[b, i] += spikes[i]
                    sent[down + i - at] = spikes[i] << plan.spike_bits
                    if not plan.pre_noise:
                        sent[down + i - at] += noise[i]
                heard_signal = back[down : down + end - at] if plan.feedback == TRANSPORT else signal[at:end]
                delay = plan.delay[c] - 1
                if learning and phase >= delay:
                    local.modulate(psi[phase - delay, at:end], heard_signal, factor[at:end])
                else:
                    factor[at:end] = 0
                if len(record.spikes) > 0:
                    record.spikes[b, phase, at:end] = spikes[at:end]
                    record.noise[b, phase, at:end] = noise[at:end]
                    record.signals[b, phase, at:end] = heard_signal
                if learning and phase >= delay + c + 1:
                    for i in range(at, end):
                        tally[1] += abs(heard_signal[i - at]) == local.FACTOR_MAX
                    tally[2] += end - at
            # Readout.
            last = plan.post_at[hidden]
            active = hidden + 1 <= phase < hidden + 1 + plan.steps
            if active:
                heard[:] = current[last:]
                local.integrate(output, heard, plan.readout_dv)
                for k in range(plan.classes):
                    evidence[b, k] += heard[k]
                local.output_error(
                    plan.error, output, labels[b] if learning else -1, plan.error_table, plan.error_shift, factor[last:]
                )
            else:
                heard[:] = 0
                factor[last:] = 0
            # Connections.
            sent[: plan.n_in[0]] = 0
            if phase < plan.steps:
                sent[: plan.n_in[0]] = payload[b, min(phase, payload.shape[1] - 1)]
            for c in range(hidden + 1):
                at, end = plan.post_at[c], plan.post_at[c] + plan.n_out[c]
                first, stop = plan.pre_at[c], plan.pre_at[c] + plan.n_in[c]
                place = plan.memory_at[c]
                size = plan.n_out[c] * plan.n_in[c]
                weights = memory.weights[place : place + size].reshape(plan.n_out[c], plan.n_in[c])
                local.forward(weights, plan.rule, sent[first:stop], plan.exponent[c], current[at:end])
                if not learning:
                    continue
                if plan.feedback == TRANSPORT and c > 0:
                    local.backward(weights, plan.rule, factor[at:end], plan.back_exponent[c], back[first:stop])
                local.clean(sent[first:stop], plan.spike_bits if c > 0 else 0, past_spikes[phase, first:stop])
                if phase >= plan.delay[c]:
                    local.filter_trace(
                        trace[first:stop], past_spikes[phase - plan.delay[c], first:stop], plan.trace_dv[c], plan.impulse[c]
                    )
                pre = trace[first:stop]
                if plan.rows[c] > 0:
                    room = plan.subspace_at[c]
                    length = plan.rows[c] * plan.n_in[c]
                    shape = (plan.rows[c], plan.n_in[c])
                    subspace = memory.subspaces[room : room + length].reshape(shape)
                    sums = memory.sums[room : room + length].reshape(shape)
                    local.residual(subspace, plan.old[c], pre, response, image[first:stop], rest[first:stop])
                    begin = c + plan.delay[c]
                    if begin <= phase < begin + plan.steps:
                        local.hear(subspace, plan.old[c], plan.rows[c], pre, response, image[first:stop], sums)
                    pre = rest[first:stop]
                if plan.multiplier[c] > 0:
                    if plan.accumulate:
                        held = gradient[place : place + size].reshape(plan.n_out[c], plan.n_in[c])
                        local.gather(held, pre, factor[at:end])
                    else:
                        local.learn(
                            weights, plan.rule, pre, factor[at:end], plan.multiplier[c], plan.shift[c], plan.seed[c],
                            number * plan.period + phase,
                        )  # fmt: skip
            # Direct feedback.
            if learning and plan.feedback != TRANSPORT:
                updated = False
                for c in range(hidden):
                    at, end = plan.post_at[c], plan.post_at[c + 1]
                    room = plan.matrix_at[c]
                    width = end - at
                    matrix = memory.matrices[room : room + width * plan.classes].reshape(width, plan.classes)
                    old_phase = phase - (hidden - c)
                    if plan.feedback == LEARNED and old_phase >= 0 and past_noise[old_phase, at:end].any():
                        if plan.baseline > 0:
                            local.centre(heard, memory.means[c], plan.baseline, centred)
                        else:
                            centred[:] = heard
                        bits = local.momentum_bits(count + 1, plan.momentum)
                        local.learn_feedback(matrix, past_noise[old_phase, at:end], centred, bits)
                        updated = True
                    local.feed_back(matrix, factor[last:], plan.signal_shift[c], signal[at:end])
                count += updated
            if learning and phase == plan.learn_step:
                _end(plan, memory, gradient, number)
            if len(record.spikes) > 0:
                record.factors[b, phase] = factor
                record.outputs[b, phase] = output
                record.weights[b, phase] = memory.weights
                record.matrices[b, phase] = memory.matrices
        if len(record.subspaces) > 0:
            record.subspaces[b] = memory.subspaces
    return count


@inlined
def _end(plan: Plan, memory: Memory, gradient: np.ndarray, number: int) -> None:
    """What happens once a sample: gathered changes are made, and subspaces turn."""
    for c in range(plan.layers + 1):
        if plan.accumulate and plan.multiplier[c] > 0:
            place, size = plan.memory_at[c], plan.n_out[c] * plan.n_in[c]
            shape = (plan.n_out[c], plan.n_in[c])
            local.apply_gathered(
                memory.weights[place : place + size].reshape(shape), plan.rule, gradient[place : place + size].reshape(shape),
                plan.multiplier[c], plan.shift[c], plan.seed[c], number * plan.period + plan.learn_step,
            )  # fmt: skip
        if plan.rows[c] > plan.old[c] and (number + 1) % plan.average == 0:
            room, length = plan.subspace_at[c], plan.rows[c] * plan.n_in[c]
            shape = (plan.rows[c], plan.n_in[c])
            local.turn(
                memory.subspaces[room : room + length].reshape(shape), memory.velocities[room : room + length].reshape(shape),
                memory.sums[room : room + length].reshape(shape), plan.old[c], plan.rows[c], plan.turn_multiplier[c],
                plan.turn_shift[c],
            )  # fmt: skip
