import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from raysearch.training.features.logistic_regression import fit_logistic_regression


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("l2_penalty", [0.001, 0.3])
def test_it_finds_the_minimum_that_scikit_learn_finds(num_classes: int, l2_penalty: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 12))
    scores = features @ rng.normal(size=(12, num_classes)) + rng.gumbel(size=(400, num_classes))
    labels = scores.argmax(axis=1)
    reference = LogisticRegression(C=1 / (l2_penalty * 400), tol=1e-8, max_iter=5000)
    if num_classes == 2:
        # A softmax over two classes has two vectors of weights: half the penalty on each.
        reference.set_params(C=2 / (l2_penalty * 400))
    reference.fit(features, labels)

    layer, targets = nn.Linear(12, num_classes), torch.from_numpy(labels)
    fit_logistic_regression(
        layer,
        torch.from_numpy(features).float(),
        lambda logits: functional.cross_entropy(logits, targets),
        l2_penalty,
    )

    with torch.inference_mode():
        probabilities = layer(torch.from_numpy(features).float()).softmax(dim=1).numpy()
    assert np.abs(probabilities - reference.predict_proba(features)).max() < 2e-3


def test_separable_classes_converge_to_finite_weights() -> None:
    features = torch.cat([torch.full((5, 2), -1.0), torch.full((5, 2), 1.0)])
    labels = torch.arange(10) // 5
    layer = nn.Linear(2, 2)
    fit_logistic_regression(
        layer, features, lambda logits: functional.cross_entropy(logits, labels), 1e-6
    )
    assert layer.weight.isfinite().all()
    assert torch.equal(layer(features).argmax(dim=1), labels)
