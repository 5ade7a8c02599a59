"""A training on the chip that is killed after some pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lava_snnlearn.on_chip import trainer as module
from lava_snnlearn.on_chip.learners import Settings, learner_of

Killed = Callable[[Settings, int], AbstractContextManager[None]]


class Interrupted(BaseException):
    pass


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Killed:
    """``with killed(settings, pieces)``: trainers of these settings learn so many pieces and no more, and must try to."""

    @contextmanager
    def context(settings: Settings, pieces: int) -> Iterator[None]:
        calls, real = 0, learner_of(settings)

        def train(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > pieces:
                raise Interrupted
            return real.train_epoch(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, "learner_of", lambda _: replace(real, train_epoch=train))
            with pytest.raises(Interrupted):
                yield

    return context
