"""Heads over the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models.transfer.network_layers import dense_layers

# Of the votes of neighbors: the temperature of their softmax, as in DINO (Caron et al., 2021).
VOTE_TEMPERATURE = 0.07
# The probability of a class without votes.
MIN_VOTE = 1e-4
# So many patches are compared with so many training rows at once: 64 MB of similarities.
QUERY_ROWS, BLOCK_ROWS = 1024, 16384
# A smaller standard deviation, relative to the mean, is that of one value and of rounding.
MIN_RELATIVE_STD = 1e-6
# Units of the hidden layers of `mlp` if the hyperparameter `head_hidden_units` is 0.
DEFAULT_HIDDEN_UNITS = 256


class Standardization(nn.Module):
    """Standardizes features by the mean and the standard deviation of the training rows.

    Args:
        width: The number of features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, features: Tensor) -> None:
        """Fit to float32 `features` (N, D); a feature with one value keeps its scale.

        `torch.std_mean` over the rows takes several times as long.
        """
        self.mean = features.mean(dim=0)
        squares = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
        for rows in torch.split(features, QUERY_ROWS):
            squares += (rows - self.mean).square_().sum(dim=0)
        std = (squares / len(features)).sqrt().float()
        self.std = torch.where(std > MIN_RELATIVE_STD * self.mean.abs(), std, 1.0)

    def fit_in_place(self, features: Tensor) -> Tensor:
        """Fit to float32 `features` (N, D), and return them standardized, in the same memory."""
        self.fit(features)
        return features.sub_(self.mean).div_(self.std)

    def forward(self, features: Tensor) -> Tensor:
        """Return the standardized features (B, D)."""
        return (features - self.mean) / self.std


class TrainedHead(nn.Module):
    """A linear layer over standardized features, or a network with hidden layers.

    Args:
        width: The number of features.
        num_classes: The number of logits.
        hidden_units: The units of each hidden layer; 0 for no hidden layer.
        hidden_layers: The number of hidden layers, if they have units.
        batch_norm: Whether batch normalization follows the standardization.
        dropout: The dropout before the last layer.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        hidden_units: int = 0,
        hidden_layers: int = 1,
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.standardization = Standardization(width)
        layers: list[nn.Module] = [nn.BatchNorm1d(width)] if batch_norm else []
        layers += dense_layers(width, hidden_units, hidden_layers)
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)
        self.last_layer = nn.Linear(hidden_units or width, num_classes)

    def classify(self, standardized: Tensor) -> Tensor:
        """Return the logits (B, classes) of standardized features (B, D)."""
        logits: Tensor = self.last_layer(self.layers(standardized))
        return logits

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, classes) of features (B, D)."""
        return self.classify(self.standardization(features))


