"""What of an audit a reader has to know, the worst first."""

from __future__ import annotations

from raysearch.data.audit.audit import Audit
from raysearch.data.audit.duplicate_checks import told_duplicates, told_near
from raysearch.data.audit.finding import SEVERITIES, Finding
from raysearch.data.audit.row_checks import told_balance, told_labels, told_outliers, told_set
from raysearch.data.audit.split_checks import told_leakage_gap, told_parts, told_split_manifests


def find(audit: Audit) -> tuple[Finding, ...]:
    """Every finding: the dishonest ones, then warnings, then notes."""
    found = [
        *told_duplicates(audit),
        *told_parts(audit.rows),
        *told_split_manifests(audit.split_manifests),
        *told_near(audit),
        *told_labels(audit),
        *told_outliers(audit.outliers),
        *told_balance(audit),
        *told_set(audit),
        *told_leakage_gap(audit.leakage_gap),
    ]
    return tuple(sorted(found, key=lambda one: SEVERITIES.index(one.severity)))
