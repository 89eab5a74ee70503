"""Reads what the training of a champion left in its study's folder: weights and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from raysearch.champion.model_artifact import ModelArtifact, model_artifact_of
from raysearch.errors import SpaceError, StudyError
from raysearch.metrics.calibration import apply_temperature
from raysearch.models.classifier import Classifier
from raysearch.models.transfer.feature_network import EXTRACTOR, FeatureExtractor, FeatureNetwork
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold, repeat_out_of_fold
from raysearch.search.study.frozen_encoders import encoder_file_of, local_encoder_file
from raysearch.search.study.plan import Plan
from raysearch.training.network_weights import NetworkWeights, unpack_network_weights


def load_champion(
    folder: StudyFolder, plan: Plan, history: History
) -> tuple[ModelArtifact, Classifier]:
    """Load the champion of a study as it is registered: uint8 patches in, probabilities out.

    Raises:
        StudyError: If the study has no champion, or its weights are missing or damaged; if a copy
            of its encoder is requested, and the license forbids it.
        EncoderFileError: If the weights of its frozen encoder are needed, and not on this machine.
    """
    trial, decision = champion_of(plan, history)
    artifact = model_artifact_of(plan, trial, decision, history.with_encoder)
    artifact.code.require(f"study {plan.name!r}")
    try:
        return artifact, _load_classifier(folder, plan, artifact, trial)
    except (OSError, ValueError):
        file = folder.CHAMPION if artifact.repeat_seed is None else folder.REPEATS
        raise _missing_weights(folder, file) from None


def load_champion_network(
    folder: StudyFolder, plan: Plan, history: History
) -> tuple[Trial, nn.Module]:
    """Load the champion of a study and its refitted network, without preprocessing.

    Of a classifier of frozen features, it is the frozen network without the classifier.

    Raises:
        StudyError: If the study has no champion, the champion is an ensemble, or its weights are
            missing or damaged.
        EncoderFileError: If the weights of its frozen encoder are needed, and not on this machine.
    """
    trial, decision = champion_of(plan, history)
    if decision.kind == "ensemble":
        raise StudyError(
            f"the champion of {plan.name!r} is an ensemble of several networks; run `raysearch"
            f" select {plan.name} --refit` to train one network on all patients"
        )
    try:
        weights = load_refit_weights(folder, trial)
    except (OSError, ValueError):
        raise _missing_weights(folder, folder.CHAMPION) from None
    artifact = model_artifact_of(plan, trial, decision, history.with_encoder)
    artifact.code.require(f"study {plan.name!r}")
    (weights,) = _with_encoders(plan, artifact, trial, [weights])
    network = artifact.build_network(weights)
    if isinstance(network, FeatureNetwork):  # whose head is a classifier of its features
        network = network.extractor
    network = unwrap(network)
    return trial, network.net if isinstance(network, FeatureExtractor) else network


def champion_of(plan: Plan, history: History) -> tuple[Trial, ChampionDecision]:
    """Return the champion of a study and its frozen decision rule.

    Raises:
        StudyError: If the study has no champion.
    """
    if history.champion is None or history.champion_decision is None:
        raise StudyError(
            f"study {plan.name!r} has no champion yet; wait until it ends, resume it with"
            " `raysearch launch --resume`, or select a champion with `raysearch select`"
        )
    return history.trials[history.champion], history.champion_decision


def load_refit_weights(folder: StudyFolder, trial: Trial) -> NetworkWeights:
    """Load the weights of the refit of `trial`.

    Raises:
        OSError: If there are none.
        ValueError: If they are damaged, those of another trial, or not those that the journal
            names.
    """
    content = folder.read_verified(folder.CHAMPION, trial.refit_hash)
    weights = unpack_network_weights(content)
    # They are of another trial if a launch was killed between a refit and its journal entry.
    if weights.trial != trial.id:
        raise ValueError(f"the weights are those of {weights.trial}")
    return weights


def champion_scores(
    folder: StudyFolder, plan: Plan, trial: Trial, repeat_seed: int | None
) -> OutOfFold:
    """Read the champion's out-of-fold predictions.

    Args:
        folder: The study's folder.
        plan: The study's plan.
        trial: The champion.
        repeat_seed: The repeat seed of an ensemble's networks. If None, the champion is a refit,
            and the predictions are those of the search.

    Raises:
        StudyError: If they are missing or damaged.
    """
    if repeat_seed is None:
        return out_of_fold(folder, plan, trial)
    return repeat_scores(folder, plan, trial, repeat_seed)


def calibrated_scores(
    folder: StudyFolder, plan: Plan, trial: Trial, decision: ChampionDecision
) -> OutOfFold:
    """Read the champion's out-of-fold predictions, calibrated by its frozen temperature."""
    scores = champion_scores(folder, plan, trial, decision.seed)
    probabilities = apply_temperature(scores.probabilities, decision.temperature)
    return replace(scores, probabilities=probabilities)


