"""OPZO: online pseudo-zeroth-order training (arXiv 2407.12516), with the traces of online training through time.

One forward pass a step, with noise alpha z_l on every population; the loss is differentiated, the model is not::

    M_l[t] = lambda M_l[t-1] + (1 - lambda) mean_B(z_l[t] o~[t]^T) / alpha          (n_l x classes)
    g_l[t] = M_l[t] e[t],  e = dL/do~,      grad W_l += (psi(u_l) g_l) a_{l-1}^T

M_l becomes the mean of J_l^T, J_l = d o / d s_l, without transported weights and without a walk back through the layers. Where
nothing else is said, the choices are those of the grsnn_hlop_opzo_msg spec, 3.1 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lava_snnlearn import distributed
from lava_snnlearn.checks import flag, known_name, positive, real_number, whole_number
from lava_snnlearn.methods.base import StepResult
from lava_snnlearn.methods.direct_engine import DirectWalk, FeedbackMethod, State
from lava_snnlearn.methods.local_readouts import LocalReadouts
from lava_snnlearn.methods.perturbation import NOISES, POSITIONS, Noise, answer, centre, correlate, follow
from lava_snnlearn.networks.layers import Neurons
from lava_snnlearn.networks.network import Network

ESTIMATORS = ("momentum", "single_point")


@dataclass(frozen=True)
class OPZO(FeedbackMethod):
    """Online pseudo-zeroth-order training.

    In training mode the forward pass is perturbed; in eval mode it is clean, and errors go by the matrices as they are. What is
    remembered lies in ``network.memory`` under ``opzo.``.

    Args:
        update, loss, chunk: as in :class:`~lava_snnlearn.methods.OTTT`.
        noise: "rademacher" (+-1, as on the chip), "gaussian", or "sphere" (radius sqrt(n)).
        position: "post" (noise on the spikes that others hear) or "pre" (noise in the current; it stays in the membrane).
        antithetic: odd steps repeat the noise of the step before with the opposite sign, which cancels the mean output.
        alpha: size of the noise > 0.
        momentum: lambda in [0, 1), near 1: M is the mean over about 1 / (1 - lambda) steps.
        bias_correction: divide M by 1 - lambda^k after k steps, so that it is not too small at first.
        baseline: without ``antithetic``, subtract the running mean of the output before it is correlated with the noise.
        keep_alpha: divide by alpha (False, as the paper: M is alpha J^T, and hidden layers learn alpha times slower).
        estimator: "momentum", or "single_point": each sample's own z o~^T / alpha in place of its mean M, a baseline that is
            too noisy to learn.
        local_learning: every population but the last also has a readout and a loss of its own (LL).
        intermediate: number, or numbers, of populations (from 0) that have such a readout, whose error goes to all earlier ones
            by matrices of their own (intermediate global learning, IGL).
        local_rate: learning rate of the local readouts.

    Raises:
        UnknownNameError: an unknown update, noise, position or estimator.
        ValueError: a number out of range. TypeError: an option of another type.
    """

    noise: str = "rademacher"
    position: str = "post"
    antithetic: bool = True
    alpha: float = 0.2
    momentum: float = 1 - 2**-10
    bias_correction: bool = True
    baseline: bool = True
    keep_alpha: bool = True
    estimator: str = "momentum"
    local_learning: bool = False
    intermediate: int | Sequence[int] = ()
    local_rate: float = 0.5
    name = "opzo"
    perturbs = True

    def __post_init__(self) -> None:
        super().__post_init__()
        known_name("noise", self.noise, NOISES)
        known_name("position", self.position, POSITIONS)
        known_name("estimator", self.estimator, ESTIMATORS)
        for option in ("antithetic", "bias_correction", "baseline", "keep_alpha", "local_learning"):
            flag(option, getattr(self, option))
        for option in ("alpha", "local_rate"):
            positive(option, getattr(self, option))
        real_number("momentum", self.momentum)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1), near 1, e.g. 1 - 2**-10")
        # A tuple of plain numbers, so that equal settings have equal descriptions.
        numbers = self.intermediate if isinstance(self.intermediate, (tuple, list)) else (self.intermediate,)
        chosen = tuple(sorted({whole_number("intermediate", index) for index in numbers}))
        object.__setattr__(self, "intermediate", chosen)

    @property
    def taught_from(self) -> tuple[int, ...]:
        """``intermediate`` as a tuple, in order."""
        assert isinstance(self.intermediate, tuple)
        return self.intermediate

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add OPZO's gradient to ``.grad``; in the online form ``on_step`` is called after every time step.

        x: [B, n] or [T, B, n] float; y: int64 [B]. The result's outputs and loss are those of the perturbed forward pass;
        ``diagnostics["feedback_norm"]`` is the Frobenius norm of M, the mean over populations.

        Raises:
            ValueError: ``intermediate`` names no population that has another one before it; else as OTTT.
        """
        walk = _PerturbedWalk(network, x, y, self)

        def after_step() -> None:
            walk.lesson.finish()
            assert on_step is not None
            on_step()

        result = self._learn(walk, y, None if on_step is None else after_step)
        walk.lesson.finish()
        return result._replace(diagnostics=walk.lesson.diagnostics())


