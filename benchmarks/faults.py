"""Takes a study under each fault to its end, and compares it with the undisturbed study.

    .venv/bin/python benchmarks/faults.py [--patience 1] [FAULT ...]

It needs root, `unshare`, and a C compiler for the shifted clock. All studies have one seed and one
slot, so that each decides the same. One is not disturbed. For each fault of
`tests/support/machine_faults.py`, another is launched, the fault is injected once the study has
reported twelve fold-epochs, and the study is resumed, by the command that the launcher printed,
until it ends. The standard error shows a line per fault: what was disturbed and when, how the
launcher ended, and the defects. Defects are: every trial, fold-epoch, number or decision that is
not that of the undisturbed study, every run or point that MLflow lacks or has twice, a wrong exit
code or message, a launcher that hangs, and what is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.history import History
from raysearch.search.study.stored_study import load_study
from support.disturbed_launches import (
    INTERRUPTIONS,
    Launch,
    Machine,
    Progress,
    end_errors,
    reports,
    resume_words,
    study_events,
)
from support.isolated_program import isolated_folder, run_isolated
from support.machine_faults import FAULTS, Fault, Target
from support.study_defects import (
    Defects,
    Surroundings,
    count_decisions,
    count_differences,
    count_journal,
    count_lost_events,
    count_store,
    running_runs,
)

AFTER = 12
# A launch hangs without an event for STALL_S; one that a fault has to end gets END_S.
STALL_S, END_S = 240.0, 90.0
# A study has to end, or to reach the fault, within this time.
STUDY_S = 1200.0
MAX_RESUMES, MAX_PRINTED = 4, 10
SPACE = f"""
epochs: 4
trials: 12
seed: 4
sampler: tpe
stopping: {{rule: promotion, paired_alpha: 0}}
resources: {{cpus: {os.cpu_count()}}}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {{choice: [4, 8]}}
  learning_rate: {{loguniform: [1.0e-3, 1.0e-2]}}
  batch_size: {{choice: [16, 32]}}
"""
UNDISTURBED = "undisturbed"


@dataclass
class DisturbedStudy:
    """A study under one fault.

    Args:
        machine: What its launches use.
        name: Its name.
        patience: Multiple of the times after which a launch hangs.
        defects: Where its defects are counted.
    """

    machine: Machine
    name: str
    patience: float
    defects: Defects = field(default_factory=Defects)

    def __post_init__(self) -> None:
        self.study = self.machine.study(self.name)
        self._words = (
            *("launch", "faults.yaml", "--data", "shards"),
            *("--studies", "studies", "--name", self.name),
        )

    def start(self) -> tuple[Launch, Progress]:
        launch = self.machine.launch(*self._words)
        return launch, Progress(launch, self.study)

    def inject(self, fault: Fault, target: Target, progress: Progress) -> str:
        """Inject `fault` as soon as its process exists; return what was disturbed."""
        text = ""

        def is_injected() -> bool:
            nonlocal text
            text = fault.inject(target)
            return bool(text)

        if progress.wait(is_injected, STALL_S * self.patience) != "reached":
            raise SystemExit(f"nothing to disturb\n{target.launch.text()}")
        return text

    def has_ended(
        self, launch: Launch, progress: Progress, limit_s: float, codes: set[int]
    ) -> bool:
        """Wait for the end of a launch and check it; kill it if it hangs."""
        start = time.monotonic()
        until = start + limit_s * self.patience
        stall_s = STALL_S * self.patience
        if progress.wait(lambda: time.monotonic() > until, stall_s) == "ended":
            self.defects.add_all("wrong", end_errors(launch, frozenset(codes)))
            if launch.code in INTERRUPTIONS:
                for run in running_runs(self.machine.database, self.name):
                    self.defects.add("wrong", f"the run {run} is still RUNNING")
            return True
        launch.kill()
        seconds = time.monotonic() - start
        self.defects.add("wrong", f"hangs for {seconds:.0f} s: {launch.last_line()!r}")
        return False

    def resume(self, launch: Launch) -> int:
        """Resume until a launch ends with 0; return the number of launches."""
        for number in range(1, MAX_RESUMES + 1):
            words = resume_words(launch) or [*self._words, "--resume"]
            launch = self.machine.launch(*words)
            if (
                self.has_ended(launch, Progress(launch, self.study), STUDY_S, {0})
                and not launch.code
            ):
                return number
        raise SystemExit(f"{self.name} cannot be resumed\n{launch.text()}")

    def count(self, expected: History | None, surroundings: Surroundings) -> History:
        """Compare the ended study with its journal, MLflow's database and the undisturbed one."""
        snapshot = load_study(self.study)
        plan, history = snapshot.plan, snapshot.history
        count_journal(self.defects, plan, snapshot.events)
        count_decisions(self.defects, plan, snapshot.events)
        count_store(self.defects, self.machine.database, plan, history)
        if expected is not None:
            count_differences(self.defects, expected, history)
        folders = (self.study.local, self.machine.folder / "cache")
        surroundings.count_left(self.defects, {1, self.machine.server.session}, folders)
        return history


