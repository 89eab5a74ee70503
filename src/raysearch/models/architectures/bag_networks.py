"""Networks of bags: they classify a slide by the features of its patches (multiple instances).

A batch is (B, 1, n, D): slides, one channel, patches, features. Slides with fewer patches than n
are padded with NaN. The attention of a patch is its part in the features of its slide.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.errors import SpaceError
from raysearch.models import PatchShape


class BagPooling(nn.Module, ABC):
    """Pools the embedded patches of slides."""

    @abstractmethod
    def pooled(self, patches: Tensor, is_patch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of slides (B, E), and the attention of their patches (B, n).

        Args:
            patches: Embedded patches, shape (B, n, E); 0 where there is none.
            is_patch: Where there is a patch, bool, shape (B, n); at least one for each slide.
        """


class MeanPooling(BagPooling):
    """The mean of the patches."""

    def pooled(self, patches: Tensor, is_patch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means, and the same attention for all patches of a slide."""
        attention = is_patch / is_patch.sum(dim=1, keepdim=True)
        return _weighted_sum(patches, attention), attention


class MaxPooling(BagPooling):
    """The largest value of each feature."""

    def pooled(self, patches: Tensor, is_patch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima, and the fraction of them that each patch has."""
        values, indices = patches.masked_fill(~is_patch.unsqueeze(2), -torch.inf).max(dim=1)
        zeros = torch.zeros(is_patch.shape, device=patches.device)
        ones = torch.ones(indices.shape, device=patches.device)
        return values, zeros.scatter_add(1, indices, ones) / indices.shape[1]


class GatedAttention(BagPooling):
    """Gated attention (ABMIL; Ilse, Tomczak and Welling, 2018, arXiv:1802.04712, equation 9).

    Args:
        num_features: The features of an embedded patch.
        attention_units: The units of the attention.
    """

    def __init__(self, num_features: int, attention_units: int) -> None:
        super().__init__()
        self.content = nn.Linear(num_features, attention_units)
        self.gate = nn.Linear(num_features, attention_units)
        self.score = nn.Linear(attention_units, 1)

    def pooled(self, patches: Tensor, is_patch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means weighted by attention, and the attention."""
        gated = torch.tanh(self.content(patches)) * torch.sigmoid(self.gate(patches))
        scores = self.score(gated).squeeze(2).float().masked_fill(~is_patch, -torch.inf)
        attention = torch.softmax(scores, dim=1)
        return _weighted_sum(patches, attention), attention


class TransformerPooling(BagPooling):
    """A transformer over the patches and a class token; positions are not used.

    Args:
        num_features: The features of an embedded patch.
        num_layers: The number of layers.
        num_heads: The heads of each layer.
        dropout: The dropout after attention and in the hidden layers.
    """

    def __init__(self, num_features: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, num_features))
        layers = [_TransformerLayer(num_features, num_heads, dropout) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers)
        self.normalize = nn.LayerNorm(num_features)

    def pooled(self, patches: Tensor, is_patch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class tokens, and their attention in the last layer, the mean of its heads."""
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        is_token = functional.pad(is_patch, (1, 0), value=True)
        attention = is_patch.float()
        for layer in self.layers:
            if isinstance(layer, _TransformerLayer):
                attention = layer.class_attention(tokens, is_token)
                tokens = layer(tokens, is_token)
        return self.normalize(tokens[:, 0]), attention


class _TransformerLayer(nn.Module):
    """Self-attention and hidden units, each behind a layer normalization."""

    def __init__(self, num_features: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.normalize_attention = nn.LayerNorm(num_features)
        self.projections = nn.Linear(num_features, 3 * num_features)
        self.output = nn.Linear(num_features, num_features)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Sequential(
            nn.LayerNorm(num_features),
            nn.Linear(num_features, 2 * num_features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * num_features, num_features),
        )

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each of shape (B, heads, tokens, features)."""
        projected = self.projections(self.normalize_attention(tokens))
        parts = projected.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def forward(self, tokens: Tensor, is_token: Tensor) -> Tensor:
        """Return the tokens (B, T, E) after the layer."""
        queries, keys, values = self._heads(tokens)
        mask = is_token[:, None, None, :]
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        tokens = tokens + self.dropout(self.output(attended.transpose(1, 2).flatten(2)))
        hidden: Tensor = self.hidden(tokens)
        return tokens + hidden

    def class_attention(self, tokens: Tensor, is_token: Tensor) -> Tensor:
        """Return the attention of the class token to each patch (B, T - 1)."""
        queries, keys, _values = self._heads(tokens)
        scores = (queries[:, :, :1] * keys).sum(dim=3) / math.sqrt(keys.shape[3])
        scores = scores.float().masked_fill(~is_token[:, None], -torch.inf)
        attention = torch.softmax(scores, dim=2).mean(dim=1)[:, 1:]
        return attention / attention.sum(dim=1, keepdim=True)


class BagNetwork(nn.Module):
    """Embeds the patches of slides, pools them, and classifies the slides.

    Args:
        num_features: The features of a patch.
        num_classes: The number of logits.
        embedding_units: The features of an embedded patch.
        pooling: What pools them.
        dropout: The dropout after the embedding and before the logits.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        embedding_units: int,
        pooling: BagPooling,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Sequential(
            nn.LayerNorm(num_features),
            nn.Linear(num_features, embedding_units),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(embedding_units, num_classes)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of slides (B, 1, n, D), padded with NaN."""
        logits: Tensor = self.classifier(self.dropout(self._pooled(batch)[0]))
        return logits

    def attention(self, batch: Tensor) -> Tensor:
        """Return the attention of each patch of slides, shape (B, n); 0 for padding."""
        return self._pooled(batch)[1]

    def _pooled(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        features, is_patch = unpadded(batch)
        embedded = self.embedding(features) * is_patch.unsqueeze(2)
        return self.pooling.pooled(embedded, is_patch)


class MeanClassifier(nn.Module):
    """A linear classifier of the mean features of slides.

    Args:
        num_features: The features of a patch.
        num_classes: The number of logits.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.normalize = nn.LayerNorm(num_features)
        self.classifier = nn.Linear(num_features, num_classes)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of slides (B, 1, n, D), padded with NaN."""
        features, is_patch = unpadded(batch)
        attention = is_patch / is_patch.sum(dim=1, keepdim=True)
        logits: Tensor = self.classifier(self.normalize(_weighted_sum(features, attention)))
        return logits


def unpadded(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (B, n, D) with 0 where there is no patch, and where there is one (B, n)."""
    features = batch.flatten(0, 1)
    is_patch = ~torch.isnan(features[..., 0])
    return torch.nan_to_num(features), is_patch


def _weighted_sum(patches: Tensor, attention: Tensor) -> Tensor:
    """Return the sums (B, E) of patches (B, n, E) with the weights (B, n)."""
    return torch.bmm(attention.to(patches.dtype).unsqueeze(1), patches).squeeze(1)


def mean_pooling(
    shape: PatchShape, num_classes: int, *, embedding_units: int, dropout: float
) -> nn.Module:
    """Build a network that classifies the mean of the embedded patches."""
    return BagNetwork(shape[1], num_classes, embedding_units, MeanPooling(), dropout)


def max_pooling(
    shape: PatchShape, num_classes: int, *, embedding_units: int, dropout: float
) -> nn.Module:
    """Build a network that classifies the maxima of the embedded patches."""
    return BagNetwork(shape[1], num_classes, embedding_units, MaxPooling(), dropout)


def abmil(
    shape: PatchShape,
    num_classes: int,
    *,
    embedding_units: int,
    attention_units: int,
    dropout: float,
) -> nn.Module:
    """Build a network with gated attention (ABMIL)."""
    pooling = GatedAttention(embedding_units, attention_units)
    return BagNetwork(shape[1], num_classes, embedding_units, pooling, dropout)


def transformer_mil(
    shape: PatchShape,
    num_classes: int,
    *,
    embedding_units: int,
    transformer_layers: int,
    attention_heads: int,
    dropout: float,
) -> nn.Module:
    """Build a network with a transformer over the patches.

    Raises:
        SpaceError: If the heads do not divide the units.
    """
    if embedding_units % attention_heads:
        raise SpaceError(
            f"attention_heads {attention_heads} does not divide embedding_units {embedding_units};"
            " choose one that does"
        )
    pooling = TransformerPooling(embedding_units, transformer_layers, attention_heads, dropout)
    return BagNetwork(shape[1], num_classes, embedding_units, pooling, dropout)
