"""Launches a study on this machine, or prints its plan."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from raysearch.cli.event_stream import EventStream
from raysearch.cli.launch_advice import LaunchAdvice
from raysearch.cli.launch_space import read_default_space, space_stem
from raysearch.cli.live_estimate import times_of_resume
from raysearch.cli.live_table import LiveView, stderr_in_log
from raysearch.cli.machines import machines_text
from raysearch.cli.options import STUDIES, make_console
from raysearch.cli.plan_text import plan_tables
from raysearch.cli.study_end import study_end
from raysearch.cli.study_end_text import show_end
from raysearch.cli.study_paths import new_name, resolve_data
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.cli.time_probe import local_times, probe_speeds, remote_times
from raysearch.cli.time_text import time_json
from raysearch.config.names import NO_MEMORY, reject_login
from raysearch.config.run_location import RemoteCluster, cluster_address
from raysearch.config.space import Space
from raysearch.config.space_file import read_space
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import without_folders
from raysearch.errors import SpaceError, StudyError
from raysearch.search.engine.interrupts import (
    InterruptedStudyError,
    RayLostError,
    signals_interrupt,
)
from raysearch.search.journal.codec import record_to_json
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.earlier_studies import find_memory, new_study
from raysearch.search.study.plan import NOTHING, Plan
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
    """The options of `raysearch launch`, as the user passed them.

    `space` is None for the default.
    """

    space: Path | None
    data: str | None
    trials: str | None
    seed: int | None
    name: str | None
    resume: bool
    dry_run: bool
    studies: str
    as_json: bool
    events: bool = False
    overrides: tuple[str, ...] = ()
    cluster: RemoteCluster | None = None
    memory: str | None = None


@dataclass(frozen=True)
class PreparedStudy:
    """A study that is ready to run.

    Args:
        folder: Folder of the study.
        plan: What the study does.
        new_study_files: What a new study stores beside its plan; None to resume a study.
        num_trials: The planned number of trials from now on.
        split_manifest: The path of the new split manifest; empty if the shards have one.
        stored: The study to resume; None for a new one.
    """

    folder: StudyFolder
    plan: Plan
    new_study_files: NewStudyFiles | None
    num_trials: int
    split_manifest: str
    stored: StudySnapshot | None = None


def launch_here(options: LaunchOptions) -> int:
    """Print the plan of a study, or run it; return the exit code."""
    console = make_console(stderr=options.as_json or options.events)
    prepared = _prepare(options, console)
    if not options.dry_run:
        return _run(prepared, options, console)
    _show_plan(prepared, options, console)
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
    stem = space_stem(options.space)
    name = options.name or (stem if options.resume else new_name(options.studies, stem))
    folder = StudyFolder(f"{options.studies}/{name}")
    stored = load_study(folder) if options.resume else None
    if stored is None and folder.exists(folder.PLAN):
        raise StudyError(f"study {name!r} exists already; add --resume, or choose another --name")
    space = _read_space(options, stored, console)
    if stored is None:
        num_trials = _planned_trials(options.trials, space, None, None)
        space = warm_started(replace(space, trials=num_trials), options.studies)
    else:
        num_trials = _planned_trials(options.trials, space, stored.plan, stored.history)
        space = _as_launched(space, stored)
    space = _with_seed(space, options.seed, stored)
    space = _with_memory(space, options.memory, stored)
    if options.cluster is None:
        _check_machine(space)
    known_data = None if options.data else _known_data(space, stored)
    data = resolve_data(options.data, known_data, options.studies, console)
    split_manifest, is_new = split_manifest_of(space, data)
    plan, splits = make_plan(space, name, data, split_manifest)
    if not are_known_to_be_accepted(space, plan.shape):
        # torch takes seconds to import, and most architectures need no check.
        from raysearch.search.study.architecture_checks import (
            check_architectures,
            encoders_of,
            licenses_of_weights,
            pretraining_notes,
        )
        from raysearch.search.study.frozen_encoders import check_copies

        for weights_license in licenses_of_weights(space):
            console.print(escape(str(weights_license)), soft_wrap=True)
        encoders = encoders_of(space)
        check_copies(space, encoders)
        notes = tuple(pretraining_notes(space))
        plan = replace(
            plan,
            weights=check_architectures(space, plan.shape),
            encoders=encoders,
            warnings=(*plan.warnings, *notes),
        )
    path = f"{data}/splits/{space.split or space.task}.json" if is_new else ""
    if stored is not None:
        reject_changes(stored.plan, plan)
        # The address of the same shards may have changed.
        plan = replace(stored.plan, data=data)
        return PreparedStudy(folder, plan, None, num_trials, path, stored)
    memory, memory_content = NOTHING, b""
    if options.cluster is None:
        memory, memory_content = find_memory(new_study(plan, splits), options.studies)
    plan = replace(plan, memory=memory)
    files = NewStudyFiles(splits, split_manifest if is_new else None, memory_content)
    return PreparedStudy(folder, plan, files, num_trials, path)


def _read_space(options: LaunchOptions, stored: StudySnapshot | None, console: Console) -> Space:
    """Return the space of a launch: that of its file, or the default for its shards."""
    if options.space is not None:
        return read_space(options.space, options.overrides)
    known_data = None if stored is None else stored.plan.data
    data = resolve_data(options.data, known_data, options.studies, console)
    return read_default_space(data, options.overrides, stored, console)


def _known_data(space: Space, stored: StudySnapshot | None) -> str | None:
    """Return the data of a launch without `--data`: of a resume, the study's if it still exists."""
    if stored is None:
        return space.data
    if space.data is None or Folder(stored.plan.data).exists():
        return stored.plan.data
    return space.data


