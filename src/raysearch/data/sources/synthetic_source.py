"""Lists synthetic patches, which are generated instead of read."""

from __future__ import annotations

from raysearch.data.sources.listing import Item, Listing, SourceOptions
from raysearch.data.synthetic import SOURCE, synthetic_listing


def list_synthetic(source: str, _options: SourceOptions) -> Listing:
    """List the patches of `PATIENTS:PATCHES:SEED`, see `raysearch.data.synthetic`."""
    labels, patients = synthetic_listing(source)
    items = [
        Item(f"synthetic/{number:06d}", label, f"p{patient:03d}", f"p{patient:03d}")
        for number, (label, patient) in enumerate(
            zip(labels.tolist(), patients.tolist(), strict=True)
        )
    ]
    return Listing(("negative", "positive"), items, size=(50, 50))


def is_synthetic(source: str) -> bool:
    """Whether `source` has the form `PATIENTS:PATCHES:SEED`."""
    return SOURCE.fullmatch(source) is not None
