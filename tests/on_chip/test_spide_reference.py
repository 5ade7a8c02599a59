"""The simulator of on-chip SPIDE against a slow reference that goes through a sample step by step, as the processes do."""

from __future__ import annotations

import numpy as np
import pytest

from lava_snnlearn.fixed_point.arithmetic import soft_reset_step, ternary_step
from lava_snnlearn.fixed_point.plasticity import (
    backward_sums,
    count_update,
    forward_sums,
    nearest_update,
    stochastic_update,
)
from lava_snnlearn.on_chip.spide import (
    OnChipSettings,
    OnChipState,
    from_weights,
    train_sample,
)


class SlowSynapses:
    """One plastic connection: sums leave one step late, counters see all that comes in."""

    def __init__(self, part, memory, view) -> None:
        self.part, self.memory, self.view = part, memory, view
        self.pre, self.post = np.zeros(part.n_in, np.int64), np.zeros(part.n_out, np.int64)
        self.a_next, self.b_next = np.zeros(part.n_out, np.int64), np.zeros(part.n_in, np.int64)

    def send(self):
        return self.a_next, self.b_next

    def receive(self, s, b) -> None:
        self.pre, self.post = self.pre + s, self.post + b
        self.a_next = forward_sums(self.view, s, self.part.exponent)
        self.b_next = backward_sums(self.view, b, self.part.back_exponent)


def slow_sample(state: OnChipState, payload: np.ndarray, label: int):
    """Forward counts, masks, z, e, g, clipped, backward counts and memories after one sample, phase by phase."""
    settings, last = state.settings, state.settings.layers
    T, TB, e_phase = settings.steps, settings.backward_steps, settings.layers + settings.steps
    parts = dict(zip(settings.names, map(SlowSynapses, settings.synapses, state.memories, state.views), strict=True))
    into = lambda layer: ["F", "R"] if layer == 1 else [f"W{layer - 1}"]  # noqa: E731
    out_of = lambda layer: ["R", "C"] if layer == last else [f"W{layer}"]  # noqa: E731
    size = settings.sizes
    v, u = ([np.zeros(n, np.int64) for n in size] for _ in range(2))
    counts, back = ([np.zeros(n, np.int64) for n in size] for _ in range(2))
    mask: list = [None] * len(size)
    z, g, e = np.zeros(size[-1], np.int64), np.zeros(size[last], np.int64), np.zeros(size[-1], np.int64)
    clipped = 0
    for phase in range(e_phase + TB + last):
        sent = {name: part.send() for name, part in parts.items()}
        s_in = {name: np.zeros(part.part.n_in, np.int64) for name, part in parts.items()}
        b_in = {name: np.zeros(part.part.n_out, np.int64) for name, part in parts.items()}
        if phase < T:
            s_in["F"] = payload
        for layer in range(1, last + 1):
            if layer <= phase < layer + T:
                drive = sum(sent[name][0] for name in into(layer))
                step = soft_reset_step(v[layer], drive, dv=0, bias=0, vth=settings.vth, delta=settings.delta)
                v[layer] = step.membrane
                counts[layer] += step.spike
                for name in out_of(layer):
                    s_in[name] = step.spike.astype(np.int64)
        z += sent["C"][0]
        if phase == e_phase:
            e = settings.error_of(z, np.eye(size[-1], dtype=np.int64)[label])
            b_in["C"] = e
        g += sent["C"][1]
        for layer in range(last, 0, -1):
            first = e_phase + 1 + last - layer
            if phase == first:
                mask[layer] = (counts[layer] > 0) & (counts[layer] < T)
                if layer == last:
                    limited = np.clip(g, -settings.delta, settings.delta)
                    clipped, g = int((g != limited).sum()), limited
            if first <= phase < first + TB:
                drive = sent["R" if layer == last else f"W{layer}"][1] + (g if layer == last else 0)
                step = ternary_step(u[layer], drive, dv=0, bias=0, vth=settings.delta // 2, delta=settings.delta)
                u[layer] = step.membrane
                emitted = step.spike * mask[layer]
                back[layer] += emitted
                for name in into(layer):
                    b_in[name] = emitted.astype(np.int64)
        for name, part in parts.items():
            part.receive(s_in[name], b_in[name])
    hidden = slice(1, last + 1)
    return counts[hidden], mask[hidden], z, e, g, clipped, back[hidden], [slow_update(state, part) for part in parts.values()]


def slow_update(state: OnChipState, synapses: SlowSynapses) -> np.ndarray:
    part, memory = synapses.part, synapses.memory
    multiplier, shift = part.rate(state.rate)
    if state.settings.memory == "stochastic":
        return stochastic_update(memory, synapses.pre, synapses.post, multiplier, shift, part.seed, state.samples, part.mask)
    rule = count_update if state.settings.memory == "shadow" else nearest_update
    return rule(memory, synapses.pre, synapses.post, multiplier, shift, part.mask)


def some_state(seed: int) -> OnChipState:
    """A network of random form, with weights that make it lively down to the last layer."""
    draw = np.random.default_rng(seed)
    layers = seed % 3 + 1
    sizes = (5, *(int(n) for n in draw.integers(3, 12, layers)), 4)
    bias = int(draw.choice([0, 16]))
    masks = {"F": draw.random((sizes[1], 5 + (bias > 0))) < 0.7, "R": draw.random((sizes[1], sizes[-2])) < 0.8}
    settings = OnChipSettings(
        sizes=sizes,
        steps=int(draw.integers(2, 25)),
        backward_steps=int(draw.integers(2, 40)),
        bias_payload=bias,
        gain_bits=int(draw.integers(0, 6)),
        eta=float(draw.choice([1.0, 30.0])),
        error=str(draw.choice(["softmax", "mse"])),
        memory=("shadow", "stochastic", "nearest")[(seed // 3) % 3],
        seed=seed,
        gamma=float(draw.choice([0.5, 0.95])),
        masks=masks if draw.random() < 0.5 else {},
        frozen=("R",) if draw.random() < 0.2 else (),
    )
    weights = [draw.uniform(-0.4, 0.95, (part.n_out, part.n_in)) for part in settings.synapses]
    return from_weights(settings, weights)


@pytest.mark.parametrize("seed", range(18))
def test_every_integer_equals_the_step_by_step_reference(seed: int) -> None:
    draw = np.random.default_rng(seed + 1000)
    state = some_state(seed)
    moved = False
    for _ in range(4):
        x, label = draw.integers(0, 60, 5), int(draw.integers(0, 4))
        forward, mask, z, e, g, clipped, backward, memories = slow_sample(state, state.payload(x), label)
        before = state
        state, record = train_sample(state, x, label)
        for expected, found in (
            (forward, record.forward),
            (mask, record.masks),
            (backward, record.backward),
            (memories, state.memories),
            ([z, e, g], [record.z, record.e, record.g]),
            (state.views, record.views),
        ):
            assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))
        assert record.clipped == clipped
        assert state.samples == before.samples + 1
        moved |= any((one != other).any() for one, other in zip(before.memories, state.memories, strict=True))
        for part, memory in zip(state.settings.synapses, state.memories, strict=True):
            assert part.mask is None or not memory[~part.mask].any()
    assert moved


def test_the_reference_networks_spike_in_both_phases() -> None:
    for layers in (1, 2, 3):
        spikes = np.zeros((2, layers), int)
        for seed in range(layers - 1, 18, 3):
            state = some_state(seed)
            for label in range(4):
                _, record = train_sample(state, np.arange(5) * 12, label)
                spikes += [[np.abs(c).sum() for c in counts] for counts in (record.forward, record.backward)]
        assert (spikes > 100).all()
