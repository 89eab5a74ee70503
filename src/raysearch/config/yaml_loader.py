"""A space's YAML as plain values, read safely."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from raysearch.errors import SpaceError
from raysearch.models.transfer.pretrained_weights import FILES

MAX_BYTES = 256 * 1024


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases and duplicate keys, where `1e-3` is a number."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise SpaceError(f"line {mark.line + 1}: aliases (*name) are not allowed; write it out")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise SpaceError(f"line {line}: {key.value!r} stands twice; keep one of them")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_tree(path: str | Path) -> object:
    """What the YAML file at `path` holds; SpaceError where it cannot be read."""
    file = Path(path)
    if not file.is_file():
        raise SpaceError(f"{path}: no such file; give a search space such as searchspace/*.yaml")
    if file.stat().st_size > MAX_BYTES:
        raise SpaceError(f"{path}: larger than {MAX_BYTES // 1024} kB; a search space is shorter")
    try:
        tree: object = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 a safe loader
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None
    # A tag such as !!timestamp reads its text by code that raises whatever it likes.
    except Exception as error:
        raise SpaceError(f"{path}: not YAML: {_brief(error)}") from None
    return tree


def _brief(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    text = f"line {mark.line + 1}: {problem}" if mark else str(problem)
    if "'\\t'" in text:
        return text.split(":")[0] + ": a tab where YAML wants spaces; indent with spaces"
    return " ".join(text.split())


def placed(tree: object) -> object:
    """`tree` with each file of weights as a path that means the same wherever a trial runs."""
    if isinstance(tree, dict):
        return {placed(key): placed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [placed(one) for one in tree]
    return str(Path(tree).absolute()) if isinstance(tree, str) and tree.endswith(FILES) else tree
