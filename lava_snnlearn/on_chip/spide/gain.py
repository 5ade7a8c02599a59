"""The gain of the injected gradient: large enough that neurons spike in the backward phase, small enough that few saturate."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lava_snnlearn.on_chip.spide.simulator import Diagnostics, diagnose
from lava_snnlearn.on_chip.spide.state import OnChipState

CLIPPED_MAX = 0.01
"""At most this share may be clipped, or saturated: a gradient beyond the range cannot be mended by more steps."""
SPIKES_MIN = 2
"""The median active neuron should spike this often: below half a spike it is dead."""
GAIN_BITS = range(-8, 13)
"""Gains that are tried, as exponents of two."""
_LOG = logging.getLogger(__name__)


class GainTrial(NamedTuple):
    """What a gain of 2 ** gain_bits does to a batch."""

    gain_bits: int
    diagnostics: Diagnostics

    @property
    def in_range(self) -> bool:
        """Less than 1 % clipped and less than 1 % saturated."""
        return self.diagnostics.clipped < CLIPPED_MAX and self.diagnostics.saturated < CLIPPED_MAX

    def audible(self, backward_steps: int) -> bool:
        """The median active neuron spikes at least twice."""
        return self.diagnostics.median_beta * backward_steps >= SPIKES_MIN


def choose_gain(state: OnChipState, x: ArrayLike, y: ArrayLike) -> tuple[OnChipState, tuple[GainTrial, ...]]:
    """Set the gain by what it does to a batch (spec: < 1 % clipped, median active |beta| >= 2 / T_B).

    Of the powers of two that fulfil both, the middle one is taken: gradients grow with the readout's weights at first, and
    shrink with the errors later. If none does, the largest one in range is taken and a warning is logged: raise
    backward_steps. The trials are logged, too.

    Args:
        state: the network; its weights are not changed.
        x, y: some hundred samples, as in ``train_epoch``.

    Returns:
        The network with this gain, and all trials, by gain.

    Raises:
        ValueError: every gain clips too much, or no sample has both an error and a hidden neuron whose mask is open.
        LimitError, TypeError: data that do not fit.
    """
    trials = []
    for bits in GAIN_BITS:
        trial = GainTrial(bits, diagnose(_with_gain(state, bits), x, y))
        _LOG.info("gain 2^%d: %s", bits, trial.diagnostics)
        trials.append(trial)
        if not trial.in_range:
            break
    fitting = [trial for trial in trials if trial.in_range]
    if not fitting and math.isnan(trials[0].diagnostics.saturated):
        raise ValueError(
            f"no gain can be chosen: none of the {np.shape(y)[0]} samples has both an error and a hidden neuron that fired, "
            "but not in every step; raise steps or the first layer's weights, or pass samples that the network does not answer "
            "perfectly"
        )
    if not fitting:
        raise ValueError(
            f"no gain from 2^{GAIN_BITS[0]} on keeps less than 1 % clipped and less than 1 % saturated "
            f"({trials[0].diagnostics}); lower the readout's weights"
        )
    steps = state.settings.backward_steps
    audible = [trial for trial in fitting if trial.audible(steps)]
    best = audible[(len(audible) - 1) // 2] if audible else fitting[-1]
    spikes = best.diagnostics.median_beta * steps
    level = logging.INFO if audible else logging.WARNING
    _LOG.log(level, "gain 2^%d chosen; the median active neuron spikes %.1f times", best.gain_bits, spikes)
    return _with_gain(state, best.gain_bits), tuple(trials)


def _with_gain(state: OnChipState, bits: int) -> OnChipState:
    return replace(state, settings=replace(state.settings, gain_bits=bits))
