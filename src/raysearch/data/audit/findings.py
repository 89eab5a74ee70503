"""The record of one problem that an audit reports, and the summary of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.data.quantities import quantity

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)


@dataclass(frozen=True)
class Finding:
    """One problem of a set of shards, its effect on results and how to fix it.

    Attributes:
        key: Identifier for programs.
        severity: One of `SEVERITIES`; an error makes scores on this set invalid.
        title: The problem in one phrase.
        explanation: The effect on a result.
        advice: What the user can do.
        count: Number of cases.
        groups: Row numbers of each case.
        details: One line of text per case, if rows alone do not show the problem.
    """

    key: str
    severity: str
    title: str
    explanation: str
    advice: str
    count: int = 1
    groups: tuple[tuple[int, ...], ...] = ()
    details: tuple[str, ...] = ()


def has_errors(findings: Sequence[Finding]) -> bool:
    """Return whether any finding makes scores on this set invalid."""
    return any(finding.severity == ERROR for finding in findings)


def summarize(findings: Sequence[Finding]) -> str:
    """Return the conclusion of an audit as one sentence."""
    num_errors = sum(finding.severity == ERROR for finding in findings)
    if num_errors:
        return f"{quantity(num_errors, 'error')} found: scores on these shards are not valid."
    if any(finding.severity == WARNING for finding in findings):
        return "No errors found; review the warnings."
    return "No errors found."
