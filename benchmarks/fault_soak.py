"""Runs a study of many short trials under random faults, and counts what is lost or wrong.

    python benchmarks/fault_soak.py [--seconds 3600] [--seed 0] [--out FOLDER] [--patience 1]
                                    [FAULT ...]

It needs root, `unshare`, and a C compiler for the shifted clock. The study has folds, TPE and
promotion, and a slot on each core. Every 30 to 90 s one of the faults of
`tests/support/machine_faults.py` (by default of all) is injected. A launcher that hangs is killed;
--patience is a factor of that time, for a machine with other work. When a launcher has ended, its
exit code and its last line are checked, and it is resumed by the command that it printed. While
time is left, a study that has ended gets more trials. --out (by default a new folder below
/var/tmp) keeps the log, the output of every launch, and the study if something is wrong.

The value is the number of defects: what is lost (trials, fold-epochs, ends, runs, points), what is
twice, what is wrong (exit codes, tracebacks, hanging launches, decisions that differ from those
repeated from the journal, numbers that differ from an undisturbed training), and what is left
behind (processes, temporary files).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.events import Event, TrialEnded
from raysearch.search.journal.history import Trial
from raysearch.search.study.stored_study import load_study
from support.disturbed_launches import (
    INTERRUPTIONS,
    MAX_CHARACTERS,
    Launch,
    Machine,
    Progress,
    end_errors,
    reports,
    resume_words,
    study_events,
    usage_line,
)
from support.isolated_program import isolated_folder, run_isolated
from support.machine_faults import FAULTS, Fault, Target
from support.study_defects import (
    DefectKind,
    Defects,
    Surroundings,
    count_decisions,
    count_journal,
    count_lost_events,
    count_store,
    count_training,
    running_runs,
)

NAME = "soak"
FIRST_TRIALS, LAST_TRIALS = 40, 4
SPACE = f"""
epochs: 3
trials: {FIRST_TRIALS}
sampler: tpe
stopping: {{rule: promotion, paired_alpha: 0}}
resources: {{cpus: 1}}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {{choice: [4, 8]}}
  optimizer: {{choice: [adamw, sgd]}}
  momentum: {{uniform: [0.5, 0.9], when: {{optimizer: sgd}}}}
  learning_rate: {{loguniform: [1.0e-3, 1.0e-2]}}
  batch_size: {{choice: [16, 32]}}
