"""From a YAML file to a validated `Space`, or to all of its errors at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from raysearch.config.component_section import (
    import_components,
    named_metrics,
    prior_with_import_paths,
    with_import_paths,
    with_metric_paths,
)
from raysearch.config.custom_components import CustomComponent, table_with
from raysearch.config.file_errors import FileError, model_errors, space_error
from raysearch.config.hyperparameter_entry import names_in_section
from raysearch.config.hyperparameter_section import flatten_entries
from raysearch.config.hyperparameter_spec import HyperparameterSpec
from raysearch.config.names import LABEL, OBJECTIVES, WEIGHTS_SUFFIXES, encoder_path
from raysearch.config.overrides import override
from raysearch.config.prior_section import parse_priors
from raysearch.config.space import Hyperparameter, Resources, Space, Stopping
from raysearch.config.space_checks import setting_errors, space_errors
from raysearch.config.space_model import SpaceFile
from raysearch.config.space_points import parse_points
from raysearch.config.yaml_loader import YamlDocument, YamlMapping, load_document
from raysearch.errors import SpaceError

PAIRED_ALPHA = 0.1
# In these, a key with an error does not make the others useless.
SECTIONS_OF_OPTIONAL_KEYS = ("space", "resources", "stopping", "budget", "limits", "prior")
# The grace period is a tenth of the epochs, but at least this, or half of fewer epochs: the first
# one or two epochs predict little of the end of a schedule.
MIN_GRACE_PERIOD = 3


def read_space(path: str | Path, overrides: Iterable[str] = ()) -> Space:
    """Return the space in the YAML file at `path`, with the values of `overrides`.

    Raises:
        SpaceError: With every error of the file; see also `override`.
    """
    document = override(load_document(path), overrides)
    return _parse(document, str(path), Path(path).parent)


def parse_space(tree: object, origin: str, folder: Path | None = None) -> Space:
    """Return the space in the parsed YAML `tree`; SpaceError with every error, without lines.

    Modules of the user's may lie in `folder`, by default the working folder.
    """
    return _parse(YamlDocument(tree), origin, folder or Path.cwd())


def _parse(document: YamlDocument, origin: str, folder: Path) -> Space:
    tree = document.tree
    if not isinstance(tree, dict):
        problem = "the file is empty" if tree is None else "the file is not a mapping"
        raise SpaceError(f"{origin}: {problem}; the key `space` is required")
    content = tree | {
        key: absolute_paths(tree[key])
        for key in ("space", "points_to_evaluate", "prior")
        if key in tree
    }
    content, components = _with_components(content, origin, folder)
    table = table_with(components)
    model, errors = _validate(content, table)
    if model is None or not content.get("space"):
        if not errors:
            errors = [FileError(("space",), "no hyperparameter is given, such as learning_rate")]
        raise space_error(origin, errors, document)
    named = names_in_section(content["space"], table)
    space = _space(model, named, components, errors)
    errors += setting_errors(model, space, named)
    errors += space_errors(space, named, has_errors=bool(errors))
    if errors:
        raise space_error(origin, errors, document)
    return space


def _with_components(
    content: YamlMapping, origin: str, folder: Path
) -> tuple[YamlMapping, tuple[CustomComponent, ...]]:
    """Return `content` with the import paths of plugins, and the components of the user's own.

    Raises:
        SpaceError: If one cannot be imported.
    """
    content = with_metric_paths(content)
    if "space" in content:
        content["space"] = with_import_paths(content["space"])
    if isinstance(content.get("prior"), dict):
        content["prior"] = prior_with_import_paths(content["prior"])
    points = content.get("points_to_evaluate")
    if isinstance(points, list):
        content["points_to_evaluate"] = [with_import_paths(point) for point in points]
    try:
        return content, import_components(content.get("space"), folder, named_metrics(content))
    except SpaceError as error:
        raise SpaceError(f"{origin}: {error}") from error


def _validate(
    content: YamlMapping, table: Mapping[str, HyperparameterSpec]
) -> tuple[SpaceFile | None, list[FileError]]:
    """Return the model of the valid parts of `content`, and the errors of the others.

    The model is None if no part of the space is valid.
    """
    errors: list[FileError] = []
    valid: YamlMapping = dict(content)
    while True:
        try:
            return SpaceFile.model_validate(valid, context=table), errors
        except ValidationError as error:
            invalid = model_errors(error)
        errors += invalid
        remaining = _without(valid, [part.path for part in invalid])
        if not remaining.get("space") or remaining == valid:
            return None, errors
        valid = remaining


def _without(content: YamlMapping, paths: list[tuple[object, ...]]) -> YamlMapping:
    """Return `content` without the keys that have an error at `paths`.

    Of a section without required keys, such as `space`, only its own key with an error is left out.
    """
    remaining = dict(content)
    for path in paths:
        section = remaining.get(path[0])
        if path[0] in SECTIONS_OF_OPTIONAL_KEYS and len(path) > 1 and isinstance(section, dict):
            remaining[path[0]] = {key: section[key] for key in section if key != path[1]}
        else:
            remaining.pop(path[0], None)
    return remaining


def _space(
    model: SpaceFile,
    named: frozenset[str],
    components: tuple[CustomComponent, ...],
    errors: list[FileError],
) -> Space:
    """Return the space of `model`; append the errors of its hyperparameters and its points."""
    hparams = flatten_entries(model.space, errors)
    resources = model.resources
    epoch_values = _epoch_values(model, hparams)
    return Space(
        hparams=hparams,
        metric=model.objective.metric,
        mode=OBJECTIVES.get(model.objective.metric, model.objective.mode or "max"),
        epochs=max(epoch_values),
        trials=model.trials,
        seed=model.seed,
        stopping=_stopping(model, min(epoch_values)),
        resources=Resources(
            resources.cpus, float(resources.gpus), tuple(sorted(resources.prices.items()))
        ),
        data=model.data,
        task=model.task or LABEL,
        split=model.split,
        validation=model.validation,
        auxiliary=model.auxiliary,
        sampler=model.sampler,
        budget=model.budget,
        points_to_evaluate=parse_points(
            model.points_to_evaluate, hparams, named, errors, table_with(components)
        ),
        constraints=model.constraints,
        limits=model.limits,
        warm_start=model.warm_start,
        memory=model.memory,
        prior=parse_priors(model.prior, hparams, model.sampler, named, errors),
        repeats=model.repeats,
        champion=model.champion,
        with_encoder=model.with_encoder,
        components=components,
        metrics=model.metrics,
    )


def _epoch_values(model: SpaceFile, hparams: tuple[Hyperparameter, ...]) -> tuple[int, ...]:
    """Return the numbers of epochs of a fold: those of the hyperparameter, or of the file's key."""
    values = (hparam.all_values() for hparam in hparams if hparam.name == "epochs")
    return tuple(map(int, next(values, (model.epochs,))))


def _stopping(model: SpaceFile, epochs: int) -> Stopping:
    """Return the stopping rules, with the defaults that depend on the rule and on the `epochs`.

    If trials differ in their epochs, these are the fewest.
    """
    section = model.stopping
    grace_period = section.grace_period
    if grace_period is None:
        grace_period = max(1, round(epochs / 10), min(MIN_GRACE_PERIOD, epochs // 2))
    paired_alpha = section.paired_alpha
    if paired_alpha is None:
        paired_alpha = 0.0 if section.rule == "none" else PAIRED_ALPHA
    return Stopping(
        grace_period, section.reduction_factor, section.rule, section.patience, paired_alpha
    )


def absolute_paths(tree: object) -> object:
    """Return `tree` with absolute paths for files of weights and for folders of encoders.

    Workers run elsewhere, and a resume may do so.
    """
    if isinstance(tree, dict):
        return {absolute_paths(key): absolute_paths(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [absolute_paths(item) for item in tree]
    if isinstance(tree, str) and (tree.endswith(WEIGHTS_SUFFIXES) or encoder_path(tree)):
        return os.path.abspath(Path(tree).expanduser())  # noqa: PTH100 it removes `..`
    return tree
