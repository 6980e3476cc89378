"""The fit of the linear probe beside scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from eval import logistic
from eval.logistic import along_axes, fit


def classes_around_a_common_mean(seed, num_pictures, width, num_classes):
    """Unit vectors with a large part in common, as those of encoders, and their classes."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_pictures,), generator=draws)
    centres = torch.randn(num_classes, width, generator=draws)
    noise = torch.randn(num_pictures, width, generator=draws)
    return normalize(0.6 * centres[labels] + noise + 3, dim=1), labels


@pytest.mark.parametrize("inverse_penalty", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("num_classes", [3, 7])
def test_weights_and_biases_are_those_of_scikit_learn(inverse_penalty, num_classes):
    features, labels = classes_around_a_common_mean(0, 400, 16, num_classes)
    ours = fit(along_axes(features), labels, num_classes, inverse_penalty)
    theirs = LogisticRegression(C=inverse_penalty, tol=1e-8, max_iter=3000)
    theirs.fit(features.double().numpy(), labels.numpy())
    assert ours.converged
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.weights.numpy(), theirs.coef_, atol=2e-3 * scale)
    # A number added to all biases changes nothing.
    centred = [bias - bias.mean() for bias in (ours.bias.numpy(), theirs.intercept_)]
    np.testing.assert_allclose(*centred, atol=2e-3 * max(scale, 1))


def test_the_gradient_is_that_of_torch():
    features, labels = classes_around_a_common_mean(1, 50, 6, 4)
    rows, scale, decay = features.double() - 0.4, torch.rand(6, dtype=torch.float64), 0.3
    solution = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    weights = solution[:, :-1] * scale
    loss = torch.nn.functional.cross_entropy(rows @ weights.T + solution[:, -1], labels)
    loss = loss + decay / 2 * weights.square().sum()
    loss.backward()
    ours, gradient = logistic._loss_and_gradient(solution.detach(), rows, labels, scale, decay)
    assert ours == pytest.approx(loss.item())
    torch.testing.assert_close(gradient, solution.grad)


def test_rows_taken_a_few_at_a_time_give_the_same_classifier(monkeypatch):
    features, labels = classes_around_a_common_mean(2, 120, 8, 3)
    whole = fit(along_axes(features), labels, 3, 1.0)
    monkeypatch.setattr(logistic, "ROWS_AT_ONCE", 7)
    parts = fit(along_axes(features), labels, 3, 1.0)
    torch.testing.assert_close(parts.weights, whole.weights, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(parts.logits(features), whole.logits(features))


def test_a_fit_that_was_stopped_early_says_so(monkeypatch):
    features, labels = classes_around_a_common_mean(3, 100, 8, 3)
    monkeypatch.setattr(logistic, "MOST_STEPS", 2)
    assert not fit(along_axes(features), labels, 3, 100.0).converged
