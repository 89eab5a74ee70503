"""From the ended search to the model registry: selects, builds and registers the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.champion.build import StatusCallback, build_champion, run_repeats
from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.repeat_result import RepeatResult
from raysearch.champion.stored_champion import champion_scores, load_champion
from raysearch.champion.training_record import record_training_data
from raysearch.data.images.decoding import resize
from raysearch.data.step_progress import StepCallback, ignore_progress
from raysearch.data.synthetic import synthesize_patches
from raysearch.metrics.calibration import apply_temperature
from raysearch.metrics.interval import Interval
from raysearch.models import is_bag_shape
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.journal.history import Trial
from raysearch.search.study.frozen_encoders import separate_encoder_file
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import (
    ENCODER_HASH_TAG,
    ENCODER_TAG,
    register_champion,
)
from raysearch.search.tracking.tracker import Tracker
from raysearch.selection.decision_rule import DecisionRule, SelectionOptions, fit_decision_rule
from raysearch.selection.pooled_scores import (
    SmoothedAuroc,
    neighbor_smoothed_auroc,
    pooled_auroc,
)
from raysearch.selection.selection import Selection, select
from raysearch.selection.stored_intervals import write_intervals

# The registry stores an example of the input: synthetic patches, because a model is passed on. A
# batch of 1 would fix the batch size at 1.
NUM_EXAMPLE_PATCHES = 4
NUM_EXAMPLES = 2
EXAMPLE_SOURCE = f"{NUM_EXAMPLES}:{NUM_EXAMPLES}:0"


@dataclass(frozen=True)
class Champion:
    """The selected trial as a registered model.

    Attributes:
        trial: The selected trial.
        version: Its version in the model registry.
        selection: The ranking of the finished trials.
        decision: The decision rule that is fixed before the held-out test.
        pooled_auroc: The AUROC of the calibrated out-of-fold predictions; None for more than two
            classes. Those are the predictions of the search, or of the ensemble's repeat.
        smoothed_auroc: The same, smoothed over neighboring patches; None if their positions are
            unknown.
        repeats: The repeats of its cross-validation.
    """

    trial: Trial
    version: str
    selection: Selection
    decision: ChampionDecision
    pooled_auroc: Interval | None
    smoothed_auroc: SmoothedAuroc | None
    repeats: tuple[RepeatResult, ...] = ()


def select_and_register_champion(
    study: Study,
    tracker: Tracker,
    on_status: StatusCallback,
    options: SelectionOptions | None = None,
    on_progress: StepCallback = ignore_progress,
) -> Champion:
    """Select the champion of an ended study, train its final networks, and register the model.

    Steps that an earlier call finished are not done again. The repeats of a refit are trained after
    the model is registered: if they cannot be trained now, the study has a champion all the same.

    Args:
        study: The ended study.
        tracker: The tracking store.
        on_status: Called with what is being done.
        options: How to select. If None, as the last selection, or as the study's space says.
        on_progress: Called with the number of epochs of a refit or of repeats.

    Raises:
        StudyError: If no trial finished, none can be trained, or the model cannot be registered.
    """
    on_status("selecting the champion")
    plan, history = study.plan, study.history
    options = options or SelectionOptions.of(
        history.champion_decision, plan.space, history.with_encoder
    )
    selection = select(study.folder, plan, history, options.margin)
    # Nothing is trained or recorded if the license forbids a copy.
    separate_encoder_file(plan, selection.chosen.hparams, options.with_encoder)
    write_intervals(study.folder, selection)
    built = build_champion(study, selection, options, on_status, on_progress)
    trial, repeats = built.trial, built.repeats
    encoder_file = separate_encoder_file(plan, trial.hparams, options.with_encoder)
    scores = champion_scores(study.folder, plan, trial, built.repeat_seed)
    rule = fit_decision_rule(scores, options.criterion)
    decision = freeze_decision(options, rule, built.repeat_seed)
    selected = (trial.id, decision, options.with_encoder)
    if selected != (history.champion, history.champion_decision, history.with_encoder):
        study.record_champion(trial, decision, _objectives(repeats), options.with_encoder)
    # Smoothing over neighbors depends on the confidence, so it takes calibrated probabilities.
    probabilities = apply_temperature(scores.probabilities, decision.temperature)
    calibrated = replace(scores, probabilities=probabilities)
    pooled, smoothed = pooled_auroc(calibrated), neighbor_smoothed_auroc(calibrated, plan)
    tags = _version_tags(plan, trial, selection, decision) | _auroc_tags(pooled, smoothed)
    if encoder_file is not None:
        tags |= {ENCODER_TAG: encoder_file.name, ENCODER_HASH_TAG: encoder_file.sha256}
    on_status("registering the champion")
    version = _register(study, tracker, tags | _repeat_tags(plan, repeats))
    if options.kind == "refit" and options.repeats:
        repeats = run_repeats(
            study, trial, options, selection.num_replicates, on_status, on_progress
        )
        on_status("registering the repeats")
        if _objectives(repeats) != history.repeat_objectives:
            study.record_champion(trial, decision, _objectives(repeats), options.with_encoder)
        _register(study, tracker, tags | _repeat_tags(plan, repeats))
    study.folder.remove(study.folder.UNFINISHED)
    return Champion(trial, version, selection, decision, pooled, smoothed, repeats)


def freeze_decision(
    options: SelectionOptions, rule: DecisionRule, repeat_seed: int | None
) -> ChampionDecision:
    """Combine the options of the selection and the fitted rule; nothing changes them later."""
    return ChampionDecision(
        margin=options.margin,
        kind=options.kind,
        repeats=options.repeats,
        temperature=rule.temperature,
        threshold=rule.threshold,
        criterion=rule.criterion,
        error_before=rule.error_before,
        error=rule.error,
        seed=repeat_seed,
    )


def _objectives(repeats: Sequence[RepeatResult]) -> tuple[float, ...]:
    """The objectives of the repeats that did not fail, if they are defined."""
    intervals = [result.objective for result in repeats if result.objective is not None]
    return tuple(interval.value for interval in intervals if interval.value is not None)


def _register(study: Study, tracker: Tracker, tags: Mapping[str, str]) -> str:
    """Register the model, or update the tags of its version; return the version."""
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    return register_champion(
        tracker,
        study.plan.name,
        classifier,
        example_batch(study.plan.shape),
        tags,
        pack_model_artifact(artifact, classifier, record_training_data(study.folder, study.plan)),
        artifact.served_rule,
        is_exported=artifact.encoder_file is None,
    )


def _version_tags(
    plan: Plan, trial: Trial, selection: Selection, decision: ChampionDecision
) -> dict[str, str]:
    metric = plan.space.metric
    tags = {
        "trial": trial.id,
        "kind": decision.kind,
        "study": plan.identity,
        metric: f"{trial.objective:.6f}",
        f"{metric}_corrected": str(selection.corrected),
        "tied": " ".join(candidate.trial.id for candidate in selection.tied),
        "temperature": f"{decision.temperature:.6g}",
    }
    if decision.threshold is not None:
        tags["threshold"] = f"{decision.threshold:.6g}"
        tags["threshold_criterion"] = decision.criterion
    return tags


def _auroc_tags(pooled: Interval | None, smoothed: SmoothedAuroc | None) -> dict[str, str]:
    tags = {}
    if pooled is not None:
        tags["pooled_auroc"] = str(pooled)
    if smoothed is not None:
        tags["smoothed_auroc"] = str(smoothed.auroc)
        tags["neighbor_smoothing"] = str(smoothed.smoothing)
    return tags


def _repeat_tags(plan: Plan, repeats: Sequence[RepeatResult]) -> dict[str, str]:
    objectives = [str(result.objective) for result in repeats if result.objective is not None]
    return {f"{plan.space.metric}_repeats": "; ".join(objectives)} if objectives else {}


def example_batch(shape: tuple[int, int, int]) -> NDArray[np.generic]:
    """Return synthetic patches of a shape (H, W, 3), uint8, shape (2, H, W, 3).

    Of bags, random features of slides, float32, shape (2, patches, D), of which the second has one
    patch less, in whose place is NaN.
    """
    if is_bag_shape(shape):
        features = np.random.default_rng(0).normal(
            size=(NUM_EXAMPLES, NUM_EXAMPLE_PATCHES, shape[1])
        )
        features[1, -1] = np.nan
        return features.astype(np.float32)
    numbers = np.arange(NUM_EXAMPLES)
    size = (shape[1], shape[0])
    patches = synthesize_patches(EXAMPLE_SOURCE, numbers, numbers % 2, numbers)
    return np.stack([resize(Image.fromarray(patch), size)[0] for patch in patches])
