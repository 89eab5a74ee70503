"""`raysearch select`: selects the champion of a study, with other options than before."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from raysearch.cli.options import (
    INTERRUPTED,
    STUDIES,
    AllowCodeOption,
    JsonOption,
    StudiesOption,
    make_console,
    trust_stored_code,
)
from raysearch.cli.selection_text import selection_lines, selection_table
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.errors import StudyError
from raysearch.metrics.interval import Interval

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.plan import Plan
    from raysearch.selection.decision_rule import SelectionOptions
    from raysearch.selection.selection import Selection
    from raysearch.workflow import StudyOutcome

SAVED = "what was reported is saved. Resume with the same command"
KIND_TEXTS = {"refit": "refitted", "ensemble": "registered as an ensemble"}


@dataclass(frozen=True)
class CandidateRecord:
    """A finished trial as it is printed in JSON."""

    trial: str
    objective: Interval
    difference_to_best: Interval
    tied: bool
    inference_ms: float | None
    chosen: bool


@dataclass(frozen=True)
class SelectionRecord:
    """A selection as it is printed in JSON."""

    candidates: tuple[CandidateRecord, ...]
    corrected: Interval


def select(
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    margin: Annotated[
        float,
        typer.Option(help="The largest difference to the best trial that counts as a tie."),
    ] = 0.005,
    threshold_by: Annotated[
        str,
        typer.Option(help="The metric to maximize: balanced_accuracy, f1, accuracy."),
    ] = "balanced_accuracy",
    repeats: Annotated[
        int | None,
        typer.Option(
            help="How often to repeat the champion's cross-validation with new seeds. Default: the"
            " space's."
        ),
    ] = None,
    ensemble: Annotated[
        bool | None,
        typer.Option(
            "--ensemble/--refit",
            help="Register the mean of the networks of a repeat, or one network trained on all"
            " patients. Default: the space's.",
        ),
    ] = None,
    with_encoder: Annotated[
        bool | None,
        typer.Option(
            "--with-encoder/--without-encoder",
            help="Copy a frozen encoder of unknown license into the model: you have the right to"
            " pass it on. Default: the space's.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print; train and register nothing.")
    ] = False,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Select the champion: the fastest of the tied best trials.

    The command fits temperature and threshold, trains the final networks if they are not trained
    yet, and moves the registry's alias `champion` to the model.

    Example: `raysearch select first --margin 0.01 --repeats 3`
    """
    trust_stored_code(allow_code)
    from raysearch.cli.study_paths import newest_name
    from raysearch.metrics.calibration import CRITERIA
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import read_plan

    if not 0 <= margin < math.inf:
        raise StudyError(f"--margin {margin}: must be a number of at least 0")
    if threshold_by not in CRITERIA:
        raise StudyError(f"--threshold-by {threshold_by}: must be one of {', '.join(CRITERIA)}")
    code = None if dry_run else SUPERVISOR.supervise(SAVED)
    if code is not None:
        return code
    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    console = make_console(stderr=as_json)
    options = _selection_options(read_plan(folder), margin, threshold_by, repeats, ensemble)
    options = replace(options, with_encoder=with_encoder)
    if dry_run:
        _show_selection(folder, options, as_json, console)
        return 0
    return _run(folder, options, as_json, console)


def _selection_options(
    plan: Plan, margin: float, criterion: str, repeats: int | None, ensemble: bool | None
) -> SelectionOptions:
    """Return the options; those that are None are the space's.

    Raises:
        StudyError: If the number of repeats is not allowed, or is 0 for an ensemble.
    """
    from raysearch.config.bounded_types import MAX_REPEATS
    from raysearch.selection.decision_rule import SelectionOptions

    num_repeats = plan.space.repeats if repeats is None else repeats
    if not 0 <= num_repeats <= MAX_REPEATS:
        raise StudyError(f"--repeats {num_repeats}: must be a number from 0 to {MAX_REPEATS}")
    kind = plan.space.champion
    if ensemble is not None:
        kind = "ensemble" if ensemble else "refit"
    if kind == "ensemble" and not num_repeats:
        raise StudyError(
            "--repeats 0: an ensemble consists of the networks of a repeat; set at least 1, or add"
            " --refit"
        )
    return SelectionOptions(margin, criterion, num_repeats, kind)


