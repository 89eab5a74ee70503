"""Lists the outliers of an audit as the file that `raysearch shard --exclude` reads."""

from __future__ import annotations

from raysearch.data.audit.shard_audit import Audit
from raysearch.data.csv_files import csv_content


def outlier_list(audit: Audit) -> bytes:
    """Return a CSV file with the name of each outlier, and its kinds as the reason."""
    kinds: dict[int, list[str]] = {}
    for outliers in audit.outliers:
        for row in outliers.rows.tolist():
            kinds.setdefault(row, []).append(outliers.kind)
    rows = [(str(audit.sources.files[row]), ", ".join(names)) for row, names in kinds.items()]
    return csv_content(("file", "reason"), sorted(rows))
