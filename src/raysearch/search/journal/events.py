"""The events of a study: what its journal stores, and what its processes send each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.space import ChampionKind

TrialKind = Literal["trial", "benchmark", "majority"]
EndStatus = Literal["finished", "stopped", "failed"]
# What proposes the hyperparameters of a trial: the space file, earlier studies, the user's prior,
# the model of this study's learning curves, another sampler, or a random number generator.
Origin = Literal["space", "memory", "prior", "model", "sampler", "random"]


@dataclass(frozen=True)
class Recorded:
    """A record that the journal numbers and dates.

    Args:
        number: Its position in the journal, from 0; -1 until it is appended.
        time: Seconds since the epoch, at which it was appended; 0 until then.
    """

    number: int = field(default=-1, kw_only=True)
    time: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class StudyLaunched(Recorded):
    """A launcher started, or resumed, the study."""

    host: str
    pid: int


@dataclass(frozen=True)
class TrialsExtended(Recorded):
    """A later launch raised the planned number of trials to `trials`."""

    trials: int


@dataclass(frozen=True)
class ValueExcluded(Recorded):
    """The user excluded a value of a choice: no further trial starts with it."""

    hyperparameter: str
    value: Value


@dataclass(frozen=True)
class TrialStarted(Recorded):
    """A trial started: its hyperparameters, the seed of its training and its number of folds.

    `origin` says what proposed its hyperparameters; None of a baseline, and before format 7.
    """

    trial: str
    kind: TrialKind
    hparams: Hparams
    seed: int
    folds: int
    origin: Origin | None = None


@dataclass(frozen=True)
class ModelCosts:
    """The costs of a trial that are fixed before its training starts.

    Args:
        effective_batch_size: Rows of one optimizer step, over all its micro-batches.
        parameters: Number of the network's parameters.
        flops: Floating-point operations per patch, from the pixels to the logits.
    """

    effective_batch_size: int
    parameters: int
    flops: int


@dataclass(frozen=True)
class FoldReport(Recorded):
    """The validation results and the costs of one fold-epoch of a trial.

    Args:
        epoch: Fold-epochs that the trial has trained, this one included.
        objective: Mean of the objective over the finished folds and this one; None if undefined.
        metrics: Metrics of this fold's validation rows; None for an undefined one.
        loss: Mean training loss.
        seconds: Training time of this fold-epoch.
        samples: Patches trained on in this fold-epoch.
        train_metrics: Metrics of this fold's training rows, as predicted in the training steps, so
            with augmentation; None in a report of format 4 and older, and of a baseline that is not
            trained.
        rung: Whether the trial is compared with others at this fold-epoch.
        costs: In the first report of a trial.
        inference_ms: Prediction time per patch, in milliseconds.
        peak_device_bytes: Largest GPU memory of the process's tensors.
        peak_rss_bytes: Largest resident set of the process, on a CPU.
        dollars: Price of this fold-epoch.
        micro_batch: Rows of a micro-batch, if the device's memory was too small for the batch.
        pooled: Objective of the out-of-fold scores of all folds together, in a trial's last report
            of a study with several numbers of folds.
        scores: SHA-256 of the file of its validation scores; None if no scores are stored.
    """

    trial: str
    fold: int
    epoch: int
    objective: float | None
    metrics: Mapping[str, float | None]
    loss: float | None
    seconds: float
    rung: bool = False
    samples: int | None = None
    train_metrics: Mapping[str, float | None] | None = None
    host: str | None = None
    costs: ModelCosts | None = None
    inference_ms: float | None = None
    peak_device_bytes: int | None = None
    peak_rss_bytes: int | None = None
    dollars: float | None = None
    micro_batch: int | None = None
    pooled: float | None = None
    scores: str | None = None


@dataclass(frozen=True)
class ScoresReplaced(Recorded):
    """A fold-epoch that was already reported was trained again, because its scores were damaged.

    Args:
        trial: Name of the trial.
        epoch: The fold-epoch, as in the report.
        scores: SHA-256 of the new file of its validation scores.
    """

    trial: str
    epoch: int
    scores: str


@dataclass(frozen=True)
class TrialPaused(Recorded):
    """A trial waits at a rung."""

    trial: str


@dataclass(frozen=True)
class TrialPromoted(Recorded):
    """A paused trial continues.

    Args:
        trial: Name of the trial.
        in_idle_slot: Whether it continues only because its slot would be idle while others train.
    """

    trial: str
    in_idle_slot: bool = False


@dataclass(frozen=True)
class TrialEnded(Recorded):
    """A trial ended, and the reason in a few words."""

    trial: str
    status: EndStatus
    reason: str


@dataclass(frozen=True)
class TrialWarning(Recorded):
    """Something that the user should know about a trial that continues."""

    trial: str
    text: str


@dataclass(frozen=True)
class ChampionDecision:
    """The decision rule that is fixed with the champion before the held-out test.

    Args:
        margin: Largest difference of the objective to the best trial that counts as a tie.
        kind: What the champion consists of.
        repeats: Requested number of repeats of the cross-validation with new seeds.
        temperature: Calibration temperature of the logits.
        threshold: Smallest calibrated probability of the second class that counts as positive;
            None for more than two classes.
        criterion: Metric that the threshold maximizes.
        error_before: Expected calibration error of the out-of-fold scores before calibration.
        error: Expected calibration error after calibration.
        seed: Repeat seed of an ensemble's networks; None for a refit.
    """

    margin: float
    kind: ChampionKind
    repeats: int
    temperature: float
    threshold: float | None
    criterion: str
    error_before: float | None
    error: float | None
    seed: int | None = None


@dataclass(frozen=True)
class ChampionSelected(Recorded):
    """A trial became the champion: its decision rule, and its objective with each repeat seed.

    `with_encoder` says whether its model has a copy of a frozen encoder although the license of the
    weights is unknown; None as the space says.
    """

    trial: str
    decision: ChampionDecision
    repeat_objectives: tuple[float, ...] = ()
    with_encoder: bool | None = None


@dataclass(frozen=True)
class TrialSelected(Recorded):
    """A trial was selected; its refit or its repeats follow.

    Args:
        trial: Name of the trial.
    """

    trial: str


@dataclass(frozen=True)
class RepeatFailed(Recorded):
    """Training a trial with a repeat seed failed."""

    trial: str
    seed: int
    failure: str


@dataclass(frozen=True)
class RepeatTrained(Recorded):
    """A fold of a trial was trained with a repeat seed.

    Args:
        trial: Name of the trial.
        seed: The repeat seed.
        fold: The fold.
        scores: SHA-256 of the file of its validation scores.
        network: SHA-256 of the file of its network; None if that is not stored.
    """

    trial: str
    seed: int
    fold: int
    scores: str
    network: str | None = None


@dataclass(frozen=True)
class RefitTrained(Recorded):
    """A trial was trained on all patients.

    Args:
        trial: Name of the trial.
        network: SHA-256 of the file of its network.
    """

    trial: str
    network: str


Event = (
    StudyLaunched
    | TrialsExtended
    | ValueExcluded
    | TrialStarted
    | FoldReport
    | ScoresReplaced
    | TrialPaused
    | TrialPromoted
    | TrialEnded
    | TrialWarning
    | TrialSelected
    | ChampionSelected
    | RepeatFailed
    | RepeatTrained
    | RefitTrained
)
