"""The memory of a network that learns on the chip by a local rule: weights, feedback, subspaces; their initial values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, instance_of, within
from lava_snnlearn.fixed_point import local_learning
from lava_snnlearn.on_chip.local.settings import LocalSettings, check_settings
from lava_snnlearn.on_chip.settings import ChipSettings
from lava_snnlearn.on_chip.state import ChipState, check_number


@dataclass(frozen=True, eq=False)
class LocalState(ChipState):
    """All that a network keeps between samples.

    Args:
        settings: what it is built from.
        memories: one int16 array [n_out, n_in] a connection, in the order of ``settings.names``: 8-bit weights, even,
            -256..254, or, where ``settings.memory`` is "shadow", shadows, +-32767.
        matrices: direct feedback, int32 [h_l, classes] a hidden layer, of 2^-12; none where the weights are transported.
        means: running means of the output, int32 [classes] a hidden layer, of 2^-8.
        subspaces, velocities, sums: HLOP's subspace of each connection, int16 [rows, n_in] of 2^-14, its velocity, int32, and
            what it heard since its last step, int64; 0 rows: the connection is not projected.
        old: how many first rows of each subspace are those of earlier tasks: frozen, and projected out of all changes.
        samples: samples learnt so far; it numbers the random bits. updates: of the feedback matrices, so far.
        eta: learning rate from now on; None: that of the settings.

    Raises:
        LimitError, ValueError, TypeError: arrays that do not fit the settings; the message names them.
    """

    settings: LocalSettings
    memories: tuple[NDArray[np.int16], ...]
    matrices: tuple[NDArray[np.int32], ...]
    means: tuple[NDArray[np.int32], ...]
    subspaces: tuple[NDArray[np.int16], ...]
    velocities: tuple[NDArray[np.int32], ...]
    sums: tuple[NDArray[np.int64], ...]
    old: tuple[int, ...]
    samples: int = 0
    updates: int = 0
    eta: float | None = None
    settings_type: ClassVar[type[ChipSettings]] = LocalSettings

    def __post_init__(self) -> None:
        check_settings(self.settings)
        for name in _ARRAYS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "old", tuple(at_least(0, "old rows", rows) for rows in self.old))
        object.__setattr__(self, "updates", at_least(0, "updates", self.updates))
        self._check_common()
        self._check_arrays()

    def _check_arrays(self) -> None:
        settings = self.settings
        hidden = 0 if settings.feedback == "transport" else settings.layers
        for name in ("subspaces", "velocities", "sums", "old"):
            check_number(name, getattr(self, name), settings.names)
        for name in ("matrices", "means"):
            check_number(name, getattr(self, name), [f"layer {layer}" for layer in range(1, hidden + 1)])
        for layer in range(hidden):
            size, classes = settings.sizes[layer + 1], settings.sizes[-1]
            _check_array(f"matrix of layer {layer + 1}", self.matrices[layer], np.int32, (size, classes), _MATRIX_MAX)
            _check_array(f"mean of layer {layer + 1}", self.means[layer], np.int32, (classes,), _MATRIX_MAX)
        for number, part in enumerate(settings.synapses):
            rows = len(self.subspaces[number])
            within(f"{part.name}: rows of its subspace", rows, 0, part.n_in, "It cannot hold more than all directions.")
            within(f"{part.name}: old rows", self.old[number], 0, rows, "They are the first rows of the subspace.")
            shape = (rows, part.n_in)
            _check_array(f"{part.name}: subspace", self.subspaces[number], np.int16, shape, local_learning.SUBSPACE_MAX)
            _check_array(f"{part.name}: velocity", self.velocities[number], np.int32, shape, local_learning.VELOCITY_MAX)
            _check_array(f"{part.name}: sums", self.sums[number], np.int64, shape, local_learning.SUMS_MAX)


_ARRAYS = ("matrices", "means", "subspaces", "velocities", "sums")
_MATRIX_MAX = (local_learning.OUTPUT_MAX + 1) << local_learning.FEEDBACK_BITS


def _check_array(what: str, values: Any, dtype: Any, shape: tuple[int, ...], limit: int) -> None:
    instance_of(what, values, np.ndarray, f"it must be an {np.dtype(dtype).name} array")
    if values.dtype != dtype or values.shape != shape:
        raise ValueError(f"{what} is {values.dtype} of shape {values.shape}; expected {np.dtype(dtype).name} of shape {shape}")
    within(what, values, -limit, limit, "Its format holds no more.")


def check_state(state: Any) -> None:
    """Raise TypeError if this is no LocalState."""
    instance_of("state", state, LocalState, "make one with initial(LocalSettings(...)) or LocalState.load")


def initial(settings: LocalSettings) -> LocalState:
    """Uniform weights of variance 1 / fan-in; biases and learned feedback 0; fixed feedback of variance 1 / classes.

    The draw depends on ``settings.seed`` only.
    """
    check_settings(settings)
    draw = np.random.default_rng(settings.seed)
    weights = []
    for part in settings.synapses:
        real = settings.sizes[0] if part.source == 0 else part.n_in
        rows = np.zeros((part.n_out, part.n_in))
        rows[:, :real] = draw.uniform(-1, 1, (part.n_out, real)) * np.sqrt(3 / real)
        weights.append(np.clip(rows, -part.largest, part.largest))
    return from_weights(settings, weights)


def from_weights(settings: LocalSettings, weights: Sequence[ArrayLike]) -> LocalState:
    """A state from real weights, e.g. of a network trained with torch, rounded; feedback as :func:`initial` makes it.

    Args:
        settings: see there; the formats must hold the weights.
        weights: one array [n_out, n_in] a connection in the order of ``settings.names``, W1 for inputs of 1.0, with the biases
            as its last column if there is a bias unit.

    Raises:
        LimitError: a weight that the format cannot hold. ValueError: shape, NaN.
    """
    check_settings(settings)
    check_number("weights", weights, settings.names)
    remedy = "Raise its exponent, or lower scale_bits or readout_scale_bits."
    classes, hidden = settings.sizes[-1], () if settings.feedback == "transport" else settings.sizes[1:-1]
    parts = settings.synapses
    return LocalState(
        settings,
        memories=tuple(part.memory_of(real, settings.memory, remedy) for part, real in zip(parts, weights, strict=True)),
        matrices=tuple(_feedback(settings, layer) for layer in range(1, len(hidden) + 1)),
        means=tuple(np.zeros(classes, np.int32) for _ in hidden),
        subspaces=tuple(np.zeros((0, part.n_in), np.int16) for part in parts),
        velocities=tuple(np.zeros((0, part.n_in), np.int32) for part in parts),
        sums=tuple(np.zeros((0, part.n_in), np.int64) for part in parts),
        old=(0,) * len(parts),
    )


def _feedback(settings: LocalSettings, layer: int) -> NDArray[np.int32]:
    shape = settings.sizes[layer], settings.sizes[-1]
    if settings.feedback == "learned":
        return np.zeros(shape, np.int32)
    draw = np.random.default_rng([settings.seed, layer]).normal(0, 1 / np.sqrt(settings.sizes[-1]), shape)
    # In the unit of a learned matrix: noise of 2 ** -noise_bits times the readout's units.
    one = 2.0 ** (local_learning.FEEDBACK_BITS + settings.readout_scale_bits - settings.noise_bits)
    return np.rint(draw * one).astype(np.int32)


def begin_task(state: LocalState, rows: int | Sequence[int]) -> LocalState:
    """HLOP: all rows of the subspaces become old, and new ones, orthogonal to them, begin to learn.

    Take memory="shadow": where 8-bit weights are rounded at random, the rounding moves them in protected directions too.

    Args:
        rows: how many new rows, one number for all connections or one each, 0 or more.

    Raises:
        ValueError, LimitError, TypeError: a number that does not fit; a connection has at most ``n_in`` rows.
    """
    check_state(state)
    parts = state.settings.synapses
    instance_of("rows", rows, (int, np.integer, Sequence), "give one number for all connections, or one each")
    wanted = [rows] * len(parts) if isinstance(rows, (int, np.integer)) else list(rows)
    check_number("numbers of rows", wanted, state.settings.names)
    subspaces, velocities, sums = [], [], []
    for number, (part, more) in enumerate(zip(parts, wanted, strict=True)):
        before = state.subspaces[number]
        within(f"{part.name}: rows", len(before) + at_least(0, "rows", more), 0, part.n_in, "Take fewer new rows a task.")
        draw = np.random.default_rng([state.settings.seed, number, len(before)]).normal(size=(part.n_in, more))
        one = float(1 << local_learning.SUBSPACE_BITS)
        basis, _ = np.linalg.qr(np.concatenate([before.T / one, draw], axis=1))
        new = np.rint(basis[:, len(before) :].T * one).astype(np.int16)
        subspaces.append(np.concatenate([before, new]))
        velocities.append(np.zeros(subspaces[-1].shape, np.int32))
        sums.append(np.zeros(subspaces[-1].shape, np.int64))
    return replace(
        state,
        subspaces=tuple(subspaces),
        velocities=tuple(velocities),
        sums=tuple(sums),
        old=tuple(len(before) for before in state.subspaces),
    )
