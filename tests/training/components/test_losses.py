import torch

from raysearch.training.components.losses import binary_cross_entropy, cross_entropy, focal


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


def test_binary_cross_entropy_is_that_of_torch_for_each_class_against_the_rest() -> None:
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels, weight = torch.arange(9) % 3, torch.tensor([0.5, 1.0, 2.0])
    losses = torch.stack(
        [
            torch.nn.functional.binary_cross_entropy_with_logits(
                logits[:, number], (labels == number).float(), reduction="none"
            )
            for number in range(3)
        ]
    )
    assert torch.allclose(binary_cross_entropy(logits, labels, None), losses.mean(dim=0))
    weighted = losses.mean(dim=0) * torch.tensor([0.5, 1.0, 2.0] * 3)
    assert torch.allclose(binary_cross_entropy(logits, labels, weight), weighted)


def test_binary_cross_entropy_of_two_classes_is_that_of_the_softmax() -> None:
    logits = torch.randn(8, 2, generator=torch.Generator().manual_seed(1)) * 5
    labels, weight = torch.arange(8) % 2, torch.tensor([0.5, 2.0])
    probability = torch.softmax(logits, dim=1)[:, 1]
    difference = logits[:, 1] - logits[:, 0]
    assert torch.allclose(torch.sigmoid(difference), probability)
    reference = torch.nn.functional.binary_cross_entropy_with_logits(
        difference, labels.float(), weight=weight[labels], reduction="none"
    )
    losses = binary_cross_entropy(logits, labels, weight)
    assert torch.allclose(losses, reference)
    softmax_losses = cross_entropy(logits, labels, weight, label_smoothing=0.0)
    assert torch.allclose(losses, softmax_losses, atol=1e-6)


def test_the_gradient_of_the_focal_loss_is_finite_at_probability_one() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal(logits, torch.zeros(2, dtype=torch.int64), None, focal_gamma=0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
