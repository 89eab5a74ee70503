"""One row of the table of hyperparameters, and the check of a value against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from raysearch.config.names import (
    ENCODER,
    HUB_NAME,
    HUB_PREFIX,
    PATH_PREFIXES,
    TIMM_PREFIX,
    candidates,
    is_encoder,
)

Value = str | int | float | bool
# The hyperparameters of a trial, by name.
Hparams = Mapping[str, Value]
# The hyperparameters that select a component by name.
SELECTORS = ("architecture", "optimizer", "schedule", "loss", "preprocess", "augment")
# The import path of a component of the user's own, such as `mynets:build`.
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_import_path(name: str) -> bool:
    """Return whether `name` is the import path of a function, such as `mynets:build`."""
    return IMPORT_PATH.fullmatch(name) is not None and not name.startswith(TIMM_PREFIX)


@dataclass(frozen=True)
class HyperparameterSpec:
    """One row of the table.

    Attributes:
        default: The value if the trial has none; None if the reader then decides itself.
        default_by_component: Defaults that differ, by the name of the component that reads it.
        encoder_default: The default if the architecture is a pretrained encoder, if it differs.
        low, high: The bounds of a number, both included.
        choices: The values of a text.
        prefixes, suffixes: A text may also start with one of `prefixes`, or end with one of
            `suffixes`.
        part: The part of a training that reads it; a selector, or the name of another part.
        components: If `part` is a selector: the names of the components that read it.
        is_argument: Whether a component takes it as an argument; otherwise the training reads it.
        condition: Another hyperparameter, and the value of it without which nothing reads this one.
        documentation: One line, without a full stop at its end.
    """

    default: Value | None
    documentation: str
    low: float = float("-inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    part: str = "training"
    components: tuple[str, ...] = ()
    is_argument: bool = True
    condition: tuple[str, Value] | None = None
    default_by_component: Mapping[str, Value] = field(default_factory=dict)
    encoder_default: Value | None = None
    name: str = ""
    type: type[Value] = str

    def is_read_by(self, components: Mapping[str, str]) -> bool:
        """Return whether a training reads it that uses `components`, by selector."""
        if self.part not in SELECTORS:
            return True
        component = components[self.part]
        is_timm = component.startswith(TIMM_PREFIX) and TIMM_PREFIX in self.components
        is_pretrained = ENCODER in self.components and is_encoder(component)
        return component in self.components or is_timm or is_pretrained

    def default_for(self, values: Mapping[str, Value | None]) -> Value | None:
        """Return the default in a training whose selectors have `values`."""
        if self.encoder_default is not None and is_encoder(str(values.get("architecture"))):
            return self.encoder_default
        return self.default_by_component.get(str(values.get(self.part)), self.default)

    def value_error(self, value: object) -> str | None:
        """Return why `value` is not allowed, or None if it is."""
        if self.type is str:
            return None if self._is_known(value) else self._unknown(value)
        if self.type is bool:
            return None if isinstance(value, bool) else f"{value!r} is not true or false"
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or (self.type is int and not isinstance(value, int)):
            return f"{value!r} is not {'an integer' if self.type is int else 'a number'}"
        if not self.low <= float(str(value)) <= self.high:
            return f"{value!r} is outside {self.low:g} to {self.high:g}"
        return None

    def _is_known(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        has_prefix = bool(self.prefixes) and value.startswith(self.prefixes)
        if value.startswith(HUB_PREFIX):
            return has_prefix and HUB_NAME.fullmatch(value) is not None
        has_suffix = bool(self.suffixes) and value.endswith(self.suffixes)
        is_custom = self.name in SELECTORS and is_import_path(value)
        return value in self.choices or has_prefix or has_suffix or is_custom

    def _unknown(self, value: object) -> str:
        names = [
            f"{prefix}{'OWNER/' * (prefix == HUB_PREFIX)}NAME"
            for prefix in self.prefixes
            if prefix not in PATH_PREFIXES
        ]
        folders = ["./FOLDER"] if set(PATH_PREFIXES) & set(self.prefixes) else []
        prefixed = f", or {', '.join([*names, *folders])}" if self.prefixes else ""
        files = f", or a file ({', '.join(self.suffixes)})" if self.suffixes else ""
        custom = ", or MODULE:FUNCTION" if self.name in SELECTORS else ""
        return f"{value!r} is unknown{candidates(value, self.choices)}{prefixed}{files}{custom}"
