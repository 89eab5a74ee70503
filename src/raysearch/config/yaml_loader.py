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
MAX_DIGITS, MAX_DEPTH = 100, 50
# The keys and list indices that lead to a value, as text.
Location = tuple[str, ...]
# A mapping of a YAML file before it is validated.
YamlMapping = dict[Any, Any]


@dataclass(frozen=True)
class YamlDocument:
    """The content of a YAML file.

    Attributes:
        tree: The values.
        lines: The line of each value.
        origins: The override of each value that the command line gives.
    """

    tree: object
    lines: Mapping[Location, int] = field(default_factory=dict)
    origins: Mapping[Location, str] = field(default_factory=dict)

    def place_of(self, path: tuple[object, ...]) -> str:
        """Return where the value at `path` is: `line 3`, `override epochs=2`, or nothing."""
        for length in range(len(path), 0, -1):
            location = tuple(map(location_key, path[:length]))
            if location in self.origins:
                return f"override {self.origins[location]}"
            if location in self.lines:
                return f"line {self.lines[location]}"
        return ""

    def line_of(self, path: tuple[object, ...]) -> int | None:
        """Return the line of the value at `path`, or of the nearest value around it."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(tuple(map(location_key, path[:length])))
            if line is not None:
                return line
        return None


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases, duplicate keys and deep nesting; `1e-3` is a number in it."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise SpaceError(
                f"line {mark.line + 1}: aliases (`*name`) are not allowed; repeat the value"
            )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise SpaceError(f"line {mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise SpaceError(f"line {line}: duplicate key `{key.value}`")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            problem = f"a number of {len(node.value):,} digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return int(super().construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Safe YAML in which a text that `_Loader` would take for a number has quotes."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump_document(tree: object) -> str:
    """Return the content of a YAML file with the values of `tree`, which `load_document` reads."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def location_key(key: object) -> str:
    """Return a key or a list index as it is written in YAML."""
    return str(key).lower() if isinstance(key, bool) else str(key)


class _TextLoader(_Loader):
    """The same, in which every value and every key but null is the text that the file has."""

    yaml_implicit_resolvers = {  # noqa: RUF012 the attribute of PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }


def load_document(path: str | Path, texts: bool = False) -> YamlDocument:
    """Return the content of the YAML file at `path`; SpaceError if it cannot be read.

    Args:
        path: The file.
        texts: Whether values and keys are the texts that the file has: `007`, `true` and
            `2024-01-02` are no numbers, booleans or dates.
    """
    file = Path(path)
    if not file.is_file():
        raise SpaceError(f"{path}: no such file; pass a search space such as searchspace/*.yaml")
    if file.stat().st_size > MAX_BYTES:
        raise SpaceError(f"{path}: larger than {MAX_BYTES // 1024} kB, the limit of a search space")
    try:
        return _document(file.read_text(encoding="utf-8"), _TextLoader if texts else _Loader)
    except OSError as error:
        raise SpaceError(f"{path}: cannot be read ({error.strerror or error})") from None
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None
    # The constructor of a tag such as !!timestamp raises whatever it likes.
    except Exception as error:
        raise SpaceError(f"{path}: not YAML: {_problem(error)}") from None


def load_text(text: str, origin: str) -> object:
    """Return the value that the YAML `text` of the override `origin` has; SpaceError if none."""
    try:
        return _document(text, _Loader).tree
    except Exception as error:  # as in a file
        reason = str(error) if isinstance(error, SpaceError) else _problem(error)
        raise SpaceError(f"{origin}: not YAML: {reason}") from None


def _document(text: str, loader_class: type[_Loader]) -> YamlDocument:
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        tree: object = None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()
    lines: dict[Location, int] = {}
    _collect_lines(node, (), lines)
    return YamlDocument(tree, lines)


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
