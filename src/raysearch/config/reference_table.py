"""The table of hyperparameters as Markdown, for the reference documentation."""

from __future__ import annotations

from raysearch.config.hyperparameter_spec import HyperparameterSpec, Value
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import OPTIMIZERS, TIMM_PREFIX


def hyperparameter_table_markdown() -> str:
    """Return the table as Markdown, for the reference documentation."""
    lines = ["| Name | Values | Default | Read by | Meaning |", "| --- | --- | --- | --- | --- |"]
    for name, row in HYPERPARAMETERS.items():
        cells = (f"`{name}`", _values_cell(row), _default_cell(row), _reader_cell(row))
        lines.append(f"| {' | '.join(cells)} | {row.documentation} |")
    return "\n".join(lines) + "\n"


def _values_cell(row: HyperparameterSpec) -> str:
    if row.type is bool:
        return "`true`, `false`"
    if row.type is str:
        names = [*row.choices, *([f"{row.prefix}NAME"] if row.prefix else []), *row.suffixes]
        return ", ".join(f"`{name}`" for name in names)
    return f"{'integer' if row.type is int else 'number'}, {row.low:g} to {row.high:g}"


def _text(value: Value | None) -> str:
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _default_cell(row: HyperparameterSpec) -> str:
    special = [f"{_text(value)} with `{name}`" for name, value in row.default_by_component.items()]
    return "; ".join(filter(None, [_text(row.default), *special])) or "(see meaning)"


def _reader_cell(row: HyperparameterSpec) -> str:
    names = [name + "NAME" if name == TIMM_PREFIX else name for name in row.components]
    reader = f"{row.part} {', '.join(f'`{name}`' for name in names)}" if names else "all"
    condition = f", if `{row.condition[0]}` is {_text(row.condition[1])}" if row.condition else ""
    return "every optimizer" if row.components == OPTIMIZERS else reader + condition
