"""What a trial cost beside its time, told by its reports in the journal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from raysearch.search.journal.journal import Event

PEAKS = ("peak_device_bytes", "peak_rss_bytes")


def fixed_costs(reports: Sequence[Event]) -> dict[str, int]:
    """What was known before the training began: its batch, its net's parameters and FLOPs a patch.

    Empty where the first of the trial's `reports` does not tell it, as in older journals.
    """
    return dict(reports[0].get("costs", {})) if reports else {}


def running_costs(reports: Sequence[Event]) -> dict[str, float]:
    """What the training cost up to the last of the trial's `reports`.

    `samples_seen`: the patches learned from, one as often as it was; unknown where a report does
    not tell its own. `inference_ms` a patch: the median of the fold-epochs'. The most of `PEAKS`,
    in bytes. What no report tells is left out.
    """
    found: dict[str, float] = {}
    samples = [report.get("samples") for report in reports]
    known = [count for count in samples if count is not None]
    if known and len(known) == len(samples):
        found["samples_seen"] = sum(known)
    times = [one["inference_ms"] for one in reports if one.get("inference_ms") is not None]
    if times:
        found["inference_ms"] = statistics.median(times)
    for name in PEAKS:
        peaks = [one[name] for one in reports if name in one]
        if peaks:
            found[name] = max(peaks)
    return found
