"""Multinomial logistic regression in float64: scikit-learn's objective, minimised by L-BFGS.

The loss of each picture is summed, times `inverse_penalty` (scikit-learn's C), plus half the squared
weights; biases are free. The search runs in other coordinates, which change its length and not its
end: features are centred, turned to their principal axes, and stretched along each axis by about the
curvature that the objective has there. On vectors of encoders, which share a large mean and spread
along few axes, that saves most of the steps.

Axes: T pictures to learn from, N pictures, E features, C classes, F = E + 1.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

ROWS_AT_ONCE = 16384
MOST_STEPS = 1000
TOLERANCE = 1e-6
"""Largest gradient of the mean loss at which a fit has converged; scikit-learn's default is 1e-4."""


def along_axes(features: Float[Tensor, "T E"]) -> "Turned":
    """Features as `fit` takes them: a copy in float64 on the same device."""
    mean = features.mean(dim=0, dtype=torch.float64)
    centred = features.double().sub_(mean)
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    return Turned(centred @ axes, mean, axes, variances.clamp(min=0))


def fit(
    turned: "Turned",
    labels: Int64[Tensor, " T"],
    num_classes: int,
    inverse_penalty: float,
) -> "Classifier":
    """The classifier of least loss. Nothing is drawn: the search begins at zero."""
    decay = 1 / (inverse_penalty * len(labels))
    # The curvature of a class's loss is its variance along the axis times p (1 - p), at most 1/4.
    scale = (turned.variances / 4 + decay).rsqrt()
    solution = scale.new_zeros(num_classes, len(scale) + 1)
    optimizer = torch.optim.LBFGS(
        [solution],
        max_iter=MOST_STEPS,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss_and_gradient() -> float:
        loss, gradient = _loss_and_gradient(solution, turned.rows, labels, scale, decay)
        solution.grad = gradient
        return loss

    optimizer.step(loss_and_gradient)
    loss_and_gradient()
    assert solution.grad is not None
    weights = solution[:, :-1] * scale @ turned.axes.T
    return Classifier(
        weights=weights,
        bias=solution[:, -1] - weights @ turned.mean,
        converged=float(solution.grad.abs().max()) <= TOLERANCE,
    )


def _loss_and_gradient(
    solution: Float64[Tensor, "C F"],
    rows: Float64[Tensor, "T E"],
    labels: Int64[Tensor, " T"],
    scale: Float64[Tensor, " E"],
    decay: float,
) -> tuple[float, Float64[Tensor, "C F"]]:
    """Mean loss and penalty at a solution, and their gradient.

    A solution holds weights, each divided by the scale of its axis, and last the biases.
    """
    weights, bias = solution[:, :-1] * scale, solution[:, -1]
    gradient = torch.zeros_like(solution)
    total = solution.new_zeros(())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        right = labels[start : start + ROWS_AT_ONCE, None]
        log_shares = (part @ weights.T + bias).log_softmax(dim=1)
        total -= log_shares.gather(1, right).sum()
        # d loss / d logits: the share of each class, less one for the right class.
        excess = log_shares.exp_().scatter_add_(1, right, -torch.ones_like(log_shares[:, :1]))
        gradient[:, :-1] += excess.T @ part
        gradient[:, -1] += excess.sum(dim=0)
    loss = float(total) / len(rows) + decay / 2 * float(weights.square().sum())
    gradient /= len(rows)
    gradient[:, :-1] = (gradient[:, :-1] + decay * weights) * scale
    return loss, gradient


class Turned(NamedTuple):
    """Features in the coordinates of a fit."""

    rows: Float64[Tensor, "T E"]
    """Centred, along the principal axes."""
    mean: Float64[Tensor, " E"]
    axes: Float64[Tensor, "E E"]
    """The principal axes as columns."""
    variances: Float64[Tensor, " E"]
    """Of the rows, along each axis."""


class Classifier(NamedTuple):
    """Weights and biases of the classes."""

    weights: Float64[Tensor, "C E"]
    bias: Float64[Tensor, " C"]
    converged: bool
    """Whether the search ended before MOST_STEPS."""

    def logits(self, features: Float[Tensor, "N E"]) -> Float[Tensor, "N C"]:
        """How much speaks for each class, in float32 on the CPU."""
        parts = [
            (part.double() @ self.weights.T + self.bias).float().cpu()
            for part in features.split(ROWS_AT_ONCE)
        ]
        return torch.cat(parts)