"""
LAUNCH = ("launch", "faults.yaml", "--data", "shards", "--studies", "studies", "--name", NAME)
INTERVAL_S = (30.0, 90.0)
# A launch that has to end, or to go on, after a fault gets so many seconds.
END_S, CONTINUE_S = 90.0, 120.0
# Without an event for so long, a launch hangs: it starts, or selects the champion, in less.
STALL_S = 240.0
# So many seconds of work are added to a study that ends before the time is over.
EXTENSION_S = 240.0
# A folder that a killed launcher has left counts as abandoned after a minute.
ABANDONED_S = 65.0
OPTIONS = ("seconds", "seed", "out", "patience")
MAX_RETRAINED, MAX_FINAL_LAUNCHES = 150, 5


class Soak:
    """A study that is disturbed until the time is over.

    Args:
        machine: What its launches use.
        seconds: The time.
        seed: The seed of the faults.
        log: The file of the log.
        patience: Multiple of the times after which a launch hangs.
        faults: The names of the faults.
    """

    def __init__(
        self,
        machine: Machine,
        seconds: float,
        seed: int,
        log: Path,
        patience: float = 1.0,
        faults: Sequence[str] = tuple(FAULTS),
    ) -> None:
        self.machine, self.study = machine, machine.study(NAME)
        self.random = random.Random(seed)
        self.start_time = time.monotonic()
        self.deadline = self.start_time + seconds
        self._log, self._faults = log, sorted(faults)
        self._stall_s, self._end_s = STALL_S * patience, END_S * patience
        self._continue_s = CONTINUE_S * patience
        self.defects = Defects(self._on_defect)
        self.num_faults: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.disturbed: set[str] = set()
        self._events: Sequence[Event] = ()
        self._context, self._last_end = "the first launch", 0.0

    def log(self, text: str) -> None:
        """Write a line with the time since the start to the log and to standard error."""
        line = f"{time.monotonic() - self.start_time:7.1f} s  {text}\n"
        with self._log.open("a") as file:
            file.write(line)
        sys.stderr.write(line)
        sys.stderr.flush()

    def _on_defect(self, kind: DefectKind, text: str) -> None:
        self.log(f"DEFECT {kind}: {text}")

    def run(self) -> None:
        """Disturb the study until the time is over, then let it end."""
        self._start(LAUNCH)
        self._wait(lambda: any(reports(study_events(self.study))))
        while time.monotonic() < self.deadline:
            next_fault = time.monotonic() + self.random.uniform(*INTERVAL_S)
            self._wait(lambda until=next_fault: time.monotonic() >= min(until, self.deadline))
            if time.monotonic() < self.deadline:
                self._disturb()
        self._context = "the end of the study"
        self._finish(())
        time.sleep(max(0.0, self._last_end + ABANDONED_S - time.monotonic()))
        self._context = "the last launch"
        self._finish((*LAUNCH, "--resume", "--trials", f"+{LAST_TRIALS}"))

    def _finish(self, words: Sequence[str]) -> None:
        """Let the study end without faults; begin with the launch of `words`, if there are any."""
        if words:
            self._start(words)
        for _attempt in range(MAX_FINAL_LAUNCHES):
            if self.progress.wait(lambda: False, self._stall_s) == "stalled":
                self._kill_hanging()
            elif self._check_end(frozenset({0})) == 0:
                return
            self._resume()
        self.launch.kill()
        self.defects.add("wrong", f"{self._context}: no launch ends with 0")

    def _start(self, words: Sequence[str]) -> None:
        self.launch: Launch = self.machine.launch(*words)
        self.progress = Progress(self.launch, self.study)
        self.log(f"{self.launch.output.name}: raysearch {' '.join(words)}")

    def _wait(self, until: object) -> None:
        """Wait until a condition holds; resume or extend the study whenever its launch ends."""
        assert callable(until)
        while (result := self.progress.wait(until, self._stall_s)) != "reached":
            if result == "stalled":
                self._kill_hanging()
            elif self._check_end(frozenset({0})) == 0:
                self._extend()
                continue
            self._resume()

    def _disturb(self) -> None:
        """Inject a fault, end it, and see that the launch goes on or ends as it may."""
        target = Target(self.machine, self.launch, self.study, self.random)
        name = self.random.choice(self._faults)
        fault = FAULTS[name]
        running = {trial.id for trial in load_study(self.study).history.running()}
        disturbed = fault.inject(target)
        if not disturbed:
            self.log(f"{name}: nothing to disturb")
            return
        lasts_s = self.random.uniform(*fault.lasts_s)
        self.num_faults[name] += 1
        self.disturbed |= running
        self._context = f"{name} ({disturbed}{f', for {lasts_s:.0f} s' if lasts_s else ''})"
        self.log(f"FAULT {self._context}")
        injected = time.monotonic()
        self.progress.wait(lambda: time.monotonic() - injected >= lasts_s, self._stall_s)
        fault.undo(target)
        result = self._await_effect(fault)
        if result == "stalled":
            self._kill_hanging()
        elif result == "ended":
            code = self._check_end(fault.codes | {0} | self._codes_of_stall())
            if code == 0:
                self._extend()
                return
        else:
            self.log(f"{name}: the launch goes on")
            self.endings["goes on"] += 1
            return
        fault.before_resume(target)
        time.sleep(self.random.uniform(0.5, 3))
        self._resume()

    def _codes_of_stall(self) -> frozenset[int]:
        """Ray starts no worker after the clock was set back: the launch may end and say so."""
        is_stall = "after the clock was set back" in self.launch.last_line()
        return frozenset({2} if is_stall else ())

    def _await_effect(self, fault: Fault) -> str:
        undone = time.monotonic()
        if not fault.continues:
            result = self.progress.wait(
                lambda: time.monotonic() - undone > self._end_s, self._stall_s
            )
            return "stalled" if result == "reached" else result
        self.progress.changed = undone
        return self.progress.wait(lambda: self.progress.changed > undone, self._continue_s)

    def _kill_hanging(self) -> None:
        seconds = time.monotonic() - self.progress.changed
        self.defects.add(
            "wrong",
            f"{self._context}: {self.launch.output.name} hangs, without an event for"
            f" {seconds:.0f} s; last line: {self.launch.last_line()[:MAX_CHARACTERS]!r}",
        )
        self.endings["hangs"] += 1
        self.launch.kill()
        self._last_end = time.monotonic()

    def _check_end(self, codes: frozenset[int]) -> int | None:
        """Check how the launch has ended, and that the journal has what it had; return the code."""
        self._last_end, code = time.monotonic(), self.launch.code
        self.endings[str(code)] += 1
        self.log(f"exit code {code}: {self.launch.last_line()[:MAX_CHARACTERS]}")
        errors = end_errors(self.launch, codes)
        self.defects.add_all("wrong", (f"{self._context}: {error}" for error in errors))
        if code in INTERRUPTIONS:
            names = running_runs(self.machine.database, NAME)
            if names:
                text = f"{self._context}: {len(names)} runs are still RUNNING, such as {names[0]}"
                self.defects.add("wrong", text)
        self._compare_events()
        return code

    def _compare_events(self) -> None:
        events = study_events(self.study)
        count_lost_events(self.defects, self._events, events)
        self._events = events

    def _extend(self) -> None:
        """Resume an ended study with more trials, as many as end in `EXTENSION_S`."""
        num_ended = sum(isinstance(event, TrialEnded) for event in self._events)
        rate = num_ended / (time.monotonic() - self.start_time)
        num_trials = max(LAST_TRIALS, round(rate * EXTENSION_S))
        self._start((*LAUNCH, "--resume", "--trials", f"+{num_trials}"))

    def _resume(self) -> None:
        """Resume by the command that the launch has printed, or by the first command."""
        is_stored = self.study.exists(self.study.PLAN)
        words = resume_words(self.launch) if is_stored else None
        self._start(words or (*LAUNCH, *(["--resume"] if is_stored else [])))

    def check(self, surroundings: Surroundings) -> str:
        """Count the defects of the ended study; return a text with what was compared."""
        defects, snapshot = self.defects, load_study(self.study)
        plan, history = snapshot.plan, snapshot.history
        self._compare_events()
        folders = (self.study.local, self.machine.folder / "cache")
        sessions = {1, self.machine.server.session}
        seconds = surroundings.count_left(defects, sessions, folders)
        self.log(f"the last process ended {seconds:.0f} s after the study")
        count_journal(defects, plan, snapshot.events)
        self.log("repeating the decisions")
        num_decisions = count_decisions(defects, plan, snapshot.events)
        num_points = count_store(defects, self.machine.database, plan, history)
        if names := running_runs(self.machine.database, NAME):
            self.log(f"RUNNING in MLflow: {', '.join(names)}")
        trials = self._retrained(history.searched())
        self.log(f"training {len(trials)} trials again")
        count_training(defects, self.study, trials)
        num_fold_epochs = sum(trial.epoch for trial in history.searched())
        return (
            f"{len(history.searched())} trials with {num_fold_epochs} fold-epochs,"
            f" {len(snapshot.events)} events, {num_decisions} decisions,"
            f" {num_points} points in MLflow, {len(trials)} trials trained again"
        )

    def _retrained(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that are trained again: those that a fault met first."""
        trained = [trial for trial in trials if trial.reports]
        self.random.shuffle(trained)
        trained.sort(key=lambda trial: trial.id not in self.disturbed)
        return trained[:MAX_RETRAINED]


