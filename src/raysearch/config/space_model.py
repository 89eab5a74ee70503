"""The pydantic model of a space file: its keys, their types and bounds, and their documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue

from raysearch.config.addresses import address_scheme
from raysearch.config.bounded_types import (
    Count,
    CountOrZero,
    Price,
    Probability,
    ReductionFactor,
    Repeats,
)
from raysearch.config.hyperparameter_entry import SpaceSection, rejected
from raysearch.config.hyperparameter_spec import IMPORT_PATH, Value, is_import_path
from raysearch.config.names import (
    FOLDS,
    LEAVE_ONE_OUT,
    NAME,
    OBJECTIVES,
    OFFICIAL,
    OWN_STUDIES,
    candidates,
    holdout_name,
    parse_holdouts,
)
from raysearch.config.samplers import DEFAULT_SAMPLER, Sampler
from raysearch.config.space import Budget, ChampionKind, NetworkLimits, Rule
from raysearch.errors import DataError

IMPORT_PATTERN = f"^{IMPORT_PATH.pattern}$"
SCHEMES = (FOLDS, LEAVE_ONE_OUT, OFFICIAL)
HOLDOUT_PREFIX = "holdout-"
NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME.pattern}$"}
MAX_CPUS = 1024
# The entries of a list: each constraint is computed for each point and for many random ones.
MAX_ENTRIES = 200
MAX_POINTS = 1000


def _check_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise rejected(f"{text!r} is not a name; use letters, digits, '.', '_' and '-'")
    return text


def _check_metric(text: str) -> str:
    if text not in OBJECTIVES and not is_import_path(text):
        raise rejected(f"{text!r} is unknown{candidates(text, OBJECTIVES)}, or MODULE:FUNCTION")
    return text


def _check_import_paths(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not is_import_path(text):
            raise rejected(f"{text!r} is no import path, such as mymetrics:weighted_f1")
    return texts


def _check_address(text: str) -> str:
    try:
        address_scheme(text)
    except DataError as error:
        raise rejected(str(error)) from None
    return text


def _check_scheme(text: str) -> str:
    """Return the split scheme `text`, with a hold-out scheme in its normal form."""
    holdouts = parse_holdouts(text.removeprefix(HOLDOUT_PREFIX))
    if holdouts is not None and text.startswith(HOLDOUT_PREFIX):
        return holdout_name(holdouts)
    if text not in SCHEMES:
        raise rejected(
            f"{text!r} is unknown{candidates(text, SCHEMES)}; five repeated hold-outs of 20 % are"
            " `holdout-5x0.2`"
        )
    return text


def _check_cpus(value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    cpus = float(str(value)) if is_number else 0.0
    if 0 < cpus <= MAX_CPUS and (cpus < 1 or cpus == int(cpus)):
        return cpus
    raise rejected(
        f"{value!r} is not a number of CPU cores; give an integer from 1 to {MAX_CPUS}, or a"
        " fraction of one core"
    )


def _check_unique(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) > MAX_ENTRIES:
        raise rejected(f"{len(texts):,} entries, at most {MAX_ENTRIES} are allowed")
    duplicates = sorted({text for text in texts if texts.count(text) > 1})
    if duplicates:
        raise rejected(f"duplicate entry {', '.join(map(repr, duplicates))}")
    return texts


def _check_points(points: list[RawPoint]) -> list[RawPoint]:
    if len(points) > MAX_POINTS:
        raise rejected(f"{len(points):,} points, at most {MAX_POINTS:,} are allowed")
    return points


def _as_list(value: object) -> object:
    """Return a single text as a list of one, and None as an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _as_sampler(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _list_schema(item: JsonSchemaValue) -> WithJsonSchema:
    """The JSON schema of one `item`, or a list of them."""
    items = {"type": "array", "items": item, "uniqueItems": True}
    return WithJsonSchema({"if": {"type": "array"}, "then": items, "else": item})


Text = Annotated[str, Field(strict=True, min_length=1)]
Name = Annotated[str, Field(strict=True), AfterValidator(_check_name), WithJsonSchema(NAME_SCHEMA)]
Address = Annotated[Text, AfterValidator(_check_address)]
Metric = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_check_metric),
    WithJsonSchema({"anyOf": [{"enum": list(OBJECTIVES)}, {"pattern": IMPORT_PATTERN}]}),
]
Scheme = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_check_scheme),
    WithJsonSchema({"anyOf": [{"enum": list(SCHEMES)}, {"pattern": r"^holdout-\d+x0?\.\d+$"}]}),
]
Cpus = Annotated[
    float,
    BeforeValidator(_check_cpus),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_CPUS},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ]
        }
    ),
]
TEXT_SCHEMA = {"type": "string", "minLength": 1}
Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_list),
    AfterValidator(_check_unique),
    _list_schema(TEXT_SCHEMA),
]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(_as_list),
    AfterValidator(_check_unique),
    _list_schema(TEXT_SCHEMA),
]
ImportPaths = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_list),
    AfterValidator(_check_unique),
    AfterValidator(_check_import_paths),
    _list_schema({"type": "string", "pattern": IMPORT_PATTERN}),
]
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(_as_list),
    AfterValidator(_check_unique),
    _list_schema(NAME_SCHEMA),
]
PRIOR_SCHEMA = WithJsonSchema({"type": "object", "minProperties": 1})
RawPoint = Annotated[dict[str, Any], Field(min_length=1)]


