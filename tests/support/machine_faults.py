"""The faults of a machine that a study has to survive, by name."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from support.disturbed_launches import (
    GCS,
    RAYLET,
    TRIAL_WORKER,
    Launch,
    Machine,
    send,
    study_events,
)

KILLED = -int(signal.SIGKILL)


@dataclass(frozen=True)
class Target:
    """What a fault disturbs.

    Args:
        machine: The machine.
        launch: The running launch.
        study: The folder of its study.
        random: Chooses among the processes, and how long the fault lasts.
    """

    machine: Machine
    launch: Launch
    study: StudyFolder
    random: random.Random


# Returns what was disturbed, or an empty text if there is nothing to disturb now.
Injection = Callable[[Target], str]


@dataclass(frozen=True)
class Fault:
    """A fault, and how a launcher may end by it.

    Args:
        inject: Begins it.
        codes: The allowed exit codes; empty if the launcher has to continue.
        continues: Whether the launcher may continue.
        undo: Ends it.
        lasts_s: Shortest and longest time between the two.
        before_resume: Called after the launcher has ended.
    """

    inject: Injection
    codes: frozenset[int] = frozenset()
    continues: bool = True
    undo: Callable[[Target], None] = lambda _target: None
    lasts_s: tuple[float, float] = (0.0, 0.0)
    before_resume: Callable[[Target], None] = lambda _target: None


def signal_processes(word: str, number: signal.Signals, *, every: bool = False) -> Injection:
    """Send a signal to one of the launch's processes with `word`, or to every one."""

    def inject(target: Target) -> str:
        pids = target.launch.processes(word)
        if not pids:
            return ""
        chosen = pids if every else [target.random.choice(pids)]
        for pid in chosen:
            send(pid, number)
        return f"process {', '.join(map(str, chosen))} of {len(pids)}"

    return inject


def signal_launcher(number: signal.Signals) -> Injection:
    """Send a signal to the process that the user started."""

    def inject(target: Target) -> str:
        send(target.launch.pid, number)
        return f"process {target.launch.pid}"

    return inject


def kill_launcher(target: Target) -> str:
    """Kill the launcher; if it has several processes, one of them."""
    pid = target.random.choice(target.launch.launchers() or [target.launch.pid])
    send(pid, signal.SIGKILL)
    return f"process {pid}"


def signal_group(target: Target) -> str:
    """Interrupt the process group, as Ctrl-C in a terminal does."""
    os.killpg(target.launch.pid, signal.SIGINT)
    return f"group {target.launch.pid}"


def stop_launcher(target: Target) -> str:
    pids = target.launch.launchers()
    for pid in pids:
        send(pid, signal.SIGSTOP)
    return f"process {', '.join(map(str, pids))}" if pids else ""


def resume_processes(target: Target) -> None:
    """Let every stopped process of the launch go on."""
    for pid in target.launch.processes():
        send(pid, signal.SIGCONT)


def signal_store(number: signal.Signals) -> Injection:
    """Send a signal to the tracking server."""

    def inject(target: Target) -> str:
        target.machine.server.signal(number)
        return target.machine.server.address

    return inject


def fill_disk(target: Target) -> str:
    target.machine.disk.fill()
    return str(target.study.local.parent)


def take_memory(target: Target) -> str:
    """Let Ray find too little memory: it kills the workers that started last."""
    target.machine.memory.take()
    return "/proc/meminfo"


def set_clock_back(target: Target) -> str:
    """Set the clock of the machine back, or, if it is back already, to another such time."""
    seconds = -target.random.choice((60, 3600, 86400, 40 * 86400))
    target.machine.clock.set(seconds)
    return f"by {-seconds} s"


def damage_checkpoints(target: Target) -> None:
    """Change a byte in the last checkpoint of each unfinished trial."""
    trials = History(study_events(target.study)).searched()
    unfinished = {f"{trial.id}.pt" for trial in trials if trial.status in ("running", "paused")}
    folder = target.study.local / target.study.CHECKPOINTS
    for name in unfinished & set(target.study.names(target.study.CHECKPOINTS)):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)


FAULTS = {
    "worker killed": Fault(signal_processes(TRIAL_WORKER, signal.SIGKILL)),
    "every worker killed": Fault(signal_processes(TRIAL_WORKER, signal.SIGKILL, every=True)),
    "launcher killed": Fault(kill_launcher, frozenset({KILLED, 137, 2}), continues=False),
    "SIGTERM": Fault(signal_launcher(signal.SIGTERM), frozenset({143}), continues=False),
    "SIGINT": Fault(signal_launcher(signal.SIGINT), frozenset({130}), continues=False),
    "Ctrl-C": Fault(signal_group, frozenset({130}), continues=False),
    "SIGHUP": Fault(signal_launcher(signal.SIGHUP), frozenset({129}), continues=False),
    "raylet killed": Fault(
        signal_processes(RAYLET, signal.SIGKILL), frozenset({2}), continues=False
    ),
    "GCS killed": Fault(signal_processes(GCS, signal.SIGKILL), frozenset({2}), continues=False),
    "worker stopped": Fault(
        signal_processes(TRIAL_WORKER, signal.SIGSTOP), undo=resume_processes, lasts_s=(5, 25)
    ),
    "raylet stopped": Fault(
        signal_processes(RAYLET, signal.SIGSTOP), undo=resume_processes, lasts_s=(5, 25)
    ),
    "launcher stopped": Fault(stop_launcher, undo=resume_processes, lasts_s=(5, 25)),
    "store killed": Fault(
        signal_store(signal.SIGKILL),
        undo=lambda target: target.machine.server.resume(),
        lasts_s=(5, 40),
    ),
    "store stopped": Fault(
        signal_store(signal.SIGSTOP),
        undo=lambda target: target.machine.server.resume(),
        lasts_s=(5, 40),
    ),
    "disk full": Fault(
        fill_disk,
        frozenset({2}),
        undo=lambda target: target.machine.disk.free(),
        lasts_s=(5, 20),
    ),
    "memory short": Fault(
        take_memory, undo=lambda target: target.machine.memory.free(), lasts_s=(1, 3)
    ),
    "clock set back": Fault(set_clock_back),
    "checkpoints damaged": Fault(
        kill_launcher,
        frozenset({KILLED, 137, 2}),
        continues=False,
        before_resume=damage_checkpoints,
    ),
}
