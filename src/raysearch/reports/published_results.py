"""Published results, typed from a paper, checked against themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from raysearch.config.yaml_loader import load_tree
from raysearch.errors import DataError, first_line
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.plausibility import PlausibilityNote
from raysearch.metrics.reported_values import (
    ReportedValue,
    check_confidence_table,
    check_confusion,
    check_f1,
    check_fraction,
    check_support,
    reported_metrics,
)
from raysearch.reports.html_page import rendered

KEYS = (*("name", "rows", "others", "classes", "confusion", "claims", "fractions", "confident"),)
CLASS_METRICS = ("precision", "recall", "f1")
Figures = Mapping[str, ReportedValue]


@dataclass(frozen=True)
class Fraction:
    """What is claimed to be `count` of `of`."""

    name: str
    claimed: ReportedValue
    count: int
    of: int


@dataclass(frozen=True)
class Published:
    """What a paper says: of `rows` judged rows, and of `others`, its other sets by their sizes.

    `classes` and `support` are its classification report, `confusion` (C, C) counts by true class,
    `claims` figures of it, `confident` measures by the confidence that is asked for.
    """

    name: str
    rows: int | None = None
    others: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, Figures] = field(default_factory=dict)
    support: Mapping[str, int] = field(default_factory=dict)
    confusion: NDArray[np.int64] | None = None
    claims: Figures = field(default_factory=dict)
    fractions: tuple[Fraction, ...] = ()
    confident: Mapping[float, Figures] = field(default_factory=dict)


def read_published(path: Path) -> Published:
    """What the YAML file at `path` says; DataError with every error of it."""
    tree = load_tree(path)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: holds no figures; its keys are {', '.join(KEYS)}")
    errors = [f"{key}: no such key; they are {', '.join(KEYS)}" for key in tree if key not in KEYS]
    classes = _mapping(tree, "classes", errors)
    found = Published(
        name=str(tree.get("name", path.stem)),
        rows=_count(tree.get("rows"), "rows", errors) if "rows" in tree else None,
        others={
            str(name): _count(size, f"others.{name}", errors)
            for name, size in _mapping(tree, "others", errors).items()
        },
        classes={
            str(name): _figures(row, f"classes.{name}", errors, ("support",))
            for name, row in classes.items()
        },
        support={
            str(name): _count(row["support"], f"classes.{name}.support", errors)
            for name, row in classes.items()
            if isinstance(row, dict) and "support" in row
        },
        confusion=_matrix(tree, len(classes), errors),
        claims=_figures(tree.get("claims", {}), "claims", errors),
        fractions=tuple(_fractions(tree, errors)),
        confident={
            _confidence(one, errors): _figures(row, f"confident.{one}", errors)
            for one, row in _mapping(tree, "confident", errors).items()
        },
    )
    if errors:
        raise DataError(f"{path}: {'; '.join(dict.fromkeys(errors))}")
    return found


def notes_of(found: Published) -> list[PlausibilityNote]:
    """Everything in it that cannot be, or says nothing."""
    notes: list[PlausibilityNote] = []
    if found.support and found.rows is not None:
        notes += check_support(found.support, found.rows, found.others, "the set that was judged")
    for name, row in found.classes.items():
        if all(one in row for one in CLASS_METRICS):
            notes += check_f1(name, row["precision"], row["recall"], row["f1"])
    if found.confusion is not None:
        claims = dict(found.claims)
        for name, row in found.classes.items():
            claims |= {f"{metric}_{name}": value for metric, value in row.items()}
        notes += check_confusion(found.confusion, list(found.classes), claims)
        if found.rows is not None:
            counted = zip(found.classes, found.confusion.sum(axis=1).tolist(), strict=True)
            notes += check_support(dict(counted), found.rows, found.others, "the set")
    for one in found.fractions:
        notes += check_fraction(one.name, one.claimed, one.count, one.of)
    return notes + check_confidence_table(found.confident)


def published_page(found: Published, notes: list[PlausibilityNote]) -> str:
    """What was typed in, what was counted again, and what cannot be, as a page."""
    known = {} if found.confusion is None else reported_metrics(found.confusion, list(found.classes))
    metrics = [*CLASS_METRICS, "support"]
    context = {
        "title": f"Published: {found.name}",
        "notes": notes,
        "report": [
            [
                name,
                *(row[one].text if one in row else "-" for one in CLASS_METRICS),
                f"{found.support[name]:,}" if name in found.support else "-",
            ]
            for name, row in found.classes.items()
        ],
        "metrics": metrics,
        "counted": [[name, "-" if one is None else f"{one:.4f}"] for name, one in known.items()],
        "fractions": [
            [one.name, one.claimed.text, f"{one.count:,}/{one.of:,}", f"{one.count / one.of:.4f}"]
            for one in found.fractions
            if one.of
        ],
        "confident": [
            [f"{one:g}", *(f"{name} {value.text}" for name, value in row.items())]
            for one, row in sorted(found.confident.items())
        ],
    }
    return rendered(Path(__file__).with_name("published.html"), context)


def scores_in(path: Path) -> ScoredRows:
    """The score table at `path`, as `raysearch predict` writes one, with labels and patients.

    DataError where a column is missing, a score is no number, rows do not add up to 1, or a row's
    label or patient is not known.
    """
    try:
        table = pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: no score table ({first_line(error)})") from None
    names = [name[6:] for name in table.column_names if name.startswith("score_")]
    lacking = {"patient", "label"} - set(table.column_names)
    if len(names) < 2 or lacking:
        raise DataError(
            f"{path}: has no {', '.join(sorted(lacking)) or 'score_CLASS of two classes'}; give a"
            " table with patient, label and a score_CLASS for each class"
        )
    try:
        columns = [table[f"score_{name}"].cast(pa.float64()).to_numpy() for name in names]
    except pa.ArrowException:
        raise DataError(f"{path}: a score is no number; give probabilities") from None
    given = np.column_stack(columns)
    _reject(path, ~np.isfinite(given).all(axis=1), "a score that is no number; take it out")
    _reject(path, np.abs(given.sum(axis=1) - 1) > 0.01, "scores that do not add up to 1")
    labels = [None if one is None else str(one) for one in table["label"].to_pylist()]
    known = np.array([one in names for one in labels])
    _reject(path, ~known, f"a label that is none of {', '.join(names)}")
    patients = np.array([str(one or "") for one in table["patient"].to_pylist()])
    _reject(path, patients == "", "no patient: intervals need one of every row")
    numbers = np.array([names.index(str(one)) for one in labels], np.int64)
    return ScoredRows(numbers, given, patients, tuple(names))


def _reject(path: Path, wrong: NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0]) + 2
        raise DataError(f"{path}: line {row}, and {int(wrong.sum()) - 1:,} more, with {what}")


def _mapping(tree: Mapping[str, Any], key: str, errors: list[str]) -> Mapping[Any, Any]:
    value = tree.get(key, {})
    if isinstance(value, dict):
        return value
    errors.append(f"{key}: not names with values; write `{key}: {{NAME: ...}}`")
    return {}


def _figures(row: object, place: str, errors: list[str], beside: tuple[str, ...] = ()) -> Figures:
    """The figures of `row` as they are printed; texts keep zeros at the end."""
    if not isinstance(row, dict):
        errors.append(f"{place}: not figures by their names")
        return {}
    found = {}
    for name, value in row.items():
        if name in beside:
            continue
        text = str(value)
        try:
            good = 0 <= float(text) <= 1 and not isinstance(value, bool)
        except ValueError:
            good = False
        if good:
            found[str(name)] = ReportedValue(text)
        else:
            errors.append(f"{place}.{name}: {text!r} is no share; give 0 to 1, as it was printed")
    return found


def _count(value: object, place: str, errors: list[str]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    errors.append(f"{place}: {value!r} is no count; give a whole number")
    return 0


def _confidence(value: object, errors: list[str]) -> float:
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    errors.append(f"confident.{value}: no confidence; give 0 to 1")
    return 0.0


def _matrix(tree: Mapping[str, Any], classes: int, errors: list[str]) -> NDArray[np.int64] | None:
    if "confusion" not in tree:
        return None
    rows = tree["confusion"]
    good = isinstance(rows, list) and len(rows) == classes > 1
    good = good and all(isinstance(row, list) and len(row) == classes for row in rows)
    if good and all(type(one) is int and one >= 0 for row in rows for one in row):
        return np.array(rows, np.int64)
    errors.append("confusion: give a row of counts for each of `classes`, as many in each")
    return None


def _fractions(tree: Mapping[str, Any], errors: list[str]) -> list[Fraction]:
    rows = tree.get("fractions", [])
    found = []
    for place, row in enumerate(rows if isinstance(rows, list) else [rows]):
        here = f"shares.{place}"
        if not isinstance(row, dict) or set(row) != {"name", "claimed", "count", "of"}:
            errors.append(f"{here}: give name, claimed, count and of")
            continue
        claimed = _figures({"claimed": row["claimed"]}, here, errors).get("claimed", ReportedValue("0"))
        counts = [_count(row[one], f"{here}.{one}", errors) for one in ("count", "of")]
        found.append(Fraction(str(row["name"]), claimed, counts[0], counts[1]))
    return found
