"""What `raysearch launch` does, once its options are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from raysearch.cli.event_stream import EventStream
from raysearch.cli.live_table import LiveView, quiet_errors
from raysearch.cli.options import STOPPED, make_console
from raysearch.cli.selection_text import selection_lines
from raysearch.cli.study_paths import new_name, resolve_data
from raysearch.cli.tables import champion_table, leaderboard_rows, leaderboard_table, plan_tables
from raysearch.config.space import Space
from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError, StudyError, without_passwords
from raysearch.metrics.bootstrap import Interval
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import (
    NewStudyFiles,
    Plan,
    make_plan,
    reject_changes,
    split_manifest_of,
)
from raysearch.search.study.remote_view import end_message
from raysearch.search.study.study import read_history, read_plan
from raysearch.search.study.warm_start import warm_started

if TYPE_CHECKING:
    from raysearch.workflow import Outcome

MAX_ROWS = 15


@dataclass(frozen=True)
class Launch:
    """The options of one launch, as the user gave them."""

    space: Path
    data: str | None
    trials: str | None
    seed: int | None
    name: str | None
    resume: bool
    dry_run: bool
    studies: str
    as_json: bool
    events: bool = False


def start(asked: Launch) -> int:
    """Plan what is `asked`, and print the plan or run it; the exit code."""
    console = make_console(stderr=asked.as_json or asked.events)
    space = read_space(asked.space)
    stem = asked.space.stem
    name = asked.name or (stem if asked.resume else new_name(asked.studies, stem))
    folder = StudyFolder(f"{asked.studies}/{name}")
    stored = read_plan(folder) if asked.resume else None
    if stored is None and folder.exists(folder.PLAN):
        raise StudyError(f"study {name!r} exists already; add --resume, or choose another --name")
    begun = read_history(folder) if stored else None
    planned = _planned(asked.trials, space, stored, begun)
    if stored is None:
        space = warm_started(replace(space, trials=planned), asked.studies)
    elif space.warm_start == stored.space.warm_start:
        space = replace(space, points=stored.space.points)  # as they were found then
    space = _seeded(space, stored, asked.seed)
    address = resolve_data(asked.data, space.data, asked.studies, console)
    split_manifest, new = split_manifest_of(space, address)
    plan, splits = make_plan(space, name, address, split_manifest)
    if stored is not None:
        reject_changes(stored, plan)
        plan = replace(stored, data=plan.data)  # the same shards may have moved
    place = f"{address}/splits/{space.split or space.task}.json"
    if asked.dry_run:
        _show_plan(plan, asked.as_json, console)
        if new and not asked.as_json:
            console.print(
                f"The split is new; a launch writes it to {escape(place)}", soft_wrap=True
            )
        return 0
    new_study_files = None if stored else NewStudyFiles(splits, split_manifest if new else None)
    return _run(folder, plan, new_study_files, asked, console, planned)


def _planned(asked: str | None, space: Space, stored: Plan | None, begun: History | None) -> int:
    """How many trials the study is to have, by the option `asked`; a resume may only add some."""
    more = asked is not None and asked.startswith("+")
    known = None if stored is None or begun is None else begun.extended or stored.space.trials
    if asked is None:
        return known or space.trials
    if not asked.removeprefix("+").isdecimal() or not int(asked) > 0:
        raise SpaceError(f"--trials {asked}: give 1 or more, or +1 or more with --resume")
    if known is None:
        if more:
            raise SpaceError(
                f"--trials {asked}: a new study has no trials to add to; give a number"
            )
        return int(asked)
    wanted = known + int(asked) if more else int(asked)
    if wanted < known:
        raise StudyError(
            f"--trials {asked}: the study has {known} already, and none is taken back; give more,"
            " or +N"
        )
    return wanted


def _seeded(space: Space, stored: Plan | None, seed: int | None) -> Space:
    """`space` with the seed asked for; what a resume does not name is as it was launched."""
    if seed is not None and seed < 0:
        raise SpaceError(f"--seed {seed}: not a seed; give 0 or more")
    if stored is not None:
        space = replace(space, trials=stored.space.trials)
        seed = stored.space.seed if seed is None else seed
    return replace(space, seed=space.seed if seed is None else seed)


def _show_plan(plan: Plan, as_json: bool, console: Console) -> None:
    if as_json:
        costs = {
            "expected": plan.expected_fold_epochs,
            "most": plan.max_fold_epochs,
            "fresh": plan.repeat_fold_epochs,
        }
        sys.stdout.write(json.dumps({**asdict(plan), **costs}) + "\n")
        return
    for table in plan_tables(plan):
        console.print(table)


def _run(
    folder: StudyFolder,
    plan: Plan,
    new_study_files: NewStudyFiles | None,
    asked: Launch,
    console: Console,
    planned: int,
) -> int:
    # Ray, torch and MLflow take seconds to import: a plan or a mistake does not wait for them.
    with console.status("Importing Ray and MLflow"):
        from raysearch.search.engine.session import InterruptedStudyError
        from raysearch.workflow import run_study

    try:
        with quiet_errors(folder), EventStream() if asked.events else LiveView(console) as view:
            outcome = run_study(folder, plan, new_study_files, view, planned)
    except InterruptedStudyError as interrupt:
        console.print(f"{STOPPED}. To go on, add: --name {plan.name} --resume")
        return 128 + interrupt.signum
    end = end_of(outcome)
    if asked.events:
        sys.stdout.write(end_message(end) + "\n")
    else:
        show_end(outcome.study.plan, outcome.study.history, end, asked.as_json, console)
    return 0


def end_of(outcome: Outcome) -> dict[str, Any]:
    """How the study ended, as plain values."""
    pooled, near = outcome.champion.pooled, outcome.champion.in_context
    selection = outcome.champion.selection
    return {
        "study": outcome.study.plan.name,
        "champion": outcome.champion.trial.id,
        "margin": selection.margin,
        "tied": [one.trial.id for one in selection.tied],
        "chosen": selection.chosen.id,
        "corrected": asdict(selection.corrected),
        "locked": outcome.champion.decision.told,
        "pooled_auroc": None if pooled is None else asdict(pooled),
        "auroc_in_context": None if near is None else asdict(near.pooled),
        "kind": outcome.champion.kind,
        "objective": asdict(selection.of(outcome.champion.trial).objective),
        "fresh": [asdict(one) for one in outcome.champion.fresh],
        "version": outcome.champion.version,
        "folder": outcome.study.folder.address,
        "store": without_passwords(outcome.store),
        "unsent": None if outcome.unsent is None else str(outcome.unsent),
    }


def show_end(
    plan: Plan, history: History, end: Mapping[str, Any], as_json: bool, console: Console
) -> None:
    """Print how a study ended: its leaderboard, its champion, and where all of it is."""
    if as_json:
        found = {**end, "leaderboard": leaderboard_rows(plan, history)}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    console.print(leaderboard_table(plan, history, console.width, MAX_ROWS))
    console.print(champion_table(plan, history.trials[end["champion"]]))
    for line in selection_lines(plan, history, end):
        console.print(escape(line), soft_wrap=True)
    if end["pooled_auroc"] is not None:
        pooled = Interval(**end["pooled_auroc"])
        console.print(
            f"Pooled    out-of-fold AUROC {pooled}, 95 % interval by patient", soft_wrap=True
        )
    if end["auroc_in_context"] is not None:
        near = Interval(**end["auroc_in_context"])
        console.print(f"          {near} with what the patches near each one say", soft_wrap=True)
    console.print(f"Study     {escape(end['folder'])}", soft_wrap=True)
    console.print(f"Model     models:/{plan.name}@champion (version {end['version']})")
    if end["unsent"] is not None:
        console.print(
            f"[red]Not all is in MLflow[/]: {escape(end['unsent'])}; add --resume to send it"
        )
    served = str(end["store"]).startswith("http")
    where = f"{end['store']} in a browser" if served else "raysearch ui"
    console.print(f"Compare   {escape(where)}", soft_wrap=True)
