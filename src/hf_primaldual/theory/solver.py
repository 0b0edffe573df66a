"""The dual of the regression, solved by scipy's L-BFGS-B."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


class ConvergenceError(RuntimeError):
    """The duality gap did not reach the tolerance."""


@dataclass(frozen=True, eq=False)
class DualProblem:
    """
    The dual of one regression per output, in variables that make its quadratic form well scaled.

    With a = alpha - alpha~ and G_ij = K(k_i, k_j) / (h(k_i) h(k_j)) as derived in `regression.py`, s_i = sqrt(G_ii),
    G_ij = s_i R_ij s_j and u_i = s_i a_i, each output d minimizes

        1/2 u^T R u + sum_i (epsilon |u_i| - y_i u_i) / s_i    subject to    |u_i| <= C s_i

    R has a unit diagonal whatever the size of the logits; h, and with it a, grows exponentially with them.
    `gram` is R of shape (N, N), `scale` s of shape (N, 1), `targets` y of shape (N, outputs).
    """

    gram: np.ndarray
    scale: np.ndarray
    targets: np.ndarray
    C: float
    epsilon: float

    def primal_and_dual(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values of the primal, at the W that u gives, and of the dual, each of shape `(outputs,)`."""
        fitted = self.gram @ u
        half_norm = (u * fitted).sum(axis=0) / 2
        excess = np.abs(self.targets - self.scale * fitted) - self.epsilon
        primal = half_norm + self.C * np.maximum(excess, 0).sum(axis=0)
        dual = ((self.targets * u - self.epsilon * np.abs(u)) / self.scale).sum(axis=0) - half_norm
        return primal, dual

    def relative_gap(self, u: np.ndarray) -> float:
        """The largest (primal - dual) / primal of an output; 0 where both are 0."""
        primal, dual = self.primal_and_dual(u)
        return np.divide(primal - dual, primal, out=np.zeros_like(primal), where=primal > 0).max()

    def solve(self, tolerance: float, max_iterations: int) -> tuple[np.ndarray, int, float]:
        """u of shape (N, outputs), the most iterations that an output took, and the largest relative gap."""
        outputs = [replace(self, targets=targets[:, None]) for targets in self.targets.T]
        solved = [_solve_output(output, tolerance, max_iterations) for output in outputs]
        solutions, iterations, gaps = zip(*solved, strict=True)
        return np.concatenate(solutions, axis=1), max(iterations), max(gaps)


def _solve_output(problem: DualProblem, tolerance: float, max_iterations: int) -> tuple[np.ndarray, int, float]:
    """
    L-BFGS-B on u = p - m with p and m between 0 and C s. It stops where rounding hides the decrease of the objective,
    at a relative gap of about 1e-8: it is started again with the objective measured from where it stopped, until the
    gap is small enough.
    """
    # scipy is no dependency of the package itself.
    from scipy.optimize import minimize

    keys = len(problem.scale)
    upper = np.tile(problem.C * problem.scale[:, 0], 2)
    linear = np.concatenate([problem.epsilon - problem.targets, problem.epsilon + problem.targets])[:, 0]
    linear /= np.tile(problem.scale[:, 0], 2)
    position, iterations = np.zeros(2 * keys), 0

    def quadratic(z: np.ndarray) -> np.ndarray:
        fitted = problem.gram @ (z[:keys] - z[keys:])
        return np.concatenate([fitted, -fitted])

    while True:
        u = (position[:keys] - position[keys:])[:, None]
        gap = problem.relative_gap(u)
        if gap <= tolerance:
            return u, iterations, gap
        gradient = quadratic(position) + linear

        def decrease(step: np.ndarray, gradient: np.ndarray = gradient) -> tuple[Any, np.ndarray]:
            curvature = quadratic(step)
            return step @ (gradient + curvature / 2), gradient + curvature

        left = max_iterations - iterations
        if left > 0:
            found = minimize(
                decrease,
                np.zeros(2 * keys),
                jac=True,
                method="L-BFGS-B",
                bounds=np.stack([-position, upper - position], axis=1),
                options={"maxiter": left, "maxfun": 20 * left, "maxcor": 20, "ftol": 0, "gtol": 0},
            )
        if left <= 0 or found.nit == 0:
            raise ConvergenceError(
                f"scipy's L-BFGS-B stopped after {iterations} iterations at a relative duality gap of {gap:.3g}, "
                f"above the `tolerance` of {tolerance:.3g}."
            )
        iterations += found.nit
        position = np.clip(position + found.x, 0, upper)
        # Only the difference of p and m counts, and epsilon wants both small.
        position -= np.tile(np.minimum(position[:keys], position[keys:]), 2)