def soak(folder: Path, options: argparse.Namespace) -> int:
    """Run the soak, and print its counts; return the number of defects."""
    out: Path = options.out
    write_shards("12:240:0", folder / "shards", "synthetic", workers=1)
    surroundings = Surroundings()
    machine = Machine(folder, out, SPACE)
    run = Soak(
        machine,
        options.seconds,
        options.seed,
        out / "soak.log",
        options.patience,
        options.faults or list(FAULTS),
    )
    try:
        run.run()
        compared = run.check(surroundings)
    except BaseException as error:
        run.log(f"the soak failed: {type(error).__name__}: {error}")
        keep(folder, out)
        raise
    finally:
        machine.close()
    log_counts(run, compared)
    if run.defects.total:
        keep(folder, out)
    return run.defects.total


def log_counts(run: Soak, compared: str) -> None:
    """Write what was compared, the faults, the ends and the counts."""
    run.log(f"compared: {compared}")
    run.log(usage_line(run.machine.launches))
    faults = ", ".join(f"{count} {name}" for name, count in sorted(run.num_faults.items()))
    run.log(f"{run.num_faults.total()} faults: {faults}")
    endings = ", ".join(f"{count} {code}" for code, count in sorted(run.endings.items()))
    run.log(f"{len(run.machine.launches)} launches; exit codes and others: {endings}")
    run.log(f"counts: {run.defects.counts()}")


def keep(folder: Path, out: Path) -> None:
    """Copy the study and MLflow's database beside the log."""
    for name in (f"studies/{NAME}", "store"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, out / name, dirs_exist_ok=True)
    sys.stderr.write(f"the study is kept in {out}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--patience", type=float, default=1.0)
    parser.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}; all without one")
    options = parser.parse_args()
    if unknown := [name for name in options.faults if name not in FAULTS]:
        parser.error(f"{unknown[0]!r}: no such fault; one of {', '.join(FAULTS)}")
    options.out = (options.out or Path(tempfile.mkdtemp(dir="/var/tmp", prefix="soak-"))).absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = isolated_folder()
    if folder is None:
        words = [f"--{name}={getattr(options, name)}" for name in OPTIONS]
        program = [str(Path(__file__).resolve()), *words, *options.faults]
        raise SystemExit(run_isolated(program, options.out))
    total = soak(folder, options)
    line = {
        "benchmark": "fault_soak",
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
