"""What `raysearch launch` does, once its options are read."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from raysearch.cli.event_stream import EventStream
from raysearch.cli.live_table import LiveView, quiet_errors
from raysearch.cli.options import STOPPED, make_console
from raysearch.cli.study_end import show_end, study_end
from raysearch.cli.study_paths import new_name, resolve_data
from raysearch.cli.tables import plan_tables
from raysearch.config.space import Space
from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError, StudyError
from raysearch.search.journal.codec import record_to_json
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import (
    NewStudyFiles,
    expected_study_fold_epochs,
    make_plan,
    reject_changes,
    split_manifest_of,
)
from raysearch.search.study.remote_view import EndMessage, write_message
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.search.study.warm_start import warm_started

if TYPE_CHECKING:
    pass



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
    begun = load_study(folder).history if stored else None
    planned = _planned(asked.trials, space, stored, begun)
    if stored is None:
        space = warm_started(replace(space, trials=planned), asked.studies)
    elif space.warm_start == stored.space.warm_start:
        space = replace(space, points_to_evaluate=stored.space.points_to_evaluate)  # as they were found then
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
            "expected": expected_study_fold_epochs(plan),
            "most": plan.max_fold_epochs,
            "fresh": plan.repeat_fold_epochs,
        }
        sys.stdout.write(json.dumps({**record_to_json(plan), **costs}) + "\n")
        return
    for table in plan_tables(plan, expected_study_fold_epochs(plan)):
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
        from raysearch.search.engine.ray_session import InterruptedStudyError
        from raysearch.workflow import run_study

    try:
        with quiet_errors(folder), EventStream() if asked.events else LiveView(console) as view:
            outcome = run_study(folder, plan, new_study_files, view, planned)
    except InterruptedStudyError as interrupt:
        console.print(f"{STOPPED}. To go on, add: --name {plan.name} --resume")
        return 128 + interrupt.signum
    end = study_end(outcome)
    if asked.events:
        sys.stdout.write(write_message(EndMessage(end)) + "\n")
    else:
        show_end(outcome.study.plan, outcome.study.history, end, asked.as_json, console)
    return 0
