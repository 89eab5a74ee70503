"""Launches of one study whose processes, disk, clock and tracking store a test can disturb."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from raysearch.search.journal.events import Event, FoldReport
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from support.tracking_server import Server

RAYSEARCH = Path(sys.executable).with_name("raysearch")
RESUME = re.compile(r"raysearch launch [^\n]*--resume\b[^\n;]*")
INTERRUPTIONS = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
TRIAL_WORKER, RAYLET, GCS = "ray::ImplicitFunc", "raylet/raylet", "gcs/gcs_server"
# The memory of a launcher is compared with that at so many seconds after its first event.
SETTLE_S = 10.0
MAX_CHARACTERS = 200
PAGE = os.sysconf("SC_PAGE_SIZE")
WaitResult = Literal["ended", "reached", "stalled"]


def send(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal to a process that may just have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def command_lines() -> dict[int, str]:
    """The command lines of the processes that have not ended."""
    lines = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line:  # a zombie has none
                lines[int(path.name)] = line
    return lines


@dataclass(frozen=True)
class Usage:
    """The memory and the open descriptors of a launcher at a time since its start."""

    seconds: float
    rss_mb: float
    descriptors: int


@dataclass
class Launch:
    """A started `raysearch launch`, which leads a session.

    Args:
        process: The process.
        output: The file with its standard output and standard error.
        opened: When it appended its first event, in seconds after its start; infinite before that.
    """

    process: subprocess.Popen[bytes]
    output: Path
    started: float = field(default_factory=time.monotonic)
    opened: float = math.inf
    usage: list[Usage] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def last_line(self) -> str:
        return next(
            (line.strip() for line in reversed(self.text().splitlines()) if line.strip()), ""
        )

    def processes(self, word: str = "") -> list[int]:
        """The processes of its session whose command line has `word`."""
        pids = []
        for pid, line in command_lines().items():
            with suppress(OSError):
                if word in line and os.getsid(pid) == self.pid:
                    pids.append(pid)
        return sorted(pids)

    def launchers(self) -> list[int]:
        """The process itself, and those below it that run the same command."""
        return self.processes("raysearch launch ")

    def measure(self) -> None:
        """Record the memory and the descriptors of the largest of its launchers."""
        for pid in self.launchers():
            with suppress(OSError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                count = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                seconds = time.monotonic() - self.started
                usage = Usage(seconds, pages * PAGE / 2**20, count)
                if self.usage and self.usage[-1].seconds > seconds - 0.5:
                    usage = max(usage, self.usage.pop(), key=lambda one: one.rss_mb)
                self.usage.append(usage)

    def kill(self) -> None:
        """Kill every process of the launch."""
        for pid in self.processes():
            send(pid, signal.SIGKILL)
        self.process.wait()


class Disk:
    """A file system of its own in memory, which can be full for a while.

    Args:
        folder: Where it is mounted.
    """

    NUM_BYTES = 4 * 2**30

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.NUM_BYTES}", "tmpfs", str(folder)],
            check=True,
        )

    def fill(self) -> None:
        """Let nothing more be written: the file system becomes as large as what is on it."""
        for _attempt in range(20):
            status = os.statvfs(self._folder)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            if not self._resize(max(used, status.f_frsize)):  # more was written meanwhile
                continue
            if not os.statvfs(self._folder).f_bfree:
                return
        raise OSError(f"{self._folder} could not be filled")

    def free(self) -> None:
        """Give the space back."""
        self._resize(self.NUM_BYTES)

    def _resize(self, num_bytes: int) -> bool:
        options = f"remount,size={num_bytes}"
        command = ["mount", "-o", options, str(self._folder)]
        return not subprocess.run(command, check=False, capture_output=True).returncode


class Memory:
    """The memory that the processes of this mount namespace read in `/proc/meminfo`.

    It has the free memory of the machine at the start, whatever other programs use meanwhile.

    Args:
        folder: Folder of the file in place of `/proc/meminfo`.
    """

    PLACE = Path("/proc/meminfo")

    def __init__(self, folder: Path) -> None:
        self._file, self._text = folder / "meminfo", self.PLACE.read_text()
        self._file.write_text(self._text)
        subprocess.run(["mount", "--bind", str(self._file), str(self.PLACE)], check=True)

    def take(self) -> None:
        """Let no memory be available, so that Ray kills a worker."""

        def nothing(match: re.Match[str]) -> str:
            return match[1] + "0".rjust(len(match[2]))

        self._write(
            re.sub(r"((?:MemFree|MemAvailable|Cached|Buffers):)( +\d+)", nothing, self._text)
        )

    def free(self) -> None:
        """Let as much be available as at the start."""
        self._write(self._text)

    def _write(self, text: str) -> None:
        with self._file.open("r+") as file:
            file.write(text)


class Clock:
    """The wall clock of the launches, which can be set; needs a C compiler.

    Args:
        folder: Folder of the library that the launches preload.
    """

    SOURCE = Path(__file__).with_name("shifted_clock.c")

    def __init__(self, folder: Path) -> None:
        self._shift, library = folder / "clock", folder / "shifted_clock.so"
        self.set(0)
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(self.SOURCE), "-ldl"],
            check=True,
        )
        self.environment = {"LD_PRELOAD": str(library), "FAULT_CLOCK": str(self._shift)}

    def set(self, seconds: int) -> None:
        """Let the clock differ by `seconds` from that of the machine."""
        with os.fdopen(os.open(self._shift, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            file.write(struct.pack("q", seconds))


class Machine:
    """What the launches of a study use: a disk, a clock, a tracking store and a working folder.

    Args:
        folder: An empty folder of a program that runs isolated.
        logs: Folder of the launches' outputs.
        space: The text of the space file.
    """

    def __init__(self, folder: Path, logs: Path, space: str) -> None:
        self.folder, self.logs = folder, logs
        self.disk = Disk(folder / "studies")
        self.clock = Clock(folder)
        self.memory = Memory(folder)
        for name in ("home", "store", "cache"):
            (folder / name).mkdir(mode=0o700)
        (folder / "faults.yaml").write_text(space)
        hidden = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS", "RAY_TMPDIR")
        inherited = {name: text for name, text in os.environ.items() if name not in hidden}
        self.server = Server(folder / "store")
        self.database = folder / "store" / "mlflow.db"
        self.environment = {
            **inherited,
            **self.clock.environment,
            "HOME": str(folder / "home"),
            "TMPDIR": "/tmp",
            "RAYSEARCH_CACHE": str(folder / "cache"),
            "MLFLOW_TRACKING_URI": self.server.address,
        }
        self.launches: list[Launch] = []

    def launch(self, *words: str) -> Launch:
        """Start `raysearch launch` with these arguments in the working folder."""
        output = self.logs / f"launch-{len(self.launches):03d}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [str(RAYSEARCH), *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.launches.append(Launch(process, output))
        return self.launches[-1]

    def study(self, name: str) -> StudyFolder:
        return StudyFolder(self.folder / "studies" / name)

    def close(self) -> None:
        """End the launches and the tracking store."""
        for launch in self.launches:
            launch.kill()
        self.server.signal(signal.SIGCONT)
        self.server.signal(signal.SIGKILL)


def resume_words(launch: Launch) -> list[str] | None:
    """The arguments of the last command to resume that `launch` has printed; None without one."""
    commands = RESUME.findall(launch.text())
    return shlex.split(commands[-1])[1:] if commands else None


def study_events(study: StudyFolder) -> list[Event]:
    """The events of the journal of `study`; none before it exists."""
    return Journal(study / study.JOURNAL).events if study.exists(study.JOURNAL) else []


def journal_state(study: StudyFolder) -> tuple[tuple[str, int, int], ...]:
    """What changes with each event of the journal; cheaper to read than the events."""
    state = []
    with suppress(OSError):
        for path in sorted((study.local / study.JOURNAL).iterdir()):
            with suppress(OSError):  # a partial file that was renamed
                status = path.stat()
                state.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(state)


def reports(events: Sequence[Event]) -> Iterator[FoldReport]:
    """The reports of the searched trials."""
    for event in events:
        if isinstance(event, FoldReport) and event.trial.startswith("t"):
            yield event


def end_errors(launch: Launch, codes: frozenset[int]) -> list[str]:
    """What is wrong with how a launch ended, if its exit code has to be one of `codes`."""
    code, text, last_line = launch.code, launch.text(), launch.last_line()
    shown = last_line[:MAX_CHARACTERS]
    errors = []
    if code not in codes:
        errors.append(f"exit code {code}, not {' or '.join(map(str, sorted(codes)))}: {shown}")
    if "Traceback (most recent call last)" in text:
        errors.append(f"a traceback in {launch.output.name}")
    if code in INTERRUPTIONS and resume_words(launch) is None:
        errors.append(f"exit code {code} without the command to resume: {shown!r}")
    if code == 2 and not (last_line.startswith("raysearch: ") and "--resume" in last_line):
        errors.append(f"exit code 2 without a line that says how to resume: {shown!r}")
    if code == 2 and text.count("raysearch: ") > 1:
        errors.append(f"{text.count('raysearch: ')} lines of errors in {launch.output.name}")
    return errors


class Progress:
    """Waits for the end, or for the progress, of a launch.

    Args:
        launch: The launch.
        study: The folder of its study.
    """

    POLL_S, MEASURE_S = 0.25, 5.0

    def __init__(self, launch: Launch, study: StudyFolder) -> None:
        self._launch, self._study = launch, study
        self._state, self._measured = journal_state(study), -math.inf
        self.changed = time.monotonic()

    def wait(self, until: Callable[[], bool], stall_s: float) -> WaitResult:
        """Wait until a condition holds, the launch has ended, or no event came for `stall_s`."""
        while True:
            now = time.monotonic()
            if self._launch.code is not None:
                return "ended"
            if (state := journal_state(self._study)) != self._state:
                self._state, self.changed = state, now
                self._launch.opened = min(self._launch.opened, now - self._launch.started)
            if until():
                return "reached"
            if now - self.changed > stall_s:
                return "stalled"
            if now - self._measured > self.MEASURE_S:
                self._launch.measure()
                self._measured = now
            time.sleep(self.POLL_S)


def usage_line(launches: Sequence[Launch]) -> str:
    """The memory and the descriptors of the launcher that ran longest, without its start-up."""

    def settled(launch: Launch) -> list[Usage]:
        return [usage for usage in launch.usage if usage.seconds >= launch.opened + SETTLE_S]

    samples = max(map(settled, launches), key=len, default=[])
    if len(samples) < 3:
        return "no launcher ran long enough to measure its memory"
    minutes = [sample.seconds / 60 for sample in samples]
    first, last = samples[0], samples[-1]
    slopes = [
        statistics.linear_regression(minutes, values).slope
        for values in (
            [sample.rss_mb for sample in samples],
            [sample.descriptors for sample in samples],
        )
    ]
    return (
        f"the longest launcher, from {minutes[0]:.1f} to {minutes[-1]:.1f} minutes: memory"
        f" {first.rss_mb:.0f} to {last.rss_mb:.0f} MB ({slopes[0]:+.2f} MB a minute), descriptors"
        f" {first.descriptors} to {last.descriptors} ({slopes[1]:+.2f} a minute)"
    )