class NearestCentroidHead(nn.Module):
    """The distances of standardized features to the mean of each class (Snell et al., 2017).

    The logits are the negative squared Euclidean distances, divided by the number of features.

    Args:
        width: The number of features.
        num_classes: The number of logits.
    """

    centroids: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.standardization = Standardization(width)
        self.register_buffer("centroids", torch.zeros(num_classes, width))

    def fit(self, features: Tensor, labels: Tensor, row_weights: Tensor) -> None:
        """Fit to features (N, D), labels (N,) and the weight of each row (N,)."""
        self.standardization.fit(features)
        standardized = self.standardization(features)
        weights = functional.one_hot(labels, len(self.centroids)).float() * row_weights[:, None]
        totals = weights.sum(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
        self.centroids = (weights.T @ standardized) / totals[:, None]

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, classes) of features (B, D)."""
        differences: Tensor = self.standardization(features)[:, None, :] - self.centroids
        return -differences.square().mean(dim=2)


class NearestNeighborsHead(nn.Module):
    """The votes of the nearest training rows, by the cosine similarity of features.

    The softmax of the logits are the fractions of the votes. A vote has the weight of DINO's
    classifier: the exponential of the similarity divided by a temperature.

    Args:
        width: The number of features.
        num_classes: The number of logits.
        num_neighbors: The number of neighbors that vote.
        num_rows: The number of training rows that are stored.
    """

    # The entries of the state with a row for each training row.
    VARIABLE_ROWS: ClassVar = ("rows", "votes")
    rows: Tensor
    votes: Tensor

    def __init__(self, width: int, num_classes: int, num_neighbors: int, num_rows: int = 0) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        self.register_buffer("rows", torch.zeros(num_rows, width, dtype=torch.float16))
        self.register_buffer("votes", torch.zeros(num_rows, num_classes))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *arguments: Any
    ) -> None:
        """Take the number of training rows from the state dictionary."""
        rows, votes = (state_dict.get(f"{prefix}{name}") for name in self.VARIABLE_ROWS)
        if rows is not None and votes is not None and len(rows) == len(votes):
            self.set_num_rows(len(rows))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def set_num_rows(self, num_rows: int) -> None:
        """Store zeros instead of training rows, as many as a fold has: for a measurement."""
        self.rows = self.rows.new_zeros(num_rows, self.rows.shape[1])
        self.votes = self.votes.new_zeros(num_rows, self.votes.shape[1])

    def fit(self, features: Tensor, labels: Tensor, row_weights: Tensor) -> None:
        """Fit to features (N, D), labels (N,) and the weight of each row (N,)."""
        num_classes = self.votes.shape[1]
        self.rows = functional.normalize(features, dim=1).half()
        self.votes = functional.one_hot(labels, num_classes).float() * row_weights[:, None]

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, classes) of features (B, D)."""
        queries = functional.normalize(features, dim=1)
        return torch.cat([self._logits(part) for part in torch.split(queries, QUERY_ROWS)])

    def _logits(self, queries: Tensor) -> Tensor:
        """Return the logits (B, classes) of normalized features (B, D)."""
        nearest = queries.new_empty((len(queries), 0))
        indices = torch.empty_like(nearest, dtype=torch.int64)
        for start in range(0, len(self.rows), BLOCK_ROWS):
            block = self.rows[start : start + BLOCK_ROWS].to(queries.dtype)
            numbers = torch.arange(start, start + len(block), device=indices.device)
            candidates = torch.cat([nearest, queries @ block.T], dim=1)
            candidate_indices = torch.cat([indices, numbers.expand(len(queries), -1)], dim=1)
            num_neighbors = min(self.num_neighbors, candidates.shape[1])
            nearest, positions = candidates.topk(num_neighbors, dim=1)
            indices = candidate_indices.gather(1, positions)
        # An exponential of 1/0.07 is large. The softmax of the logits is the fraction of the votes.
        largest = nearest[:, :1].detach()
        weights = ((nearest - largest) / VOTE_TEMPERATURE).exp()
        votes = (weights[:, :, None] * self.votes[indices]).sum(dim=1)
        min_votes = MIN_VOTE * votes.sum(dim=1, keepdim=True).detach()
        return torch.maximum(votes, min_votes).log() + largest / VOTE_TEMPERATURE


FeatureHead = TrainedHead | NearestCentroidHead | NearestNeighborsHead


def build_feature_head(
    classifier: str,
    width: int,
    num_classes: int,
    *,
    num_neighbors: int = 1,
    num_rows: int = 0,
    hidden_units: int = 0,
    hidden_layers: int = 1,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> FeatureHead:
    """Build the head of the hyperparameter `classifier`, not fitted yet.

    Args:
        classifier: `logistic_regression`, `linear`, `mlp`, `nearest_centroid` or
            `nearest_neighbors`.
        width: The number of features.
        num_classes: The number of logits.
        num_neighbors: The neighbors that vote, of `nearest_neighbors`.
        num_rows: The training rows that `nearest_neighbors` stores.
        hidden_units: The units of each hidden layer of `mlp`; 0 for `DEFAULT_HIDDEN_UNITS`.
        hidden_layers: The number of hidden layers of `mlp`.
        batch_norm: Whether `linear` and `mlp` begin with batch normalization.
        dropout: The dropout before the last layer of `linear` and `mlp`.
    """
    if classifier == "nearest_centroid":
        return NearestCentroidHead(width, num_classes)
    if classifier == "nearest_neighbors":
        return NearestNeighborsHead(width, num_classes, num_neighbors, num_rows)
    if classifier == "logistic_regression":
        return TrainedHead(width, num_classes)
    units = (hidden_units or DEFAULT_HIDDEN_UNITS) if classifier == "mlp" else 0
    return TrainedHead(
        width, num_classes, units, hidden_layers, batch_norm=batch_norm, dropout=dropout
    )
