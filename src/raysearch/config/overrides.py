"""Values of a space that the command line overrides, such as `epochs=2`."""

from __future__ import annotations

from collections.abc import Iterable

from raysearch.config.names import candidates
from raysearch.config.yaml_loader import Location, YamlDocument, YamlMapping, load_text
from raysearch.errors import SpaceError

EXAMPLE = "epochs=2 or space.architecture=resnet18"


def override(document: YamlDocument, overrides: Iterable[str]) -> YamlDocument:
    """Return `document` with the values of `overrides`.

    Args:
        document: The content of a space file.
        overrides: Texts `KEY=VALUE`; a key in a section is `SECTION.KEY`, and the value is YAML.
            `KEY=` removes the key.

    Raises:
        SpaceError: If a text has another form, its value is not YAML, its key is inside a value
            that is no section, or a key to remove does not exist.
    """
    overrides = list(overrides)
    if not overrides or not isinstance(document.tree, dict):
        return document
    tree: YamlMapping = document.tree
    origins: dict[Location, str] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not separator or not all(path):
            raise SpaceError(f"{text}: not an override; write KEY=VALUE, such as {EXAMPLE}")
        if value.strip():
            tree = _with_value(tree, path, load_text(value, text), text)
            origins[path] = text
        else:
            tree = _without_value(tree, path, text)
    return YamlDocument(tree, document.lines, {**document.origins, **origins})


def _with_value(tree: YamlMapping, path: Location, value: object, text: str) -> YamlMapping:
    """Return a copy of `tree` with `value` at `path`; missing sections are created."""
    key, *inner = path
    if not inner:
        return {**tree, key: value}
    section = _section(tree, key, inner[0], text)
    return {**tree, key: _with_value(section, tuple(inner), value, text)}


def _without_value(tree: YamlMapping, path: Location, text: str) -> YamlMapping:
    """Return a copy of `tree` without the value at `path`."""
    key, *inner = path
    if key not in tree:
        raise SpaceError(f"{text}: there is no such key to remove{candidates(key, tree)}")
    others = {other: value for other, value in tree.items() if other != key}
    if not inner:
        return others
    section = _section(tree, key, inner[0], text)
    return {**tree, key: _without_value(section, tuple(inner), text)}


def _section(tree: YamlMapping, key: str, inner_key: str, text: str) -> YamlMapping:
    """Return the section at `key`, in which an override sets or removes `inner_key`."""
    section = tree.get(key)
    if section is not None and not isinstance(section, dict):
        raise SpaceError(
            f"{text}: `{key}` is {section!r}, which has no `{inner_key}`; override `{key}` itself"
        )
    return section or {}
