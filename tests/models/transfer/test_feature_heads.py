import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from raysearch.config.names import CLASSIFIERS
from raysearch.models.tensor_files import load_state
from raysearch.models.transfer.feature_heads import (
    DEFAULT_HIDDEN_UNITS,
    FeatureHead,
    NearestCentroidHead,
    NearestNeighborsHead,
    Standardization,
    build_feature_head,
)


def classes(num_rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (N, 6) of three classes, and their labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_rows) % 3
    centers = torch.eye(6)[:3] * 2
    return centers[labels] + torch.randn(num_rows, 6, generator=generator), labels


def test_features_are_standardized_as_by_scikit_learn() -> None:
    features, _labels = classes(50, 0)
    features[:, 5] = 4.0
    expected = torch.from_numpy(StandardScaler().fit_transform(features.numpy()))
    standardization = Standardization(6)
    standardization.fit(features)
    assert torch.allclose(standardization(features), expected, atol=1e-5)
    assert torch.allclose(standardization.fit_in_place(features), expected, atol=1e-5)
    assert torch.allclose(features, expected, atol=1e-5)


def test_the_nearest_centroid_is_that_of_scikit_learn() -> None:
    features, labels = classes(90, 0)
    others, _labels = classes(60, 1)
    head = NearestCentroidHead(6, 3)
    head.fit(features, labels, torch.ones(90))
    scaler = StandardScaler().fit(features.numpy())
    reference = NearestCentroid().fit(scaler.transform(features.numpy()), labels.numpy())
    expected = reference.predict(scaler.transform(others.numpy()))
    assert head(others).argmax(dim=1).tolist() == expected.tolist()


def test_one_neighbor_decides_as_by_scikit_learn() -> None:
    features, labels = classes(90, 0)
    others, _labels = classes(60, 1)
    head = NearestNeighborsHead(6, 3, num_neighbors=1)
    head.fit(features, labels, torch.ones(90))
    reference = KNeighborsClassifier(1, metric="cosine").fit(features.numpy(), labels.numpy())
    agreement = (head(others).argmax(dim=1).numpy() == reference.predict(others.numpy())).mean()
    assert agreement > 0.95  # rows are stored in 16 bits


def test_the_votes_of_neighbors_are_weighted_by_their_similarity() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.05]])
    head = NearestNeighborsHead(2, 2, num_neighbors=2)
    head.fit(features, labels, torch.ones(3))
    similarities = functional.cosine_similarity(query, features)[:2]
    expected = (similarities / 0.07).softmax(dim=0)
    assert torch.allclose(head(query).softmax(dim=1)[0], expected, atol=1e-2)


def test_a_weight_of_zero_leaves_a_row_out() -> None:
    features, labels = classes(90, 0)
    weights = (torch.arange(90) < 60).float()
    kept, all_rows = NearestCentroidHead(6, 3), NearestCentroidHead(6, 3)
    all_rows.fit(features, labels, weights)
    kept.standardization.fit(features)
    standardized = kept.standardization(features[:60])
    centroids = torch.stack([standardized[labels[:60] == label].mean(dim=0) for label in range(3)])
    assert torch.allclose(all_rows.centroids, centroids, atol=1e-5)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_stored_head_classifies_as_it_did(classifier: str) -> None:
    features, labels = classes(30, 0)

    def build() -> FeatureHead:
        return build_feature_head(classifier, 6, 3, num_neighbors=3, hidden_units=4)

    head = build()
    if isinstance(head, (NearestCentroidHead, NearestNeighborsHead)):
        head.fit(features, labels, torch.ones(30))
    read = load_state(build, head.state_dict())
    assert torch.equal(read.eval()(features), head.eval()(features))


def test_the_classifier_mlp_has_several_hidden_layers_of_the_same_width() -> None:
    head = build_feature_head("mlp", 6, 3, hidden_units=4, hidden_layers=3)
    shapes = [list(value.shape) for name, value in head.state_dict().items() if "weight" in name]
    assert shapes == [[4, 6], [4, 4], [4, 4], [3, 4]]
    by_default = build_feature_head("mlp", 6, 3, hidden_layers=2).state_dict()
    assert by_default["layers.2.weight"].shape == (DEFAULT_HIDDEN_UNITS, DEFAULT_HIDDEN_UNITS)


def test_a_state_with_rows_but_without_their_votes_is_rejected() -> None:
    head = NearestNeighborsHead(6, 3, num_neighbors=3)
    head.fit(*classes(30, 0), torch.ones(30))
    state = head.state_dict()
    state["votes"] = state["votes"][:-1]
    with pytest.raises(ValueError, match="NearestNeighborsHead"):
        load_state(lambda: NearestNeighborsHead(6, 3, num_neighbors=3), state)
