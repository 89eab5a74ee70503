"""Small disks of our own that can be filled, and terminals that can be closed."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import pytest

FILL_INTERVAL_S = 0.01


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a disk of `size`, such as `4m`, at the new folder `path`."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        process = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if process.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Keep `disk` full inside the block, also if files on it are removed."""
    files: list[Path] = []
    is_full, stopped = threading.Event(), threading.Event()

    def fill() -> None:
        while not stopped.is_set():
            statistics = os.statvfs(disk)
            free = statistics.f_bavail * statistics.f_frsize
            if not free:
                is_full.set()
                stopped.wait(FILL_INTERVAL_S)
                continue
            files.append(disk / f"fill-{len(files)}")
            with suppress(OSError), files[-1].open("wb", buffering=0) as file:
                while file.write(bytes(free)):
                    pass

    fill_thread = threading.Thread(target=fill)
    fill_thread.start()
    is_full.wait()
    try:
        yield
    finally:
        stopped.set()
        fill_thread.join()
        for path in files:
            path.unlink(missing_ok=True)


@contextmanager
def terminal() -> Iterator[tuple[FileIO, FileIO]]:
    """A terminal: the side that a person sees, and the program's side.

    They are files, not descriptors: the block may close them, and a second `os.close` would close
    whatever got the same number meanwhile.
    """
    seen, used = pty.openpty()
    with FileIO(seen, "r+") as seen_file, FileIO(used, "r+") as used_file:
        yield seen_file, used_file
