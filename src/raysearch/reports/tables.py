"""How good a model was on a set, as tables of texts: for a terminal, and for a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.patient_level import CONFIDENT
from raysearch.metrics.calibration import Reliability
from raysearch.metrics.classification import METRICS
from raysearch.metrics.evaluation import Evaluation, PatientLevelEvaluation
from raysearch.metrics.selective_prediction import RuleOut

# What of the metrics is worth a line where room is short, by how many classes there are.
OF_TWO = (
    *("auroc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall"),
    *("specificity", "f1", "mcc", "brier", "log_loss"),
)
OF_SEVERAL = (
    *("auroc", "average_precision", "accuracy", "balanced_accuracy", "macro_precision"),
    *("macro_recall", "macro_specificity", "macro_f1", "mcc", "brier", "log_loss"),
)


@dataclass(frozen=True)
class Table:
    """A title, what the columns are called, and their cells; the first column names the rows."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def judged_tables(found: Evaluation) -> Iterator[Table]:
    """The classes, what is left to a person, what could be cleared, and the patients."""
    yield _classes(found)
    yield _confident(found)
    if found.rule_out:
        yield _triage("Cleared without a person, by patch", found.rule_out)
    if found.patient_level is not None:
        yield _ranking(found, found.patient_level)
        yield _diagnosed(found, found.patient_level)
        yield _triage("Cleared without a person, by patient", found.patient_level.rule_out)


def metrics_table(
    title: str,
    found: Evaluation,
    names: Sequence[str] = tuple(METRICS),
    before: Reliability | None = None,
    in_context: Interval | None = None,
) -> Table:
    """The metrics `names` beside who guesses; the calibration error without its temperature, too.

    That is of the reliability `before`, where it is known; so is the AUROC `in_context`, which has
    what the patches near each one say.
    """
    rows = [
        [
            name,
            number(found.metrics[name].value),
            span(found.metrics[name]),
            number(found.baseline[name]),
        ]
        for name in names
    ]
    if in_context is not None:
        rows.insert(1, ["auroc in context", number(in_context.value), span(in_context), ""])
    raw = "" if before is None else f"{number(before.error)} before the temperature"
    rows.append(["calibration error", number(found.reliability.error), raw, ""])
    return Table(title, ["metric", "value", "95 % by patient", "guessing"], rows)


def short_metrics(found: Evaluation) -> tuple[str, ...]:
    """The names of the metrics that are worth a line in a terminal."""
    return OF_TWO if len(found.class_names) == 2 else OF_SEVERAL


def _classes(found: Evaluation) -> Table:
    rows = [
        [
            one.name,
            *(
                f"{number(value.value)} ({span(value)})"
                for value in (one.precision, one.recall, one.f1, one.specificity)
            ),
            f"{one.support:,}",
        ]
        for one in found.classes
    ]
    decided = "the likeliest" if found.threshold is None else f"threshold {found.threshold:.3f}"
    heads = ["class", "precision", "recall", "F1", "specificity", "support"]
    return Table(f"By class, decided by {decided}", heads, rows)


def _confident(found: Evaluation) -> Table:
    names = found.class_names
    heads = [f"{name}: {what}" for name in names for what in ("covered", "precision", "recall")]
    rows = [
        [
            f"{one.confidence:g}",
            number(one.coverage, 3),
            f"{one.patients:,} of {one.total_patients:,}",
            number(one.accuracy, 3),
            *(
                number(value, 3)
                for part in one.classes
                for value in (part.coverage, part.precision, part.recall)
            ),
        ]
        for one in found.coverage
    ]
    area = "" if found.risk.augrc is None else f"; AUGRC {found.risk.augrc:.4f}"
    first = ["confidence", "covered", "patients", "accuracy"]
    return Table(f"Decided only where sure enough{area}", [*first, *heads], rows)


def _triage(title: str, lines: Sequence[RuleOut]) -> Table:
    rows = [
        [
            f"{one.confidence:g}",
            f"{one.ruled_out:,} of {one.total:,}",
            f"{one.missed:,} of {one.positives:,}",
            f"{number(one.missed_fraction.value, 3)} ({span(one.missed_fraction, 3)})",
            f"{number(one.npv.value, 3)} ({span(one.npv, 3)})",
        ]
        for one in lines
    ]
    return Table(title, ["confidence", "cleared", "missed", "share missed", "NPV"], rows)


def _ranking(found: Evaluation, of: PatientLevelEvaluation) -> Table:
    rows = [[name, number(one.value), span(one)] for name, one in of.auroc.items()]
    error = of.table.positive_fraction_error()
    rows.append(["error of the share above the threshold", number(error), ""])
    ill = int(of.table.labels.sum())
    title = f"Patients ranked: {ill:,} of {found.patients:,} have a patch of {found.class_names[1]}"
    return Table(title, ["ranked by", "AUROC", "95 %"], rows)


def _diagnosed(found: Evaluation, of: PatientLevelEvaluation) -> Table:
    rows = [
        [
            one.rule,
            f"{one.true_positives:,} of {one.positives:,}",
            f"{number(one.sensitivity.value, 3)} ({span(one.sensitivity, 3)})",
            f"{one.true_negatives:,} of {one.negatives:,}",
            f"{number(one.specificity.value, 3)} ({span(one.specificity, 3)})",
        ]
        for one in of.detection
    ]
    title = f"Patients called ill by patches at {CONFIDENT:g} or more of {found.class_names[1]}"
    return Table(title, ["patches", "found", "sensitivity", "cleared", "specificity"], rows)


def patients_table(found: Evaluation, of: PatientLevelEvaluation, most: int) -> Table:
    """The patients of whom the decided share is furthest from the true one, at most `most`."""
    one = of.table
    true = one.positive / one.rows
    order = sorted(range(len(one.names)), key=lambda place: -abs(one.above[place] - true[place]))
    rows = [
        [
            str(one.names[place]),
            f"{one.rows[place]:,}",
            f"{true[place]:.3f}",
            f"{one.above[place]:.3f}",
            f"{one.mean[place]:.3f}",
            f"{one.top[place]:.3f}",
            f"{one.confident[place]:,}",
        ]
        for place in order[:most]
    ]
    hidden = max(len(one.names) - most, 0)
    title = "By patient, the furthest from the truth first"
    title += f" ({hidden:,} more are nearer)" if hidden else ""
    true_head = f"truly {found.class_names[1]}"
    heads = ["patient", "patches", true_head, "decided", "mean", "highest", "confident"]
    return Table(title, heads, rows)


def folds_table(found: Evaluation) -> Table:
    """Every metric of each fold alone, and of all at once."""
    rows = [
        [f"fold {fold + 1}", *(number(values[name]) for name in METRICS)]
        for fold, values in found.folds.items()
    ]
    rows.append(["pooled", *(number(found.metrics[name].value) for name in METRICS)])
    return Table("By fold, and pooled", ["", *METRICS], rows)


def number(value: float | None, digits: int = 4) -> str:
    """`value` as tables write it; a dash where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def hparams_text(hparams: Mapping[str, object]) -> str:
    """The hyperparameters of a trial, in few digits."""
    texts = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in hparams.items()
    )
    return ", ".join(texts)


def span(one: Interval, digits: int = 4) -> str:
    """The bounds of an interval as tables write them."""
    return f"{number(one.low, digits)} to {number(one.high, digits)}"
