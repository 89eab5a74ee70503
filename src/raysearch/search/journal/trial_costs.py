"""Summarizes the reports of a trial as its costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from raysearch.search.journal.events import FoldReport


@dataclass(frozen=True)
class TrialCosts:
    """The costs of a trial beside its time; None for what its reports do not contain.

    Args:
        effective_batch_size: Rows of one optimizer step, over all its micro-batches.
        parameters: Number of the network's parameters.
        flops: Floating-point operations per patch, from the pixels to the logits.
        samples_seen: Patches trained on, each counted as often as it was used.
        inference_ms: Median of the prediction times per patch, in milliseconds.
        peak_device_bytes: Largest GPU memory of the process's tensors.
        peak_rss_bytes: Largest resident set of the process, on a CPU.
    """

    effective_batch_size: int | None = None
    parameters: int | None = None
    flops: int | None = None
    samples_seen: int | None = None
    inference_ms: float | None = None
    peak_device_bytes: int | None = None
    peak_rss_bytes: int | None = None

    def by_name(self) -> dict[str, float]:
        """The costs that are not None, by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def fixed_costs(reports: Sequence[FoldReport]) -> TrialCosts:
    """The costs that are fixed before the training starts, from the first of a trial's reports."""
    costs = reports[0].costs if reports else None
    if costs is None:
        return TrialCosts()
    return TrialCosts(costs.effective_batch_size, costs.parameters, costs.flops)


def running_costs(reports: Sequence[FoldReport]) -> TrialCosts:
    """The costs that grow with a trial, up to the last of its `reports`.

    `samples_seen` is None if a report lacks its own number of samples.
    """
    samples = [report.samples for report in reports if report.samples is not None]
    times = [report.inference_ms for report in reports if report.inference_ms is not None]
    return TrialCosts(
        samples_seen=sum(samples) if samples and len(samples) == len(reports) else None,
        inference_ms=statistics.median(times) if times else None,
        peak_device_bytes=_max(report.peak_device_bytes for report in reports),
        peak_rss_bytes=_max(report.peak_rss_bytes for report in reports),
    )


def _max(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