def _show_selection(
    folder: StudyFolder, options: SelectionOptions, as_json: bool, console: Console
) -> None:
    """Print the selection without training or registering a model."""
    from raysearch.search.journal.history import total_fold_epochs
    from raysearch.search.study.frozen_encoders import separate_encoder_file
    from raysearch.search.study.stored_study import load_study
    from raysearch.selection.selection import select as select_trial

    study = load_study(folder)
    selection = select_trial(folder, study.plan, study.history, options.margin)
    separate_encoder_file(study.plan, selection.chosen.hparams, options.with_encoder)
    chosen = selection.chosen
    num_fold_epochs = total_fold_epochs(study.plan.space, chosen)
    repeat_fold_epochs = options.repeats * num_fold_epochs
    if as_json:
        record = asdict(_selection_record(selection))
        sys.stdout.write(json.dumps({**record, "repeat_fold_epochs": repeat_fold_epochs}) + "\n")
        return
    console.print(selection_table(study.plan, selection))
    console.print(
        f"{selection.chosen.id} would be {KIND_TEXTS[options.kind]}, with {options.repeats} repeats"
        f" with new seeds ({repeat_fold_epochs:,} fold-epochs, less those that are stored)"
    )


def _run(folder: StudyFolder, options: SelectionOptions, as_json: bool, console: Console) -> int:
    from raysearch.cli.live_table import LiveView, stderr_in_log
    from raysearch.search.engine.interrupts import (
        InterruptedStudyError,
        RayLostError,
        signals_interrupt,
    )

    with signals_interrupt() as receiver:
        receiver.on_loss = SUPERVISOR.report_loss
        try:
            # Ray, torch and MLflow take seconds to import: a mistake in an option does not wait.
            with console.status("Importing Ray and MLflow"):
                from raysearch.workflow import reselect_champion
            with stderr_in_log(folder), LiveView(console) as view:
                outcome = reselect_champion(folder, options, view)
        except InterruptedStudyError as interrupt:
            console.print(f"{INTERRUPTED}. Resume with the same command.")
            return 128 + interrupt.signum
        except RayLostError as error:
            raise StudyError(f"{error}; {SAVED}") from None
    _show_outcome(outcome, as_json, console)
    return 0


def _show_outcome(outcome: StudyOutcome, as_json: bool, console: Console) -> None:
    from rich.markup import escape

    from raysearch.cli.study_end import study_end
    from raysearch.cli.study_end_text import MAX_ROWS, model_line
    from raysearch.search.journal.codec import record_to_json

    end, selection = study_end(outcome), outcome.champion.selection
    if as_json:
        record = {**record_to_json(end), **asdict(_selection_record(selection))}
        sys.stdout.write(json.dumps(record) + "\n")
        return
    plan, history = outcome.study.plan, outcome.study.history
    console.print(selection_table(plan, selection, MAX_ROWS))
    for line in selection_lines(plan, history, end):
        console.print(escape(line), soft_wrap=True)
    console.print(model_line(plan, end))
    for line in _test_set_notes(outcome):
        console.print(line, soft_wrap=True)


def _test_set_notes(outcome: StudyOutcome) -> list[str]:
    """Return a note for each access to the held-out test set with another champion."""
    from raysearch.data.files import Folder
    from raysearch.data.splits.access_log import TestSetAccess, read_test_set_accesses

    plan, champion = outcome.study.plan, outcome.champion
    current = TestSetAccess.now(plan.name, plan.identity, champion.trial.id, champion.decision)
    accesses = read_test_set_accesses(Folder(plan.data), plan.space.split or plan.space.task)
    return [
        f"[yellow]Note[/]      The held-out test set was evaluated at {access.time} with the"
        f" champion {access.champion} and the decision rule of that time. It is not an independent"
        " test of another champion."
        for access in accesses
        if access.identity == plan.identity and not access.same_champion(current)
    ]


def _selection_record(selection: Selection) -> SelectionRecord:
    candidates = tuple(
        CandidateRecord(
            trial=candidate.trial.id,
            objective=candidate.objective,
            difference_to_best=candidate.comparison.difference,
            tied=candidate.comparison.tied,
            inference_ms=candidate.inference_ms,
            chosen=candidate.trial is selection.chosen,
        )
        for candidate in selection.candidates
    )
    return SelectionRecord(candidates, selection.corrected)