class Section(BaseModel):
    """A mapping of a space file, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectiveSection(Section):
    """The metric, and which way it is better."""

    metric: Metric = "auroc"
    mode: Literal["max", "min"] | None = None


class ResourcesSection(Section):
    """The resources of a trial, and dollars per hour by node type."""

    cpus: Cpus = 1.0
    gpus: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    prices: dict[Name, Price] = {}


class StoppingSection(Section):
    """The stopping rules; what is None depends on other settings."""

    rule: Rule = "forest"
    grace_period: Count | None = None
    reduction_factor: ReductionFactor = 3
    patience: CountOrZero = 0
    paired_alpha: Probability | None = None


class SpaceFile(Section):
    """A space file."""

    data: Address | None = Field(
        None, description="A folder of shards, or synthetic:PATIENTS:PATCHES:SEED."
    )
    task: Name | None = Field(None, description="The task, if the shards have several.")
    split: Name | None = Field(None, description="A split manifest other than the task's own.")
    validation: Scheme = Field(
        FOLDS, description="The split scheme; `folds` is k-fold, with the hyperparameter `folds`."
    )
    objective: ObjectiveSection = Field(
        ObjectiveSection(), description="The metric, averaged over the folds."
    )
    metrics: ImportPaths = Field(
        (),
        description="Further metrics, of your own, such as `mymetrics:weighted_f1`; the built-in"
        " ones are always reported.",
    )
    epochs: Count = Field(10, description="Epochs per fold, unless `space` has them.")
    trials: Count = Field(20, description="Number of configurations.")
    seed: CountOrZero = Field(0, description="The seed of the study.")
    resources: ResourcesSection = Field(
        ResourcesSection(), description="Resources of a trial, and prices of machines per hour."
    )
    sampler: Annotated[Sampler, BeforeValidator(_as_sampler)] = Field(
        DEFAULT_SAMPLER, description="What proposes configurations."
    )
    stopping: StoppingSection = Field(StoppingSection(), description="How weak trials end early.")
    budget: Budget = Field(
        Budget(), description="Limits of the study; the first that is reached ends it."
    )
    points_to_evaluate: Annotated[list[RawPoint], AfterValidator(_check_points)] = Field(
        [], description="Configurations that are evaluated first; the sampler completes them."
    )
    constraints: Texts = Field(
        (), description="Conditions on hyperparameters, such as `width * convolutions <= 64`."
    )
    limits: NetworkLimits = Field(NetworkLimits(), description="Upper limits of a trial's network.")
    warm_start: Names = Field((), description="Earlier studies of the same space.")
    memory: Address = Field(
        OWN_STUDIES,
        description="The earlier studies that the search learns from: none, those in its own folder"
        " (studies), or those in another folder; and those of public samples.",
    )
    prior: dict[str, Annotated[dict[Value, Value], PRIOR_SCHEMA]] = Field(
        {},
        description="Expected best values: `{around: 0.001, factor: 3}` of a range, or weights of"
        " choices, such as `{adamw: 3}`.",
    )
    auxiliary: Addresses = Field((), description="Further shards, used only for training.")
    repeats: Repeats = Field(
        1, description="Repeated cross-validations of the champion, with new seeds."
    )
    champion: ChampionKind = Field(
        "refit", description="One network of all patients, or the averaged networks of a repeat."
    )
    with_encoder: bool = Field(
        False,
        description="Copy a frozen encoder of unknown license into the model of the champion.",
    )
    space: SpaceSection = Field(description="The hyperparameters: a value, a choice or a range.")
