"""The pydantic model of one hyperparameter in a space file: a value, a choice or a range."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from raysearch.config.hyperparameter_spec import HyperparameterSpec, Value
from raysearch.config.hyperparameters import HYPERPARAMETERS, unknown_hyperparameter
from raysearch.config.names import suggestion
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.config.yaml_loader import YamlMapping

KINDS = ("value", "choice", *RANGES)
# Keys that no file has: the name of the hyperparameter, and the mapping of a nested choice.
NAME_KEY, BRANCHES_KEY = "(name)", "(branches)"


def rejected(message: str) -> PydanticCustomError:
    """Return a validation error with `message`."""
    return PydanticCustomError("rejected", "{message}", {"message": message})


def _with_names(section: object) -> object:
    """Return a section whose entries are mappings that know their names."""
    if section is None:
        return {}
    if not isinstance(section, dict):
        return section
    return {
        name: {**(entry if isinstance(entry, dict) else {"value": entry}), NAME_KEY: name}
        for name, entry in section.items()
    }


def _list_advice(row: HyperparameterSpec, values: list[Any]) -> str:
    """Return how a list of values is written: as a choice, or as the bounds of a range."""
    listed = f"[{', '.join(map(_yaml_text, values))}]"
    kinds = ["choice"]
    if all(type(value) in (int, float) for value in values):
        ranges = ("int",) if row.type is int else ("loguniform", "uniform")
        kinds += [kind for kind in ranges if _range_error(row, kind, values) is None][:1]
    ways = " or ".join(f"`{row.name}: {{{kind}: {listed}}}`" for kind in kinds)
    return f"a list does not say how it is sampled; write {ways}"


def _yaml_text(value: object) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _table(info: ValidationInfo) -> Mapping[str, HyperparameterSpec]:
    """Return the table of hyperparameters, with those of the components of the user's."""
    return info.context or HYPERPARAMETERS


class HyperparameterEntry(BaseModel):
    """A hyperparameter as it is written in a file.

    `branches` are the hyperparameters that exist with a value of a choice, by that value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    name: Any = Field(alias="(name)")
    value: Any = None
    choice: Any = None
    uniform: Any = None
    loguniform: Any = None
    int_range: Any = Field(None, alias="int")
    logint: Any = None
    when: dict[str, tuple[Any, ...]] = {}
    branches: dict[Any, SpaceSection] = Field({}, alias="(branches)")

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, entry: YamlMapping, info: ValidationInfo) -> YamlMapping:
        """Check the name and the keys; divide a nested choice into its values and its branches."""
        table = _table(info)
        if entry[NAME_KEY] not in table:
            raise rejected(unknown_hyperparameter(entry[NAME_KEY], table))
        keys = [key for key in entry if key != NAME_KEY]
        kinds = [key for key in keys if key in KINDS]
        unknown = [key for key in keys if key not in (*KINDS, "when")]
        if unknown or len(kinds) != 1:
            hint = suggestion(unknown[0], (*KINDS, "when")) if unknown else ""
            raise rejected(
                f"has {', '.join(f'`{key}`' for key in keys) or 'no keys'}{hint}; give a value, or"
                f" exactly one of {', '.join(KINDS[1:])}, and `when` for a condition"
            )
        choice = entry.get("choice")
        if isinstance(choice, dict):
            return {**entry, "choice": list(choice), BRANCHES_KEY: choice}
        return entry

    @field_validator("when", mode="before")
    @classmethod
    def _list_conditions(cls, when: object) -> object:
        if not isinstance(when, dict):
            raise rejected(f"{when!r} is not `other: value` or `other: [values]`")
        empty = [str(other) for other, values in when.items() if values == []]
        if empty:
            raise rejected(f"{', '.join(empty)} has no value")
        return {
            str(other): values if isinstance(values, list) else [values]
            for other, values in when.items()
        }

    @model_validator(mode="after")
    def _check_values(self, info: ValidationInfo) -> HyperparameterEntry:
        values = self.values
        row = _table(info)[self.name]
        if self.key == "value" and isinstance(self.value, list):
            raise rejected(_list_advice(row, self.value))
        if not isinstance(values, list) or not values:
            raise rejected(f"`{self.key}: {values!r}` is not a list with values")
        errors = [error for error in map(row.value_error, values) if error]
        if errors:
            raise rejected("; ".join(dict.fromkeys(errors)))
        if self.key in RANGES:
            error = _range_error(row, self.key, values)
            if error:
                raise rejected(f"`{self.key}: {values}`: {error}")
        elif len(set(values)) < len(values):
            raise rejected(f"`choice: {values}` has a duplicate value")
        return self

    @property
    def key(self) -> str:
        """The key that gives the values: `value`, `choice` or the kind of a range."""
        names = {name: "int" if name == "int_range" else name for name in self.model_fields_set}
        return next(key for key in names.values() if key in KINDS)

    @property
    def values(self) -> Any:
        """The values that the file gives, as a list if it is one."""
        if self.key == "value":
            return [self.value]
        return getattr(self, "int_range" if self.key == "int" else self.key)

    def hyperparameter(self) -> Hyperparameter:
        """Return the hyperparameter, with the conditions of `when`."""
        kind: Any = "fixed" if self.key == "value" else self.key
        values: tuple[Value, ...] = tuple(self.values)
        return Hyperparameter(self.name, kind, values, tuple(self.when.items()))


SpaceSection = Annotated[dict[Any, HyperparameterEntry], BeforeValidator(_with_names)]
HyperparameterEntry.model_rebuild()


def _range_error(row: HyperparameterSpec, kind: str, values: list[Any]) -> str | None:
    """Return why `values`, each allowed, are no range of `kind`; None if they are one."""
    if row.type not in (int, float):
        return "not a number; use `choice`"
    if len(values) != 2:
        return "not [low, high]"
    if not values[0] < values[1]:
        return "low is not below high; give [low, high]"
    if kind in ("loguniform", "logint") and values[0] <= 0:
        return "low must be above 0"
    if (kind in ("int", "logint")) != (row.type is int):
        kinds = "`int`, `logint` or `choice`" if row.type is int else "`uniform` or `loguniform`"
        return f"{row.name} takes {kinds}"
    return None if all(map(math.isfinite, values)) else "not finite"


def names_in_section(
    section: object, table: Mapping[str, HyperparameterSpec] = HYPERPARAMETERS
) -> frozenset[str]:
    """Return the hyperparameters that a section of a file names at any depth, valid or not."""
    if not isinstance(section, Mapping):
        return frozenset()
    names = {name for name in section if name in table}
    for entry in section.values():
        choice = entry.get("choice") if isinstance(entry, Mapping) else None
        if isinstance(choice, Mapping):
            names = names.union(*(names_in_section(branch, table) for branch in choice.values()))
    return frozenset(names)