def _check_machine(space: Space) -> None:
    """Raise StudyError if this machine alone cannot run a trial of `space`."""
    if space.resources.gpus or space.resources.cpus > (os.cpu_count() or 1):
        # Ray takes seconds to import, and most trials need no check.
        from raysearch.search.engine.nodes import check_local_machine

        check_local_machine(space.resources)


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


def _with_memory(space: Space, memory: str | None, stored: StudySnapshot | None) -> Space:
    """Return `space` with the memory of `--memory`; by default its own, or the stored study's."""
    if memory is None:
        memory = space.memory if stored is None else stored.plan.space.memory
    reject_login(memory)
    return replace(space, memory=memory)


def _is_on_cluster(options: LaunchOptions) -> bool:
    """Return whether the trials run on a cluster, whose machines are not this one."""
    return options.cluster is not None or cluster_address() is not None


def _show_plan(prepared: PreparedStudy, options: LaunchOptions, console: Console) -> None:
    """Print a plan with the time that it takes; the speed of its networks is probed if it has to.

    The machines of a cluster are not started: only this machine is probed. The plan of a resume has
    the planned number of trials from now on.
    """
    space = replace(prepared.plan.space, trials=prepared.num_trials)
    plan, stored = replace(prepared.plan, space=space), prepared.stored
    if _is_on_cluster(options):
        times = remote_times(plan, is_resumed=stored is not None)
    else:
        times = local_times(plan, probe_speeds(plan))
        if stored is not None:
            times = times_of_resume(stored, prepared.num_trials, times)
    expected = expected_study_fold_epochs(plan, times.search)
    if not options.as_json:
        machines = machines_text(options.cluster)
        shown, has_memory = plan, _has_memory_on_cluster(plan.space, options)
        if has_memory:
            shown = replace(plan, space=replace(space, memory=NO_MEMORY))
        for table in plan_tables(shown, expected, times, machines):
            console.print(table)
        if has_memory:
            console.print("The cluster looks for earlier studies itself, at the launch.")
        return
    costs = {
        "expected_fold_epochs": expected,
        "max_fold_epochs": plan.max_fold_epochs,
        "repeat_fold_epochs": plan.repeat_fold_epochs,
        "expected_time": time_json(times),
    }
    sys.stdout.write(json.dumps({**record_to_json(plan), **costs}) + "\n")


def _has_memory_on_cluster(space: Space, options: LaunchOptions) -> bool:
    """Return whether the head of a cluster looks for earlier studies, which this machine lacks."""
    is_used = space.memory != NO_MEMORY and space.sampler.name == "forest"
    return options.cluster is not None and is_used


def resume_command(options: LaunchOptions, name: str) -> str:
    """Return the shell command that resumes the study `name` of a launch with `options`.

    The study itself holds the seed and the number of trials.
    """
    space = [] if options.space is None else [str(options.space)]
    command = ["raysearch", "launch", *space, *options.overrides]
    if options.data is not None:
        command += ["--data", options.data]
    if options.studies != STUDIES:
        command += ["--studies", options.studies]
    if options.memory is not None:
        command += ["--memory", options.memory]
    return shlex.join([*command, "--name", name, "--resume"])


def launch_command(options: LaunchOptions, name: str) -> str:
    """Return the command of a launch as its description in MLflow has it: without folders."""
    space = [] if options.space is None else [options.space.name]
    command = ["raysearch", "launch", *space, *map(without_folders, options.overrides)]
    values = {"data": options.data, "trials": options.trials, "seed": options.seed, "name": name}
    values |= {} if options.memory is None else {"memory": options.memory}
    for option, value in values.items():
        command += [] if value is None else [f"--{option}", without_folders(str(value))]
    return shlex.join(command)


def _run(prepared: PreparedStudy, options: LaunchOptions, console: Console) -> int:
    """Run a study to its end and print how it ended; return the exit code."""
    folder, plan = prepared.folder, prepared.plan
    view = EventStream() if options.events else LiveView(console, not _is_on_cluster(options))
    advice = LaunchAdvice(folder, resume_command(options, plan.name), view)
    with signals_interrupt() as receiver:
        receiver.on_loss = SUPERVISOR.report_loss
        try:
            # Ray, torch and MLflow take seconds to import: a plan or a mistake does not wait.
            with console.status("Importing Ray and MLflow"):
                from raysearch.workflow import run_study
            with stderr_in_log(folder), view:
                outcome = run_study(
                    folder,
                    plan,
                    prepared.new_study_files,
                    advice,
                    prepared.num_trials,
                    launch_command(options, plan.name),
                )
        except InterruptedStudyError as interrupt:
            console.print(f"Interrupted; {escape(advice.text())}", soft_wrap=True)
            return 128 + interrupt.signum
        except RayLostError as error:
            raise StudyError(f"{error}; {advice.text()}") from None
    end = study_end(outcome)
    if options.events:
        sys.stdout.write(write_message(EndMessage(end)) + "\n")
    else:
        show_end(outcome.study.plan, outcome.study.history, end, options.as_json, console)
    return 0