def run_fault(disturbed: DisturbedStudy, name: str) -> str:
    """Take a study under the fault `name` to its end; return the cells of its line."""
    fault, machine, defects = FAULTS[name], disturbed.machine, disturbed.defects
    launch, progress = disturbed.start()
    start, stall_s = time.monotonic(), STALL_S * disturbed.patience

    def is_far_enough() -> bool:
        return len(list(reports(study_events(disturbed.study)))) >= AFTER

    if progress.wait(is_far_enough, stall_s) != "reached":
        raise SystemExit(f"{name}: the study does not get so far\n{launch.text()}")
    target = Target(machine, launch, disturbed.study, random.Random(name))
    text, injected = disturbed.inject(fault, target, progress), time.monotonic()
    lasts_s = target.random.uniform(*fault.lasts_s)
    progress.wait(lambda: time.monotonic() - injected >= lasts_s, stall_s)
    fault.undo(target)
    limit_s = STUDY_S if fault.continues else END_S
    codes = {*fault.codes, *([0] if fault.continues else [])}
    has_ended = disturbed.has_ended(launch, progress, limit_s, codes)
    end, events = time.monotonic(), study_events(disturbed.study)
    num_resumes = 0
    if launch.code != 0:
        fault.before_resume(target)
        num_resumes = disturbed.resume(launch)
    count_lost_events(defects, events, study_events(disturbed.study))
    machine.clock.set(0)
    ending = f"exit {launch.code}" if has_ended else "hung"
    return (
        f"{name}: {text}, after {injected - start:.0f} s, for {lasts_s:.0f} s | {ending}"
        f" {end - injected:.1f} s later | {len(list(reports(events)))} | {num_resumes}"
    )


def finish(
    disturbed: DisturbedStudy, surroundings: Surroundings, cells: str, expected: History | None
) -> History:
    """Count the defects of an ended study, and print its line."""
    history, defects = disturbed.count(expected, surroundings), disturbed.defects
    num_fold_epochs = sum(trial.epoch for trial in history.searched())
    sys.stderr.write(
        f"| {cells} | {len(history.searched())} trials, {num_fold_epochs} fold-epochs,"
        f" champion {history.champion} | {defects.counts()} |\n"
    )
    for kind, texts in defects.found.items():
        for defect in texts[:MAX_PRINTED]:
            sys.stderr.write(f"    {kind}: {defect}\n")
    sys.stderr.flush()
    return history


def run_undisturbed(study: DisturbedStudy) -> str:
    """Run the study without a fault; return the cells of its line."""
    launch, progress = study.start()
    if not study.has_ended(launch, progress, STUDY_S, {0}) or launch.code:
        raise SystemExit(f"the undisturbed study did not end\n{launch.text()}")
    sys.stderr.write("| fault | the launcher ended | fold-epochs | resumed | then | defects |\n")
    return f"none | exit 0 | {len(list(reports(study_events(study.study))))} | 0"


def run_faults(folder: Path, names: list[str], patience: float) -> int:
    """Run the undisturbed study and one under each fault; return the number of defects."""
    write_shards("12:480:0", folder / "shards", "synthetic", workers=1)
    surroundings = Surroundings()
    machine = Machine(folder, Path(tempfile.mkdtemp(dir=folder)), SPACE)
    try:
        study = DisturbedStudy(machine, UNDISTURBED, patience)
        expected = finish(study, surroundings, run_undisturbed(study), None)
        total = study.defects.total
        for name in names:
            study = DisturbedStudy(machine, name.replace(" ", "-").lower(), patience)
            finish(study, surroundings, run_fault(study, name), expected)
            total += study.defects.total
        return total
    finally:
        machine.close()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}; all without one")
    options.add_argument("--patience", type=float, default=1.0)
    arguments = options.parse_args()
    names = arguments.faults
    if unknown := [name for name in names if name not in FAULTS]:
        options.error(f"{unknown[0]!r}: no such fault; one of {', '.join(FAULTS)}")
    folder = isolated_folder()
    if folder is None:
        program = str(Path(__file__).resolve())
        raise SystemExit(run_isolated([program, "--patience", str(arguments.patience), *names]))
    total = run_faults(folder, names or list(FAULTS), arguments.patience)
    line = {
        "benchmark": "faults",
        "value": total,
        "unit": "defects",
        "peer": None,
        "ratio": None,
        "goal": "0",
        "pass": total == 0,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
