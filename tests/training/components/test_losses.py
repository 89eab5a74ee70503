import torch

from raysearch.training.components.losses import cross_entropy, focal


def test_losses_equal_the_formulas_of_their_papers() -> None:
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels, weight = torch.arange(9) % 3, torch.tensor([0.5, 1.0, 2.0])
    reference = torch.nn.functional.cross_entropy(logits, labels, weight, reduction="none")
    assert torch.allclose(cross_entropy(logits, labels, weight, label_smoothing=0.0), reference)
    assert torch.allclose(focal(logits, labels, weight, focal_gamma=0.0), reference)
    probability = torch.softmax(logits, 1)[torch.arange(9), labels]
    focal_reference = (1 - probability) ** 2 * reference
    assert torch.allclose(focal(logits, labels, weight, focal_gamma=2.0), focal_reference)
    log_probabilities = torch.log_softmax(logits, 1)
    smoothed = -(0.7 * log_probabilities[torch.arange(9), labels] + 0.1 * log_probabilities.sum(1))
    assert torch.allclose(cross_entropy(logits, labels, None, label_smoothing=0.3), smoothed)


def test_the_gradient_of_the_focal_loss_is_finite_at_probability_one() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal(logits, torch.zeros(2, dtype=torch.int64), None, focal_gamma=0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
