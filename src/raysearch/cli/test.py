"""`raysearch test`: evaluates the champion of a study on its held-out test set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    JsonOption,
    StudiesOption,
    StudyArgument,
    make_console,
    trust_stored_code,
)

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.search.study.plan import Plan
    from raysearch.testing.evaluation_run import EvaluationOutcome


def test(
    name: StudyArgument,
    is_repeated: Annotated[
        bool,
        typer.Option("--again", help="Evaluate a tested champion again, which is another access."),
    ] = False,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Evaluate the champion of a study on the held-out test set.

    Each access is logged next to the split manifest before the test set is read, and its number is
    sent to MLflow. After the first access, no other champion of the study can be evaluated on this
    test set. Of a champion that was tested, the stored result is printed, without an access.

    Example: `raysearch test first`
    """
    trust_stored_code(allow_code)
    from raysearch.cli.progress_bar import step_progress
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    folder = StudyFolder(f"{studies}/{name}")
    study = load_study(folder)
    console = make_console(stderr=as_json)
    with console.status("Importing torch and MLflow"):
        from raysearch.cli.evaluation_text import print_evaluation_json
        from raysearch.inference.model_loading import load_model
        from raysearch.testing.evaluation_run import evaluate_held_out, stored_held_out

    outcome = None if is_repeated else stored_held_out(folder, study.plan, study.history)
    if outcome is None:
        model = load_model(name, studies)
        with step_progress(f"Reading the {study.plan.unit}") as on_progress:
            outcome = evaluate_held_out(folder, study.plan, study.history, model, on_progress)
    if as_json:
        print_evaluation_json(outcome)
    else:
        _show(study.plan, outcome, console)
    return 0


def _show(plan: Plan, outcome: EvaluationOutcome, console: Console) -> None:
    from raysearch.cli.evaluation_text import print_evaluation, print_tracking_error

    record = outcome.record
    print_evaluation(f"Held-out test set of {plan.name}", record, outcome.evaluation, console)
    if outcome.is_stored:
        console.print(
            f"Stored    the result of {record.time}, without another access; --again evaluates"
            " again",
            soft_wrap=True,
            highlight=False,
        )
    if record.accesses is not None:
        console.print(
            f"Accesses  {record.accesses.by_study} by this study, {record.accesses.total} in total;"
            f" logged next to the split manifest in {escape(plan.data)}",
            soft_wrap=True,
        )
    print_tracking_error(outcome.tracking_error, console)
