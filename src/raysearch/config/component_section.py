"""The components of the user's own that a space file names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from raysearch.config.code_importer import CODE_IMPORTER
from raysearch.config.custom_code import NO_CODE, UserCode, distribution_of, plugin_import_paths
from raysearch.config.custom_components import (
    CustomComponent,
    check_components,
    check_metric,
    import_component,
)
from raysearch.config.hyperparameter_spec import SELECTORS, is_import_path
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import OBJECTIVES
from raysearch.config.space import Space
from raysearch.config.yaml_loader import YamlMapping
from raysearch.errors import SpaceError

# The prefix of the entry points of metrics.
METRIC = "metric"
# Further folders in which modules of the user's are looked for.
CODE_VARIABLE = "RAYSEARCH_CODE"
# Converts the value of a selector.
Convert = Callable[[str, object], object]


def with_import_paths(section: object) -> object:
    """Return a section of a file with the import paths of plugins in place of their names."""
    return _converted(section, _import_path)


def prior_with_import_paths(section: YamlMapping) -> YamlMapping:
    """Return the section `prior` with the import paths of plugins in place of their names."""
    return {
        name: {_import_path(str(name), value): weight for value, weight in entry.items()}
        if name in SELECTORS and isinstance(entry, Mapping)
        else entry
        for name, entry in section.items()
    }


def import_components(
    section: object, folder: Path, metrics: Iterable[str]
) -> tuple[CustomComponent, ...]:
    """Import the components that a section of a file names.

    Args:
        section: The section `space`.
        folder: The folder of the file. Modules are looked for there, in the folders of
            RAYSEARCH_CODE and in the working folder, after all other places.
        metrics: The import paths of metrics, which are imported, too.

    Raises:
        SpaceError: If one cannot be imported, or declares something that is no hyperparameter.
    """
    names = sorted(set(_named(section)))
    metrics = tuple(metrics)
    if not names and not metrics:
        return ()
    import_paths = [*(name for _part, name in names), *metrics]
    CODE_IMPORTER.allow_folders(code_folders(folder), import_paths)
    for metric in metrics:
        check_metric(metric)
    components = []
    for part, name in names:
        try:
            components.append(import_component(part, name))
        except SpaceError as error:
            raise SpaceError(f"space.{part}: {error}") from error
    check_components(components)
    return tuple(components)


def code_folders(*folders: Path) -> list[Path]:
    """Return `folders`, those of RAYSEARCH_CODE and the working folder."""
    further = os.environ.get(CODE_VARIABLE, "").split(os.pathsep)
    return [each.resolve() for each in (*folders, *map(Path, filter(None, further)), Path.cwd())]


def with_metric_paths(content: YamlMapping) -> YamlMapping:
    """Return the content of a file with the import paths of metrics in place of plugins' names."""

    def path_of(name: object) -> object:
        is_plugin = isinstance(name, str) and name not in OBJECTIVES and not is_import_path(name)
        return plugin_import_paths(METRIC).get(str(name), name) if is_plugin else name

    changed = dict(content)
    objective, metrics = content.get("objective"), content.get("metrics")
    if isinstance(objective, Mapping) and "metric" in objective:
        changed["objective"] = {**objective, "metric": path_of(objective["metric"])}
    if metrics:
        names = metrics if isinstance(metrics, list) else [metrics]
        changed["metrics"] = list(map(path_of, names))
    return changed


def named_metrics(content: YamlMapping) -> list[str]:
    """Return the import paths of metrics that a file names, as far as they are valid."""
    objective, metrics = content.get("objective"), content.get("metrics")
    names = [objective.get("metric")] if isinstance(objective, Mapping) else []
    names += metrics if isinstance(metrics, list) else [metrics]
    return [name for name in names if isinstance(name, str) and is_import_path(name)]


def _import_path(part: str, value: object) -> object:
    """Return the import path of the plugin `value`; `value` itself if it is none."""
    if not isinstance(value, str) or HYPERPARAMETERS[part].value_error(value) is None:
        return value
    return plugin_import_paths(part).get(value, value)


def _named(section: object) -> Iterator[tuple[str, str]]:
    """Yield each selector of a section, at any depth, with each import path among its values."""
    names: list[tuple[str, str]] = []

    def collect(part: str, value: object) -> object:
        if isinstance(value, str) and is_import_path(value):
            names.append((part, value))
        return value

    _converted(section, collect)
    yield from names


def _converted(section: object, convert: Convert) -> object:
    """Return a section whose selectors have converted values, at any depth."""
    if not isinstance(section, Mapping):
        return section
    return {name: _converted_entry(name, entry, convert) for name, entry in section.items()}


def _converted_entry(name: object, entry: object, convert: Convert) -> object:
    """Return the entry of a hyperparameter with converted values."""

    def values(value: object) -> object:
        if isinstance(value, list):
            return [values(item) for item in value]
        return convert(name, value) if name in SELECTORS and isinstance(name, str) else value

    if not isinstance(entry, Mapping):
        return values(entry)
    result: YamlMapping = {}
    for key, value in entry.items():
        if key == "choice" and isinstance(value, Mapping):
            result[key] = {
                values(choice): _converted(branch, convert) for choice, branch in value.items()
            }
        elif key == "when":
            result[key] = _converted(value, convert)
        else:
            result[key] = values(value)
    return result


def user_code(space: Space) -> UserCode:
    """Return the functions of the user's own that a space names, which this process has imported.

    The files are all that the import needed.

    Raises:
        SpaceError: If a module is neither a file beside the space nor one of an installed package.
    """
    components = {component.name for component in space.components}
    paths = tuple(sorted(components.union(space.custom_metrics)))
    if not paths:
        return NO_CODE
    files, distributions = CODE_IMPORTER.files(), set()
    for path in paths:
        module = path.partition(":")[0]
        if module in {file.module for file in files}:
            continue
        distribution = distribution_of(path)
        if not distribution:
            raise SpaceError(
                f"{path}: the file of module {module} is neither beside the space nor of an"
                f" installed package; name its folder by {CODE_VARIABLE}"
            )
        distributions.add(distribution)
    return UserCode(paths, files, tuple(sorted(distributions)))
