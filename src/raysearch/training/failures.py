"""Why a training cannot go on, on whatever machine; a study's journal keeps these words."""

from __future__ import annotations

NAN_LOSS, NAN_SCORES, UNDEFINED = "nan-loss", "nan-scores", "objective-undefined"
FAILURES = (NAN_LOSS, NAN_SCORES, UNDEFINED)


class TrainingFailedError(Exception):
    """A training that cannot go on; the message is the reason, in a word or two."""