def repeat_scores(folder: StudyFolder, plan: Plan, trial: Trial, seed: int) -> OutOfFold:
    """Read the out-of-fold predictions of `trial` with a repeat seed.

    Raises:
        StudyError: If they are missing or damaged.
    """
    scores = repeat_out_of_fold(folder, plan, trial, seed, range(trial.folds))
    if scores is None:
        raise StudyError(
            f"{folder.path(folder.REPEATS)}/{trial.id}/{seed}: missing or damaged; run `raysearch"
            " select`, which trains it again"
        )
    return scores


def _load_classifier(
    folder: StudyFolder, plan: Plan, artifact: ModelArtifact, trial: Trial
) -> Classifier:
    """Build the champion with its weights; OSError or ValueError if these cannot be read.

    The temperature of an ensemble is fitted on the out-of-fold predictions of its members, so that
    no patient's predictions come from a network trained on that patient. It is slightly
    conservative for the mean: averaging calibrated members that disagree makes the ensemble less
    confident than it is accurate (Rahaman and Thiery, 2021). The ensemble itself has no out-of-fold
    predictions, because each patient is in the training rows of all members but one.
    """
    seed = artifact.repeat_seed
    if seed is None:
        refitted = load_refit_weights(folder, trial)
        return artifact.build_trained(_with_encoders(plan, artifact, trial, [refitted]))
    members = []
    for fold in range(trial.folds):
        trained = trial.repeats.get((seed, fold))
        file = folder.repeat_network(trial.id, seed, fold)
        content = folder.read_verified(file, None if trained is None else trained.network)
        members.append(unpack_network_weights(content))
    return artifact.build_trained(_with_encoders(plan, artifact, trial, members))


def _with_encoders(
    plan: Plan, artifact: ModelArtifact, trial: Trial, members: Sequence[NetworkWeights]
) -> list[NetworkWeights]:
    """Add the weights of a frozen encoder to those that were stored without them.

    Raises:
        EncoderFileError: If these are not on this machine.
        ValueError: If they are those of another network.
    """
    record = encoder_file_of(plan, trial.hparams)
    if record is None or all(map(_has_encoder, members)):
        return list(members)
    path = local_encoder_file(plan, trial.hparams, record, artifact.encoder)
    try:
        state = artifact.encoder_state(path)
    except SpaceError as error:
        raise ValueError(str(error)) from None
    return [
        member if _has_encoder(member) else replace(member, model={**member.model, **state})
        for member in members
    ]


def _has_encoder(weights: NetworkWeights) -> bool:
    return any(name.startswith(EXTRACTOR) for name in weights.model)


def _missing_weights(folder: StudyFolder, file: str) -> StudyError:
    return StudyError(
        f"{folder.path(file)}: missing or damaged; restore it, or run `raysearch launch --resume`,"
        " which trains the champion again"
    )