class _PerturbedWalk(DirectWalk):
    """The direct walk with noise on every population."""

    def __init__(self, network: Network, x: Tensor, y: Tensor, method: OPZO) -> None:
        super().__init__(network, x, y, self._teach)
        self.lesson = _Lesson(network, y, method)
        if method.position == "pre" and self.static:
            self.signal, self.static, self.shortcut = self.signal.expand(self.steps, *self.signal.shape[1:]), False, False

    def _teach(self, sent: State, output: Tensor, error: Tensor) -> State:
        return self.lesson.teach(sent, output, error)

    def passed_on(self, population: nn.Module, spikes: Tensor) -> Tensor:
        """The spikes, with noise behind the neurons."""
        return spikes if self.lesson.method.position == "pre" else self.lesson.perturbed(population, spikes)

    def _integrate(self, population: Neurons, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        assert isinstance(population, nn.Module)
        if self.lesson.method.position == "pre" and self.lesson.noise is not None:
            rows = current if steps is None else current.expand(steps, *current.shape)
            current, steps, donate = self.lesson.perturbed(population, rows), None, True
        return super()._integrate(population, current, threshold, steps, donate)


class _Teacher(NamedTuple):
    """A readout whose error goes to ``below`` populations: its key in the memory, outputs and errors [T, B, classes]."""

    key: str
    outputs: Tensor
    errors: Tensor
    below: int


class _Lesson:
    """Noise and feedback of one batch."""

    def __init__(self, network: Network, y: Tensor, method: OPZO) -> None:
        self.network, self.y, self.method = network, y, method
        self.populations, self.memory = network.populations, network.memory
        outside = [index for index in method.taught_from if not 1 <= index < len(self.populations)]
        if outside:
            raise ValueError(
                f"intermediate holds {outside[0]}; populations with another one before them are 1..{len(self.populations) - 1}"
            )
        self.numbers = {population: index for index, population in enumerate(self.populations)}
        self.noise = None
        if network.training:
            self.noise = Noise(method.noise, method.antithetic, len(self.populations), network.like)
        self.z: dict[int, list[Tensor]] = {}
        chosen = sorted({*method.taught_from, *(range(len(self.populations) - 1) if method.local_learning else ())})
        self.readouts = LocalReadouts(network, "opzo.local", chosen, method.loss, method.local_rate)
        self._remember("opzo.steps", torch.zeros(1, dtype=torch.int64))

    def _remember(self, key: str, start: Tensor) -> Tensor:
        """What the memory holds under a key; ``start``, where it holds nothing yet."""
        like = self.network.like
        dtype = like.dtype if start.is_floating_point() else start.dtype
        self.memory[key] = self.memory.get(key, start).to(like.device, dtype)
        return self.memory[key]

    @property
    def steps(self) -> int:
        """Updates that the matrices have had."""
        return int(self.memory["opzo.steps"])

    def perturbed(self, population: nn.Module, signal: Tensor) -> Tensor:
        """signal + alpha z for the next steps of a population, [T, B, *shape]; the signal in eval mode."""
        if self.noise is None:
            return signal
        index = self.numbers[population]
        z = self.noise.draw(index, signal.shape[1], tuple(signal.shape[2:]), len(signal))
        self.z.setdefault(index, []).append(z.flatten(2))
        return torch.add(signal, z, alpha=self.method.alpha)

    def teach(self, sent: State, output: Tensor, error: Tensor) -> State:
        """Gradients of the spikes of a piece; the matrices follow on the way."""
        spikes = [sent[population].flatten(2) for population in self.populations]
        signals: list[Tensor] = [torch.zeros_like(rows) for rows in spikes]
        teachers = [_Teacher("readout", output, error, len(spikes))]
        for index in self.readouts.keys:
            local = self.readouts.errors(index, spikes[index], self.y)
            signals[index] += local.signals
            if index in self.method.taught_from:
                teachers.append(_Teacher(str(index), local.outputs, local.errors, index))
        if self.noise is None:
            self._answer(teachers, signals)
        else:
            noise = [torch.cat(self.z.pop(index)) for index in range(len(spikes))]
            teach = self._guess if self.method.estimator == "single_point" else self._learn
            teach(teachers, noise, signals)
        return {p: rows.view_as(sent[p]) for p, rows in zip(self.populations, signals, strict=True)}

    @property
    def _alpha(self) -> float:
        return self.method.alpha if self.method.keep_alpha else 1.0

    def _matrix(self, teacher: str, index: int) -> tuple[str, Tensor]:
        key = f"opzo.M.{teacher}.{index}"
        return key, self._remember(key, torch.zeros(self.populations[index].outputs, self.network.classes))

    def _answer(self, teachers: Sequence[_Teacher], signals: list[Tensor]) -> None:
        method, steps = self.method, self.steps
        for teacher in teachers:
            for index in range(teacher.below):
                _, matrix = self._matrix(teacher.key, index)
                signals[index] += answer(matrix, teacher.errors, method.momentum, steps, method.bias_correction)

    def _guess(self, teachers: Sequence[_Teacher], noise: Sequence[Tensor], signals: list[Tensor]) -> None:
        for teacher in teachers:
            products = (teacher.outputs * teacher.errors).sum(2, keepdim=True) / self._alpha
            for index in range(teacher.below):
                signals[index] += noise[index] * products

    def _learn(self, teachers: Sequence[_Teacher], noise: Sequence[Tensor], signals: list[Tensor]) -> None:
        """One message for the pairs of all teachers and populations; then each matrix follows its own."""
        method, steps = self.method, self.steps
        targets = [(teacher, index) for teacher in teachers for index in range(teacher.below)]
        outputs = self._centred(teachers)
        pairs = [correlate(noise[index], outputs[teacher.key], self._alpha) for teacher, index in targets]
        for (teacher, index), pair in zip(targets, distributed.join_means(pairs), strict=True):
            key, matrix = self._matrix(teacher.key, index)
            learned = follow(matrix, pair, teacher.errors, method.momentum, steps, method.bias_correction)
            self.memory[key] = learned.matrix
            signals[index] += learned.signals
        self.memory["opzo.steps"] = self.memory["opzo.steps"] + len(teachers[0].outputs)

    def _centred(self, teachers: Sequence[_Teacher]) -> dict[str, Tensor]:
        """Outputs of the teachers, without their running means where these do not cancel by themselves."""
        if self.method.antithetic or not self.method.baseline:
            return {teacher.key: teacher.outputs for teacher in teachers}
        centred = {}
        means = distributed.join_means([teacher.outputs.mean(1) for teacher in teachers])
        for teacher, averages in zip(teachers, means, strict=True):
            key = f"opzo.mean.{teacher.key}"
            before = self._remember(key, torch.zeros(self.network.classes))
            centred[teacher.key], self.memory[key] = centre(teacher.outputs, averages.unbind(0), before, self.steps)
        return centred

    def finish(self) -> None:
        """Let the local readouts learn, in training mode."""
        if self.noise is not None:
            self.readouts.step()

    def diagnostics(self) -> dict[str, float]:
        """See :meth:`OPZO.gradients`."""
        if self.method.estimator == "single_point":
            return {}
        scale = 1 / (1 - self.method.momentum**self.steps) if self.method.bias_correction and self.steps else 1.0
        norms = [scale * float(torch.linalg.norm(self._matrix("readout", n)[1])) for n in range(len(self.populations))]
        return {"feedback_norm": sum(norms) / len(norms)}
