"""Reads a YAML file safely, with the line of every value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raysearch.errors import SpaceError

MAX_BYTES = 256 * 1024
# The keys and list indices that lead to a value, as text.
Location = tuple[str, ...]
# A mapping of a YAML file before it is validated.
YamlMapping = dict[Any, Any]


@dataclass(frozen=True)
class YamlDocument:
    """The content of a YAML file, and the line of each value in it."""

    tree: object
    lines: Mapping[Location, int] = field(default_factory=dict)

    def line_of(self, path: tuple[object, ...]) -> int | None:
        """Return the line of the value at `path`, or of the nearest value around it."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(tuple(map(location_key, path[:length])))
            if line is not None:
                return line
        return None


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases and duplicate keys, in which `1e-3` is a number."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise SpaceError(
                f"line {mark.line + 1}: aliases (`*name`) are not allowed; repeat the value"
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise SpaceError(f"line {line}: duplicate key `{key.value}`")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def location_key(key: object) -> str:
    """Return a key or a list index as it is written in YAML."""
    return str(key).lower() if isinstance(key, bool) else str(key)


def load_document(path: str | Path) -> YamlDocument:
    """Return the content of the YAML file at `path`; SpaceError if it cannot be read."""
    file = Path(path)
    if not file.is_file():
        raise SpaceError(f"{path}: no such file; pass a search space such as searchspace/*.yaml")
    if file.stat().st_size > MAX_BYTES:
        raise SpaceError(f"{path}: larger than {MAX_BYTES // 1024} kB, the limit of a search space")
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            tree: object = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None
    # The constructor of a tag such as !!timestamp raises whatever it likes.
    except Exception as error:
        raise SpaceError(f"{path}: not YAML: {_problem(error)}") from None
    lines: dict[Location, int] = {}
    _collect_lines(node, (), lines)
    return YamlDocument(tree, lines)


def load_tree(path: str | Path) -> object:
    """Return the content of the YAML file at `path`, without lines."""
    return load_document(path).tree


def _collect_lines(node: yaml.Node | None, path: Location, lines: dict[Location, int]) -> None:
    """Enter the lines of the keys and list items below `node` in `lines`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*path, str(index)] = item.start_mark.line + 1
            _collect_lines(item, (*path, str(index)), lines)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    text = f"line {mark.line + 1}: {problem}" if mark else str(problem)
    if "'\\t'" in text:
        return text.split(":")[0] + ": a tab as indentation; indent with spaces"
    return " ".join(text.split())
