"""Records which rows of patches a process computes features of."""

from __future__ import annotations

import pytest

from raysearch.training.features.extraction import Extractor, PatchFeatures

Rows = tuple[int, int]  # from the first row up to the second


def record_extractions(monkeypatch: pytest.MonkeyPatch) -> list[Rows]:
    """Return the list of the rows that this process computes, from now on."""
    extractions: list[Rows] = []
    compute = Extractor.compute

    def recorded(extractor: Extractor, start: int, stop: int) -> PatchFeatures:
        extractions.append((start, stop))
        return compute(extractor, start, stop)

    monkeypatch.setattr(Extractor, "compute", recorded)
    return extractions
