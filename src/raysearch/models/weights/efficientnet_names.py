"""Names of EfficientNet-PyTorch's state dictionaries, as timm's EfficientNets have them."""

from __future__ import annotations

import re
from collections.abc import Collection

from raysearch.models.weights.state_dicts import StateDict

# An entry that every such state dictionary has.
FIRST_ENTRY = "_conv_stem.weight"
BLOCK = re.compile(r"_blocks\.(\d+)\.(_[a-z_]+\d?)\.(.+)")
TIMM_BLOCK = re.compile(r"blocks\.\d+\.\d+\.")
OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
SQUEEZE_EXCITATION = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# Of a block that expands its channels first, and of one that does not.
EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **SQUEEZE_EXCITATION,
}
PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **SQUEEZE_EXCITATION,
}


def with_timm_names(state: StateDict, expected: Collection[str]) -> StateDict:
    """Return `state` with timm's names, if it has those of EfficientNet-PyTorch.

    That library numbers all blocks in succession, timm those of each stage. An entry of another
    name keeps it.

    Args:
        state: The stored state dictionary, without a prefix.
        expected: The names of the entries of timm's network, in their order.
    """
    if FIRST_ENTRY not in state:
        return state
    prefixes = [match[0] for match in map(TIMM_BLOCK.match, expected) if match is not None]
    blocks = list(dict.fromkeys(prefixes))
    return {_timm_name(name, state, blocks): value for name, value in state.items()}


def _timm_name(name: str, state: StateDict, blocks: list[str]) -> str:
    match = BLOCK.fullmatch(name)
    if match is None:
        layer, _, entry = name.partition(".")
        return f"{OUTSIDE_BLOCKS.get(layer, layer)}.{entry}"
    number, layer, entry = match.groups()
    is_expanding = f"_blocks.{number}._expand_conv.weight" in state
    names = EXPANDING if is_expanding else PLAIN
    if int(number) >= len(blocks) or layer not in names:
        return name
    return f"{blocks[int(number)]}{names[layer]}.{entry}"
