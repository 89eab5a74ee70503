"""The end of a net: what stands between its features and the classes."""

from __future__ import annotations

from torch import nn

from raysearch.errors import SpaceError
from raysearch.models.transfer.layer_order import Head, head_name


def with_head(
    net: nn.Module,
    classes: int,
    *,
    head_hidden_units: int = 0,
    head_batch_norm: bool = False,
    head_dropout: float = 0.0,
) -> nn.Module:
    """`net` with a head of its own in place of its last linear layer; itself where none is asked.

    Batch norm of the features, a layer of `head_hidden_units` units with ReLU, dropout, and the classes,
    each where it is asked for. SpaceError for a net that does not end in a linear layer.
    """
    if not (head_hidden_units or head_batch_norm or head_dropout):
        return net
    name = head_name(net, classes)
    if not name:
        raise SpaceError(
            "the net does not end in a linear layer; leave out the hyperparameters `head_...`"
        )
    owner, _, own = name.rpartition(".")
    last = net.get_submodule(name)
    features: int = last.in_features  # type: ignore[assignment]
    layers: list[nn.Module] = [nn.BatchNorm1d(features)] if head_batch_norm else []
    if head_hidden_units:
        layers += [nn.Linear(features, head_hidden_units), nn.ReLU(inplace=True)]
    if head_dropout:
        layers.append(nn.Dropout(head_dropout))
    layers.append(nn.Linear(head_hidden_units or features, classes))
    net.get_submodule(owner).add_module(own, Head(*layers))
    return net
