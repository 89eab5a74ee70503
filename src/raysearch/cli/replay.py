"""`raysearch replay`: trains a trial again and compares its objectives with the recorded ones."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    JsonOption,
    StudiesOption,
    make_console,
    trust_stored_code,
)
from raysearch.cli.progress_bar import file_progress
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.analysis.trial_replay import EpochComparison, TrialReplay


@dataclass(frozen=True)
class ReplayRecord:
    """The result of a replay as it is printed in JSON.

    Attributes:
        study: The study.
        trial: The trial.
        metric: The metric of the objective.
        tolerance: The largest allowed difference of an objective.
        agrees: Whether no difference is larger, and both trainings failed alike.
        max_difference: The largest difference.
        recorded_failure: How the recorded training failed; empty if it did not.
        replayed_failure: How the replayed training failed; empty if it did not.
        device_kind: The kind of device of the replay.
        uses_default_precision: Whether the study chose no precision for this kind of device.
        epochs: The recorded and the replayed objective of each fold-epoch.
    """

    study: str
    trial: str
    metric: str
    tolerance: float
    agrees: bool
    max_difference: float
    recorded_failure: str
    replayed_failure: str
    device_kind: str
    uses_default_precision: bool
    epochs: tuple[EpochComparison, ...]


def replay(
    trial: Annotated[str, typer.Argument(help="The trial, such as t0003 or benchmark.")],
    study: Annotated[str | None, typer.Option(help="The study. Default: the newest.")] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N folds. Default: all.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The folder of the shards, if they have moved.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="The largest allowed difference of an objective. Default: 0 on the machine that"
            " trained the trial, if it has no GPU; otherwise 0.03."
        ),
    ] = None,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Train a trial again, and compare it with its record.

    The exit code is 1 if the objectives differ. No file is written.

    Example: `raysearch replay t0003 --study quickstart --folds 1`
    """
    trust_stored_code(allow_code)
    from raysearch.analysis.trial_replay import default_tolerance, replay_trial
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import read_plan

    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise StudyError(f"--tolerance {tolerance}: must be a number of at least 0")
    folder = StudyFolder(f"{studies}/{study or newest_name(studies)}")
    metric = read_plan(folder).space.metric
    with file_progress(f"Replaying {trial}", "fold-epochs") as update:
        result = replay_trial(folder, trial, folds, data, update)
    if tolerance is None:
        tolerance = default_tolerance(result, socket.gethostname())
    if as_json:
        print_json(_replay_record(folder.name, result, metric, tolerance))
    else:
        _show(result, metric, tolerance)
    return int(not result.agrees(tolerance))


def _replay_record(study: str, result: TrialReplay, metric: str, tolerance: float) -> ReplayRecord:
    return ReplayRecord(
        study=study,
        trial=result.trial.id,
        metric=metric,
        tolerance=tolerance,
        agrees=result.agrees(tolerance),
        max_difference=result.max_difference,
        recorded_failure=result.expected_failure,
        replayed_failure=result.failure,
        device_kind=result.device_kind,
        uses_default_precision=result.uses_default_precision,
        epochs=result.epochs,
    )


def _show(result: TrialReplay, metric: str, tolerance: float) -> None:
    console = make_console()
    console.print(_comparison_table(result, metric))
    if result.uses_default_precision:
        console.print(
            f"The study chose no precision for {result.device_kind}; the replay uses float32."
        )
    summary = _summary(result, tolerance, result.agrees(tolerance))
    console.print(escape(summary), soft_wrap=True)


def _comparison_table(result: TrialReplay, metric: str) -> Table:
    table = Table(title=f"{metric} of {result.trial.id}, replayed", title_justify="left")
    for name in ("fold-epoch", "fold", "recorded", "replayed", "difference"):
        table.add_column(name, justify="right")
    for comparison in result.epochs:
        objectives = [
            "-" if objective is None else f"{objective:.6f}"
            for objective in (comparison.recorded, comparison.replayed)
        ]
        difference = comparison.difference
        table.add_row(
            str(comparison.epoch),
            str(comparison.fold),
            *objectives,
            f"{difference:.2g}" if math.isfinite(difference) else "-",
        )
    return table


def _summary(result: TrialReplay, tolerance: float, agrees: bool) -> str:
    text = f"The objectives {'agree' if agrees else 'differ'} at tolerance {tolerance:g}"
    if result.failure or result.expected_failure:
        text += (
            f"; recorded failure: {result.expected_failure or 'none'}, replayed failure:"
            f" {result.failure or 'none'}"
        )
    if math.isfinite(result.max_difference):
        text += f"; the largest difference is {result.max_difference:.2g}"
    return f"{text}."
