"""What trainer, pipeline and report do with a network that learns on the chip, whatever it learns by."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from lava_snnlearn.checks import instance_of
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.on_chip import local, spide

Settings: TypeAlias = spide.OnChipSettings | local.LocalSettings
State: TypeAlias = spide.OnChipState | local.LocalState
_LOCAL_METHODS = dict(zip(local.FEEDBACKS, ("ottt", "dfa", "opzo"), strict=True))


@dataclass(frozen=True)
class Learner:
    """The functions of one kind of networks.

    Attributes:
        settings, state: their classes.
        method: state -> name of the method, as of ``lava_snnlearn.methods``.
        initial: settings -> state before learning.
        infer: (state, x) -> Inference. train_epoch: (state, x, y) -> (state, EpochReport).
        to_fixed_network: state -> FixedNetwork.
        choose_gain: (state, x, y) -> state, for whom a gain has to be found; None: no need.
        answers_first: an epoch's accuracy is that of answers that were complete before their sample was learnt.
        lava: module with ``verify_learning``.
    """

    settings: type[Settings]
    state: type[State]
    method: Callable[[Any], str]
    initial: Callable[[Any], Any]
    infer: Callable[[Any, ArrayLike], Any]
    train_epoch: Callable[[Any, ArrayLike, ArrayLike], tuple[Any, Any]]
    to_fixed_network: Callable[[Any], FixedNetwork]
    choose_gain: Callable[[Any, ArrayLike, ArrayLike], Any] | None
    answers_first: bool
    lava: str

    def verify_learning(self, state: State, x: ArrayLike, y: ArrayLike) -> Any:
        """Let Lava learn samples again: LearningReport."""
        # Here, not above: Lava is not needed to learn.
        return importlib.import_module(self.lava).verify_learning(state, x, y)


def _local_method(state: local.LocalState) -> str:
    return "hlop" if any(map(len, state.subspaces)) else _LOCAL_METHODS[state.settings.feedback]


SPIDE = Learner(
    settings=spide.OnChipSettings,
    state=spide.OnChipState,
    method=lambda _: "spide",
    initial=spide.initial,
    infer=spide.infer,
    train_epoch=spide.train_epoch,
    to_fixed_network=spide.to_fixed_network,
    choose_gain=lambda state, x, y: spide.choose_gain(state, x, y)[0],
    answers_first=True,
    lava="lava_snnlearn.lava_backend.spide",
)
LOCAL = Learner(
    settings=local.LocalSettings,
    state=local.LocalState,
    method=_local_method,
    initial=local.initial,
    infer=local.infer,
    train_epoch=local.train_epoch,
    to_fixed_network=local.to_fixed_network,
    choose_gain=None,
    answers_first=False,
    lava="lava_snnlearn.lava_backend.local",
)


def learner_of(settings: Any) -> Learner:
    """The functions for networks of these settings; TypeError if these are no settings of learning on the chip."""
    remedy = "pass OnChipSettings (SPIDE) or LocalSettings (OTTT, DFA, OPZO), e.g. LocalSettings(sizes=(64, 128, 10))"
    instance_of("settings", settings, (spide.OnChipSettings, local.LocalSettings), remedy)
    return SPIDE if isinstance(settings, spide.OnChipSettings) else LOCAL
