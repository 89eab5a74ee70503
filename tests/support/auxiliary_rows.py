"""Training data with auxiliary rows."""

from dataclasses import replace

from raysearch.training.training_data import AuxiliaryRows, TrainingData


def with_auxiliary(data: TrainingData) -> TrainingData:
    """Return `data` with two auxiliary sets of 40 and 10 rows of its own pixels."""
    flipped = data.pixels.flip(0)
    auxiliary = (
        AuxiliaryRows(flipped[:40], data.labels.flip(0)[:40]),
        AuxiliaryRows(flipped[40:50], data.labels[:10]),
    )
    return replace(data, auxiliary=auxiliary)
