"""The reasons for which a training fails on any machine; the journal of a study stores them."""

from __future__ import annotations

NAN_LOSS, NAN_SCORES, UNDEFINED = "nan-loss", "nan-scores", "objective-undefined"
OUT_OF_MEMORY = "out-of-memory"
FAILURES = (NAN_LOSS, NAN_SCORES, UNDEFINED)


class TrainingFailedError(Exception):
    """A training cannot continue; the message is the reason."""
