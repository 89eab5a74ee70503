"""`raysearch test`: evaluates the champion of a study on its held-out test set."""

from __future__ import annotations

import sys

from rich.markup import escape

from raysearch.cli.options import STUDIES, JsonOption, StudiesOption, StudyArgument, make_console


def test(
    name: StudyArgument,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Evaluate the champion of a study on the patients of the held-out test set.

    Each access is logged next to the split manifest before the test set is read, and its number is
    sent to MLflow. After the first access, no other champion of the study can be evaluated on this
    test set.

    Example: `raysearch test first`
    """
    from raysearch.cli.progress_bar import file_progress
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    folder = StudyFolder(f"{studies}/{name}")
    study = load_study(folder)
    console = make_console(stderr=as_json)
    with console.status("Importing torch and MLflow"):
        from raysearch.cli.evaluation_text import evaluation_json, print_evaluation
        from raysearch.inference.model_loading import load_model
        from raysearch.testing.evaluation_run import evaluate_held_out

    model = load_model(name, studies)
    with file_progress("Evaluating") as on_progress:
        outcome = evaluate_held_out(folder, study.plan, study.history, model, on_progress)
    record, evaluation = outcome.record, outcome.evaluation
    if as_json:
        sys.stdout.write(evaluation_json(record, evaluation, outcome.tracking_error))
        return 0
    print_evaluation(f"Held-out test set of {name}", record, evaluation, console)
    if record.accesses is not None:
        console.print(
            f"Accesses  {record.accesses.by_study} by this study, {record.accesses.total} in total;"
            f" logged next to the split manifest in {escape(study.plan.data)}",
            soft_wrap=True,
        )
    if outcome.tracking_error is not None:
        console.print(
            f"[red]Not in MLflow[/]: {escape(str(outcome.tracking_error))}", soft_wrap=True
        )
    return 0
