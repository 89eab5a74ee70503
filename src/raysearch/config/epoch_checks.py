"""Checks of the hyperparameter `epochs`, in which trials of one study may differ."""

from __future__ import annotations

from collections.abc import Iterator

from raysearch.config.file_errors import FileError
from raysearch.config.names import FROZEN, TRAINED_CLASSIFIERS
from raysearch.config.space import RANGES, Space
from raysearch.config.space_model import SpaceFile

# The rules that compare a trial with those of the same number of epochs.
COMPARING_RULES = ("asha", "promotion")


def epoch_errors(model: SpaceFile, space: Space) -> Iterator[FileError]:
    """Yield the errors of the hyperparameter `epochs`."""
    hparam = space.hyperparameter("epochs")
    if hparam is None:
        return
    if "epochs" in model.model_fields_set:
        message = "`space.epochs` has the epochs of each trial; remove one of them"
        yield FileError(("epochs",), message)
    if hparam.when:
        message = "every trial has `epochs`; remove the condition"
        yield FileError(("space", "epochs", "when"), message)
    if hparam.kind in RANGES and space.stopping.rule in COMPARING_RULES:
        yield FileError(
            ("space", "epochs"),
            f"`stopping: {{rule: {space.stopping.rule}}}` compares trials with equal epochs, of"
            " which a range has too few; give a choice, or use the rule `forest` or `none`",
        )
    is_fitted = set(space.values_of("adaptation")) == {FROZEN} and not (
        set(space.values_of("classifier")) & set(TRAINED_CLASSIFIERS)
    )
    if is_fitted and len(set(hparam.values)) > 1:
        message = "`epochs` has no effect with classifiers that are fitted once; give one value"
        yield FileError(("space", "epochs"), message)
