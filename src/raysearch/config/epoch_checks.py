"""Checks of the hyperparameter `epochs`, in which trials of one study may differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product

from raysearch.config.constraints import allowed
from raysearch.config.file_errors import FileError
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import FROZEN, TRAINED_CLASSIFIERS
from raysearch.config.space import RANGES, Space
from raysearch.config.space_model import SpaceFile

# The rules that compare a trial with those of the same number of epochs.
COMPARING_RULES = ("asha", "promotion")
# So many combinations of values are checked.
MAX_COMBINATIONS = 100_000


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
    if len(set(hparam.values)) > 1 and len(_epochs_of_fitted(space)) > 1:
        names = " or ".join(TRAINED_CLASSIFIERS)
        yield FileError(
            ("space", "epochs"),
            "`epochs` has no effect with classifiers that are fitted once; give one value, or only"
            f" the classifier {names}",
        )


def _epochs_of_fitted(space: Space) -> set[Value]:
    """Return the values of `epochs` of possible trials whose classifier is fitted once."""
    names = {"adaptation", "classifier", "epochs"}
    for hparam in reversed(space.hparams):  # each comes after those that its conditions name
        if hparam.name in names:
            names.update(other for other, _values in hparam.when)
    hparams = [hparam for hparam in space.hparams if hparam.name in names]
    epochs = set()
    for values in islice(product(*(hparam.values for hparam in hparams)), MAX_COMBINATIONS):
        chosen: dict[str, Value] = {}
        for hparam, value in zip(hparams, values, strict=True):
            if hparam.is_active(chosen):
                chosen[hparam.name] = value
        if chosen.get("adaptation") != FROZEN or not _may_be_allowed(space, chosen):
            continue
        classifier = chosen.get("classifier", space.table["classifier"].default)
        if classifier not in TRAINED_CLASSIFIERS:
            epochs.add(chosen["epochs"])
    return epochs


def _may_be_allowed(space: Space, hparams: Mapping[str, Value]) -> bool:
    """Return whether constraints allow `hparams`; invalid ones are reported by their own check."""
    try:
        return allowed(space, hparams)
    except ValueError:
        return True
