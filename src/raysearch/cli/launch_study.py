"""Launches a study on this machine, or prints its plan."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from raysearch.cli.event_stream import EventStream
from raysearch.cli.live_table import LiveView, stderr_in_log
from raysearch.cli.options import INTERRUPTED, make_console
from raysearch.cli.plan_text import plan_tables
from raysearch.cli.study_end import study_end
from raysearch.cli.study_end_text import show_end
from raysearch.cli.study_paths import new_name, resolve_data
from raysearch.config.space import Space
from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError, StudyError
from raysearch.search.journal.codec import record_to_json
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import (
    NewStudyFiles,
    are_known_to_be_accepted,
    expected_study_fold_epochs,
    make_plan,
    reject_changes,
    split_manifest_of,
)
from raysearch.search.study.remote_view import EndMessage, write_message
from raysearch.search.study.stored_study import StudySnapshot, load_study
from raysearch.search.study.warm_start import warm_started


@dataclass(frozen=True)
class LaunchOptions:
    """The options of `raysearch launch`, as the user passed them."""

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


@dataclass(frozen=True)
class PreparedStudy:
    """A study that is ready to run.

    Args:
        folder: Folder of the study.
        plan: What the study does.
        new_study_files: What a new study stores beside its plan; None to resume a study.
        num_trials: The planned number of trials from now on.
        split_manifest: The path of the new split manifest; empty if the shards have one.
    """

    folder: StudyFolder
    plan: Plan
    new_study_files: NewStudyFiles | None
    num_trials: int
    split_manifest: str


def launch_here(options: LaunchOptions) -> int:
    """Print the plan of a study, or run it; return the exit code."""
    console = make_console(stderr=options.as_json or options.events)
    prepared = _prepare(options, console)
    if not options.dry_run:
        return _run(prepared, options, console)
    _show_plan(prepared.plan, options.as_json, console)
    if prepared.split_manifest and not options.as_json:
        path = escape(prepared.split_manifest)
        console.print(f"The split is new; a launch writes it to {path}", soft_wrap=True)
    return 0


def _prepare(options: LaunchOptions, console: Console) -> PreparedStudy:
    """Plan a new study, or compare the plan of a stored one with the options.

    Raises:
        StudyError: If the name is taken, or the options and the stored study disagree.
        SpaceError: If the space or an option is invalid.
        DataError: If the shards cannot be used.
    """
    space, stem = read_space(options.space), options.space.stem
    name = options.name or (stem if options.resume else new_name(options.studies, stem))
    folder = StudyFolder(f"{options.studies}/{name}")
    stored = load_study(folder) if options.resume else None
    if stored is None and folder.exists(folder.PLAN):
        raise StudyError(f"study {name!r} exists already; add --resume, or choose another --name")
    if stored is None:
        num_trials = _planned_trials(options.trials, space, None, None)
        space = warm_started(replace(space, trials=num_trials), options.studies)
    else:
        num_trials = _planned_trials(options.trials, space, stored.plan, stored.history)
        space = _as_launched(space, stored)
    space = _with_seed(space, options.seed, stored)
    data = resolve_data(options.data, space.data, options.studies, console)
    split_manifest, is_new = split_manifest_of(space, data)
    plan, splits = make_plan(space, name, data, split_manifest)
    if not are_known_to_be_accepted(space, plan.shape):
        # torch takes seconds to import, and most architectures need no check.
        from raysearch.search.study.architecture_checks import check_architectures

        check_architectures(space, plan.shape)
    path = f"{data}/splits/{space.split or space.task}.json" if is_new else ""
    if stored is not None:
        reject_changes(stored.plan, plan)
        # The address of the same shards may have changed.
        return PreparedStudy(folder, replace(stored.plan, data=data), None, num_trials, path)
    files = NewStudyFiles(splits, split_manifest if is_new else None)
    return PreparedStudy(folder, plan, files, num_trials, path)


def _planned_trials(
    option: str | None, space: Space, plan: Plan | None, history: History | None
) -> int:
    """Return the planned number of trials.

    Args:
        option: The option `--trials`: a number, `+N`, or None for as many as before.
        space: The space of the launch.
        plan: The plan of a study to resume, else None.
        history: Its trials, else None.

    Raises:
        SpaceError: If the option is no number of at least 1, or adds trials to a new study.
        StudyError: If the study already has more trials.
    """
    stored_trials = None if plan is None or history is None else history.planned(plan.space.trials)
    if option is None:
        return stored_trials or space.trials
    is_addition = option.startswith("+")
    if not option.removeprefix("+").isdecimal() or not int(option) > 0:
        raise SpaceError(f"--trials {option}: give 1 or more, or +1 or more with --resume")
    if stored_trials is None:
        if is_addition:
            raise SpaceError(
                f"--trials {option}: a new study has no trials to add to; give a number"
            )
        return int(option)
    num_trials = stored_trials + int(option) if is_addition else int(option)
    if num_trials < stored_trials:
        raise StudyError(
            f"--trials {option}: the study has {stored_trials} already, and none can be removed;"
            " give more, or +N"
        )
    return num_trials


def _as_launched(space: Space, stored: StudySnapshot) -> Space:
    """Return the space of a resume with the trials, and the warm start, of the first launch."""
    launched = stored.plan.space
    space = replace(space, trials=launched.trials)
    if space.warm_start == launched.warm_start:
        # The earlier studies may have better trials by now.
        space = replace(space, points_to_evaluate=launched.points_to_evaluate)
    return space


def _with_seed(space: Space, seed: int | None, stored: StudySnapshot | None) -> Space:
    """Return `space` with the seed of `--seed`; by default that of the stored study."""
    if seed is not None and seed < 0:
        raise SpaceError(f"--seed {seed}: not a seed; give 0 or more")
    if seed is None:
        seed = space.seed if stored is None else stored.plan.space.seed
    return replace(space, seed=seed)


def _show_plan(plan: Plan, as_json: bool, console: Console) -> None:
    expected = expected_study_fold_epochs(plan)
    if not as_json:
        for table in plan_tables(plan, expected):
            console.print(table)
        return
    costs = {
        "expected_fold_epochs": expected,
        "max_fold_epochs": plan.max_fold_epochs,
        "repeat_fold_epochs": plan.repeat_fold_epochs,
    }
    sys.stdout.write(json.dumps({**record_to_json(plan), **costs}) + "\n")


def _run(prepared: PreparedStudy, options: LaunchOptions, console: Console) -> int:
    """Run a study to its end and print how it ended; return the exit code."""
    # Ray, torch and MLflow take seconds to import: a plan or a mistake does not wait for them.
    with console.status("Importing Ray and MLflow"):
        from raysearch.search.engine.ray_session import InterruptedStudyError
        from raysearch.workflow import run_study

    folder, plan = prepared.folder, prepared.plan
    view = EventStream() if options.events else LiveView(console)
    try:
        with stderr_in_log(folder), view as listener:
            outcome = run_study(
                folder, plan, prepared.new_study_files, listener, prepared.num_trials
            )
    except InterruptedStudyError as interrupt:
        resume = f"raysearch launch {options.space} --name {plan.name} --resume"
        console.print(f"{INTERRUPTED}. Resume with: {escape(resume)}", soft_wrap=True)
        return 128 + interrupt.signum
    end = study_end(outcome)
    if options.events:
        sys.stdout.write(write_message(EndMessage(end)) + "\n")
    else:
        show_end(outcome.study.plan, outcome.study.history, end, options.as_json, console)
    return 0
