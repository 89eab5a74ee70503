"""`raysearch select`: the champion of a study, chosen again by other options."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from raysearch.cli.options import STOPPED, STUDIES, StudiesOption, make_console
from raysearch.cli.selection_text import selection_lines, selection_table
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.plan import Plan
    from raysearch.selection.decision_rule import Options
    from raysearch.selection.selection import Selection

MADE_OF = {"refit": "refitted", "ensemble": "an ensemble"}


def select(
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    margin: Annotated[
        float, typer.Option(help="A trial that is shown not to be worse by it is as good.")
    ] = 0.005,
    threshold_by: Annotated[
        str, typer.Option(help="What the threshold is best for: balanced_accuracy, f1, accuracy.")
    ] = "balanced_accuracy",
    repeats: Annotated[
        int | None,
        typer.Option(
            help="With how many other seeds the champion is trained again. Default: the space's."
        ),
    ] = None,
    ensemble: Annotated[
        bool | None,
        typer.Option(
            "--ensemble/--refit",
            help="Register the nets of a fresh seed's folds, averaged, or one net of all patients."
            " Default: the space's.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print; nothing is refitted or registered.")
    ] = False,
    studies: StudiesOption = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Choose the champion of a study: the cheapest trial that is as good as the best.

    Its temperature and threshold are fitted and locked, it is refitted where it is another one than
    before and trained over its folds with fresh seeds, and the registry's alias `champion` follows.

    Example: `raysearch select first --margin 0.01 --repeats 3`
    """
    from raysearch.cli.study_paths import newest_name
    from raysearch.metrics.calibration import CRITERIA
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.study import read_history, read_plan
    from raysearch.selection.decision_rule import Options
    from raysearch.selection.selection import select as choose

    if not 0 <= margin < math.inf:
        raise StudyError(f"--margin {margin}: not a difference; give 0 or more")
    if threshold_by not in CRITERIA:
        raise StudyError(f"--threshold-by {threshold_by}: give one of {', '.join(CRITERIA)}")
    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    console = make_console(stderr=as_json)
    plan = read_plan(folder)
    options = _asked(plan, Options(margin, threshold_by), repeats, ensemble)
    if dry_run:
        found = choose(folder, plan, read_history(folder), margin)
        cost = options.repeats * found.chosen.folds * plan.space.epochs
        if as_json:
            sys.stdout.write(json.dumps({**_told(found), "repeat_fold_epochs": cost}) + "\n")
        else:
            console.print(selection_table(plan, found))
            console.print(
                f"{found.chosen.id} would be {MADE_OF[options.kind]}, and trained with"
                f" {options.repeats} fresh seeds: {cost:,} fold-epochs, where not done already"
            )
        return 0
    return _run(folder, options, as_json, console)


def _asked(plan: Plan, options: Options, repeats: int | None, ensemble: bool | None) -> Options:
    """`options` with what of the rest is asked for, and what the plan's space says of the others.

    StudyError for an ensemble without a fresh seed.
    """
    from raysearch.config.settings import FRESH_SEEDS

    seeds = plan.space.repeats if repeats is None else repeats
    if error := FRESH_SEEDS.error(seeds):
        raise StudyError(f"--repeats: {error}; give such a number")
    kind = plan.space.champion
    if ensemble is not None:
        kind = "ensemble" if ensemble else "refit"
    if kind == "ensemble" and not seeds:
        raise StudyError(
            "--repeats 0: an ensemble is of a fresh seed's nets; give 1 or more, or --refit"
        )
    return replace(options, repeats=seeds, kind=kind)


def _run(folder: StudyFolder, options: Options, as_json: bool, console: Console) -> int:
    from raysearch.cli.launch_study import MAX_ROWS, end_of
    from raysearch.cli.live_table import LiveView, quiet_errors
    from raysearch.data.files import Folder
    from raysearch.data.splits.access_log import TestSetAccess, test_set_accesses

    # Ray, torch and MLflow take seconds to import: a mistake does not wait for them.
    with console.status("Importing Ray and MLflow"):
        from raysearch.search.engine.session import InterruptedStudyError
        from raysearch.workflow import reselect_champion

    try:
        with quiet_errors(folder), LiveView(console) as view:
            outcome = reselect_champion(folder, options, view)
    except InterruptedStudyError as interrupt:
        console.print(f"{STOPPED}. To go on, select again.")
        return 128 + interrupt.signum
    end, selection = end_of(outcome), outcome.champion.selection
    if as_json:
        sys.stdout.write(json.dumps({**end, **_told(selection)}) + "\n")
        return 0
    plan, history = outcome.study.plan, outcome.study.history
    console.print(selection_table(plan, selection, MAX_ROWS))
    for line in selection_lines(plan, history, end):
        console.print(escape(line), soft_wrap=True)
    console.print(f"Model     models:/{plan.name}@champion (version {end['version']})")
    now = TestSetAccess.now(plan.name, plan.identity, end["champion"], history.locked)
    for one in test_set_accesses(Folder(plan.data), plan.space.split or plan.space.task):
        if one.identity == plan.identity and not one.same_champion(now):
            console.print(
                f"[yellow]Note[/]      The held-out set was opened on {one.at} with {one.champion}"
                " as it was locked then: it does not test another champion",
                soft_wrap=True,
            )
    return 0


def _told(selection: Selection) -> dict[str, Any]:
    """As plain values."""
    candidates = [
        {
            "trial": one.trial.id,
            "objective": asdict(one.objective),
            "to_the_best": asdict(one.against.difference),
            "tied": one.against.tied,
            "inference_ms": one.inference_ms,
            "chosen": one.trial is selection.chosen,
        }
        for one in selection.candidates
    ]
    return {"candidates": candidates, "corrected": asdict(selection.corrected)}
