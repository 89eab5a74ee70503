"""Checks of the hyperparameters by which pretrained networks are adapted, or only read.

Conditions may exclude each other in many ways, so that random configurations decide what exists
beside what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysearch.config.constraints import allowed
from raysearch.config.file_errors import FileError
from raysearch.config.hyperparameter_readers import is_read
from raysearch.config.hyperparameter_spec import Value, is_import_path
from raysearch.config.hyperparameters import TrialParams, resolve
from raysearch.config.names import FITTED_PREPROCESSINGS, FROZEN, FULL, NO_WEIGHTS
from raysearch.config.space import Hyperparameter, Space
from raysearch.config.space_geometry import sample_hparams

NUM_SAMPLES = 500
# A random configuration, and its parameters.
Sample = tuple[dict[str, Value], TrialParams]


def adaptation_errors(space: Space) -> Iterator[FileError]:
    """Yield the errors of a space in which trials adapt or read pretrained networks."""
    if set(space.values_of("adaptation")) == {FULL}:
        return
    samples = _samples(space)
    yield from _weights_errors(samples)
    yield from _custom_errors(samples)
    yield from _preprocessing_errors(samples)
    for hparam in space.hparams:
        yield from _unread_errors(hparam, samples)


def _samples(space: Space) -> list[Sample]:
    """Return random configurations that satisfy the constraints."""
    import numpy as np

    generator = np.random.default_rng(0)
    drawn = [sample_hparams(space, generator) for _sample in range(NUM_SAMPLES)]
    return [(hparams, resolve(hparams)) for hparams in drawn if _is_allowed(space, hparams)]


def _is_allowed(space: Space, hparams: dict[str, Value]) -> bool:
    try:
        return allowed(space, hparams)
    except TypeError:  # of a constraint that another check rejects
        return True


def _weights_errors(samples: Sequence[Sample]) -> Iterator[FileError]:
    """Yield an error if a network without pretrained weights is adapted or read."""
    for _hparams, params in samples:
        if params.adaptation != FULL and params.weights == NO_WEIGHTS:
            yield FileError(
                ("space", "adaptation"),
                f"`{params.adaptation}` needs pretrained weights, and {params.architecture} may"
                " have none; give `weights: imagenet`, or add `when` to `adaptation`",
            )
            return


def _custom_errors(samples: Sequence[Sample]) -> Iterator[FileError]:
    """Yield an error if frozen features come from code of the user's, or need it.

    Features are stored for further studies, and the code may change.
    """
    for _hparams, params in samples:
        for name in ("architecture", "augment", "preprocess"):
            if params.adaptation == FROZEN and is_import_path(getattr(params, name)):
                yield FileError(
                    ("space", name),
                    f"`{getattr(params, name)}` cannot be used with `adaptation: {FROZEN}`; add"
                    f" `when: {{adaptation: {FULL}}}`",
                )
                return


def _preprocessing_errors(samples: Sequence[Sample]) -> Iterator[FileError]:
    """Yield an error if a preprocessing that is fitted to each fold precedes frozen features."""
    for _hparams, params in samples:
        if params.adaptation == FROZEN and params.preprocess in FITTED_PREPROCESSINGS:
            yield FileError(
                ("space", "preprocess"),
                f"`{params.preprocess}` is fitted to each fold, and frozen features are computed"
                f" once; remove it, or add `when: {{adaptation: {FULL}}}`",
            )
            return


def _unread_errors(hparam: Hyperparameter, samples: Sequence[Sample]) -> Iterator[FileError]:
    """Yield an error if nothing reads a hyperparameter beside a value of `adaptation`.

    That is: of a searched one, no trial with that value reads it; of a fixed one, no trial at all.
    A part of the trials with a value, such as those with one classifier, may leave it out.
    """
    beside = [params for hparams, params in samples if hparam.name in hparams]
    readers = {params.adaptation for params in beside if is_read(hparam.name, params)}
    unread = {params.adaptation for params in beside} - readers
    is_searched = len(set(hparam.values)) > 1
    if unread and (is_searched or not readers):
        advice = f", or add `when: {{adaptation: [{', '.join(sorted(readers))}]}}`"
        yield FileError(
            ("space", hparam.name),
            f"`{hparam.name}` has no effect with `adaptation: {min(unread)}`"
            f"{_classifiers(beside)}; remove it{advice if readers else ''}",
        )


def _classifiers(beside: Sequence[TrialParams]) -> str:
    """Return the classifier in the words of a message, if all frozen trials have the same."""
    classifiers = {params.classifier for params in beside if params.adaptation == FROZEN}
    return f" and `classifier: {classifiers.pop()}`" if len(classifiers) == 1 else ""


def all_conditions(space: Space, hparam: Hyperparameter) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Yield the conditions of `hparam`, and of the hyperparameters that these name."""
    for name, values in hparam.when:
        yield name, values
        other = space.hyperparameter(name)
        if other is not None:
            yield from all_conditions(space, other)
