"""Decoding processes end with the process that has started them."""

import subprocess
import sys
import time
from pathlib import Path


def test_worker_processes_end_if_the_main_process_is_killed(tmp_path: Path) -> None:
    """They hold the pipe themselves at which they wait, so the pipe does not tell them."""
    script = (
        "import os, sys, time\n"
        "from raysearch.data.shards.worker_processes import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(2) as pool:\n"
        "        print(*{pool.submit(os.getpid).result() for _ in range(50)}, flush=True)\n"
        "        time.sleep(60)\n"
    )
    file = tmp_path / "decoding.py"
    file.write_text(script)
    command = [sys.executable, str(file)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with parent:
        assert parent.stdout is not None
        workers = [Path("/proc") / pid for pid in parent.stdout.readline().split()]
        assert workers
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(process: Path) -> bool:
    """Whether `process`, its folder in /proc, exists and is no zombie."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
