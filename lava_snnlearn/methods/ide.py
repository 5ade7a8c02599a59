"""IDE: implicit differentiation on the equilibrium state of a feedback network (Xiao et al., NeurIPS 2021, arXiv 2109.14247).

Forward: T steps of spikes, no graph. Backward: beta = g + J^T beta at the measured mean rates (their eq. for the implicit
gradient; ide_spide spec, 1.3), solved by a damped iteration of the whole batch. Memory does not depend on T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from lava_snnlearn.checks import at_least, known_name, real_number
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss
from lava_snnlearn.methods.equilibrium import MASKS, Adjoint, Errors, run_equilibrium, solve_adjoint
from lava_snnlearn.methods.norm_limit import check_limit, project
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.feedback import FeedbackLIF

_CONTRACTION = 0.95


@dataclass(frozen=True)
class IDE:
    """Implicit differentiation on the equilibrium state, for networks of :func:`~lava_snnlearn.networks.feedback_net`.

    Args:
        loss: of the readout of the mean rates, once a sample.
        norm_limit: bound on the norm of the feedback weight, kept by projection after each step of the optimiser (published: 1,
            that is half of Delta); None: no bound. Above Delta the equilibrium need not be unique.
        norm_kind: "spectral", or "frobenius"; for kernels, of the matrix [out, in * k * k].
        mask: where the clamp counts as open: "preact" (its argument lies in [0, 1]) or "rate" (fired, and not in every step).
        solver_steps, tolerance: the solver stops after so many iterations, or where its largest residual is below ``tolerance``
            times the largest gradient. (At damping 0.5 and feedback near Delta a batch may end just above it.)
        damping: factor on each update, in (0, 1]; None: 1 for dense feedback of one layer bounded below 0.95 Delta, else 0.5.

    Each epoch's table has the solver's iterations, its relative residual and the share of batches that did not converge.

    Raises:
        ValueError: a value out of range. TypeError: one of another type. UnknownNameError: an unknown mask or norm_kind.
    """

    loss: Loss = field(default_factory=lambda: Loss(mse_weight=0.0))
    norm_limit: float | None = 1.0
    norm_kind: str = "spectral"
    mask: str = "preact"
    solver_steps: int = 60
    tolerance: float = 1e-6
    damping: float | None = None
    name = "ide"
    engine = "equilibrium"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_limit(self.norm_limit, self.norm_kind)
        known_name("mask", self.mask, MASKS)
        at_least(1, "solver_steps", self.solver_steps)
        for name, value in (("tolerance", self.tolerance), ("damping", 1.0 if self.damping is None else self.damping)):
            real_number(name, value)
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; it must lie in (0, 1]")

    @property
    def preset(self) -> Preset:
        """IF neurons with V = 2 and U_r = 0, no norm, T = 30 (published learning rate: 0.05)."""
        return Preset(neuron=FeedbackLIF(), norm="none", steps=30, learning_rate=0.1, feedback=True)

    def constrain(self, network: Network) -> None:
        """Bring the feedback's norm back to its limit."""
        project(network, self.norm_limit, self.norm_kind)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the implicit gradient to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is not used.

        Raises:
            ValueError: a network that is no chain of feedback neurons; samples or labels that do not fit.
        """

        def solve(adjoint: Adjoint, gradient: Tensor) -> tuple[Errors, dict[str, float]]:
            damping = self._damping(adjoint) if self.damping is None else self.damping
            errors, found = solve_adjoint(adjoint, gradient, steps=self.solver_steps, tolerance=self.tolerance, damping=damping)
            return errors, {
                "solver_steps": float(found.steps),
                "solver_residual": found.residual,
                "not_converged": float(not found.converged),
            }

        return run_equilibrium(network, x, y, self.loss, self.mask, solve)

    def _damping(self, adjoint: Adjoint) -> float:
        feedback = adjoint.network.feedback
        plain = feedback is None or (feedback.geometry is None and len(adjoint.rates) == 1)
        bounded = self.norm_limit is not None and self.norm_limit <= _CONTRACTION * min(adjoint.deltas)
        return 1.0 if plain and bounded else 0.5
