"""Any net of timm (Wightman, 2019), by its own name behind `timm:`, without weights."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from typing import Any

from torch import nn

from raysearch.errors import SpaceError
from raysearch.models.patch_shape import Shape

TIMM = "timm:"


@cache
def library() -> Any:
    """Timm itself, which takes seconds to import: for those alone who ask for it."""
    return importlib.import_module("timm")


def known(name: str) -> str:
    """The name of timm's net that the architecture `name` asks for; SpaceError for no such one."""
    own = name.removeprefix(TIMM)
    # Behind a point stands a tag, which names weights of a net.
    if not library().is_model(own) or (
        "." in own and own not in library().list_models(pretrained=True)
    ):
        nets = library().list_models()
        close = difflib.get_close_matches(own.partition(".")[0], nets, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models()"
        raise SpaceError(f"architecture {name!r}: timm has no such net; {advice}")
    return own


def size_of(own: str, shape: Shape) -> dict[str, Any]:
    """What timm's net `own` has to be told of patches of `shape`, where it is made for one size."""
    fixed = library().get_pretrained_cfg(own)
    return {"img_size": shape[:2]} if fixed is not None and fixed.fixed_input_size else {}


def timm_net(name: str, shape: Shape, classes: int, *, dropout: float | None = None) -> nn.Module:
    """The net `name` for patches of `shape`; SpaceError for one that timm has not.

    Its own dropout before the head stays where none is given.
    """
    own = known(name)
    more = size_of(own, shape) | ({} if dropout is None else {"drop_rate": dropout})
    net: nn.Module = library().create_model(own, pretrained=False, num_classes=classes, **more)
    return net
