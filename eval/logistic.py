"""Multinomial logistic regression in float64: scikit-learn's objective, minimised by L-BFGS.

The loss of each picture is summed, times `inverse_penalty` (scikit-learn's C), plus half the squared
weights; biases are free. Features are centred first, which changes the bias alone: without it the mean
that all vectors share makes the problem so ill-conditioned that L-BFGS needs many times the steps.

Axes: T pictures to learn from, N pictures, E features, C classes, F = E + 1.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ROWS_AT_ONCE = 16384
MOST_STEPS = 1000
TOLERANCE = 1e-6
"""Largest gradient of the mean loss at which a fit has converged; scikit-learn's default is 1e-4."""


def fit(
    features: Float[Tensor, "T E"],
    labels: Int64[Tensor, " T"],
    num_classes: int,
    inverse_penalty: float,
) -> "Classifier":
    """The classifier of least loss. Nothing is drawn: the search begins at zero."""
    mean = features.mean(dim=0, dtype=torch.float64)
    solution = mean.new_zeros(num_classes, len(mean) + 1)
    decay = 1 / (inverse_penalty * len(features))
    optimizer = torch.optim.LBFGS(
        [solution],
        max_iter=MOST_STEPS,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss_and_gradient() -> float:
        loss, gradient = _loss_and_gradient(solution, features, labels, mean, decay)
        solution.grad = gradient
        return loss

    optimizer.step(loss_and_gradient)
    loss_and_gradient()
    assert solution.grad is not None
    weights, bias = solution[:, :-1].clone(), solution[:, -1]
    return Classifier(
        weights=weights,
        bias=bias - weights @ mean,
        converged=float(solution.grad.abs().max()) <= 2 * TOLERANCE,
    )


def _loss_and_gradient(
    solution: Float[Tensor, "C F"],
    features: Float[Tensor, "T E"],
    labels: Int64[Tensor, " T"],
    mean: Float[Tensor, " E"],
    decay: float,
) -> tuple[float, Float[Tensor, "C F"]]:
    """Mean loss and penalty at a solution (weights and, last, biases), and their gradient."""
    gradient = torch.zeros_like(solution)
    total = solution.new_zeros(())
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = features[start : start + ROWS_AT_ONCE].double() - mean
        right = labels[start : start + ROWS_AT_ONCE, None]
        log_shares = (rows @ solution[:, :-1].T + solution[:, -1]).log_softmax(dim=1)
        total -= log_shares.gather(1, right).sum()
        # d loss / d logits: the share of each class, less one for the right class.
        excess = log_shares.exp_().scatter_add_(1, right, -torch.ones_like(log_shares[:, :1]))
        gradient[:, :-1] += excess.T @ rows
        gradient[:, -1] += excess.sum(dim=0)
    weights = solution[:, :-1]
    loss = float(total) / len(features) + 0.5 * decay * float(weights.square().sum())
    gradient /= len(features)
    gradient[:, :-1] += decay * weights
    return loss, gradient


class Classifier(NamedTuple):
    """Weights and biases of the classes."""

    weights: Float[Tensor, "C E"]
    bias: Float[Tensor, " C"]
    converged: bool

    def logits(self, features: Float[Tensor, "N E"]) -> Float[Tensor, "N C"]:
        """How much speaks for each class, in float32 on the CPU."""
        parts = [
            (rows.double() @ self.weights.T + self.bias).float().cpu()
            for rows in features.split(ROWS_AT_ONCE)
        ]
        return torch.cat(parts)
