"""Networks and trials that need more memory than there is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import Commands
from raysearch.search.engine.memory_losses import KERNEL_COUNTERS, kernel_kills
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.training.failures import OUT_OF_MEMORY
from raysearch.training.memory import is_out_of_memory
from support.launched_studies import study

CGROUPS = Path("/sys/fs/cgroup/memory")
LIMIT_BYTES = 2800 * 2**20
# The largest p4m network has weights of 2 GB, and as much of gradients.
SPACE = """
objective: {metric: auroc, mode: max}
epochs: 1
trials: 2
seed: 1
sampler: random
stopping: {rule: none}
resources: {cpus: 1}
repeats: 0
points_to_evaluate:
  - {architecture: p4m, width: 64}
  - {architecture: cnn, width: 4}
space:
  folds: 2
  architecture: {choice: [cnn, p4m]}
  width: {choice: [4, 64]}
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
  batch_size: 32
"""


def error_of(code: str) -> BaseException:
    """The exception that `code` raises."""
    with pytest.raises((MemoryError, RuntimeError, OSError)) as error:
        exec(code, {"torch": torch, "os": os})
    return error.value


@pytest.mark.parametrize(
    "code",
    [
        "torch.empty(2**50, dtype=torch.uint8)",  # more than the address space
        "torch.empty(2**40, 2**40)",
        "bytearray(2**60)",
        "raise torch.OutOfMemoryError('CUDA out of memory')",
        "raise OSError(12, 'Cannot allocate memory')",
    ],
)
def test_every_kind_of_memory_error_is_recognized(code: str) -> None:
    assert is_out_of_memory(error_of(code))


@pytest.mark.parametrize("code", ["torch.zeros(2) @ torch.zeros(3)", "os.open('/none/x', 0)"])
def test_other_errors_are_no_memory_errors(code: str) -> None:
    assert not is_out_of_memory(error_of(code))


@pytest.fixture
def limited_group() -> Iterator[Path]:
    """A control group whose processes have `LIMIT_BYTES` of memory together."""
    group = CGROUPS / f"raysearch-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    except OSError as error:
        pytest.skip(f"no control group of memory can be created here ({error})")
    yield group
    until = time.monotonic() + 30
    while (group / "tasks").read_text() and time.monotonic() < until:
        time.sleep(0.2)  # processes of Ray end after the launcher
    group.rmdir()


def in_group(group: Path, *command: str) -> list[str]:
    """Return a command whose processes are in a control group."""
    return ["/bin/sh", "-c", f'echo $$ > {group}/tasks; exec "$@"', "sh", *command]


def test_the_kernels_counter_has_a_process_that_it_ended(limited_group: Path) -> None:
    (limited_group / "memory.limit_in_bytes").write_text(str(64 * 2**20))
    assert KERNEL_COUNTERS.exists()
    before = kernel_kills()
    code = "content = bytearray(2**28)\ncontent[::4096] = b'1' * 2**16"
    process = subprocess.run(in_group(limited_group, sys.executable, "-c", code), check=False)
    assert process.returncode == -9
    assert kernel_kills() > before


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_an_architecture_and_a_trial_without_memory_are_named_and_the_others_go_on(
    run: Commands, shards: Path, limited_group: Path
) -> None:
    (run.folder / "small.yaml").write_text(SPACE)
    raysearch = str(Path(sys.executable).with_name("raysearch"))
    process = subprocess.run(
        in_group(limited_group, raysearch, "launch", "small.yaml", "--data", str(shards)),
        cwd=run.folder,
        # Without the results of earlier probes.
        env={**run.environment, "RAYSEARCH_CACHE": str(run.folder / "cache"), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "the largest network of architecture p4m (the kernel ended" in output
    (settings,) = read_plan(study(run)).precision_settings.values()
    assert set(settings) == {"benchmark", "cnn", "p4m"}
    p4m, *others = load_study(study(run)).history.searched()
    assert p4m.status == "failed"
    assert p4m.reason.startswith(OUT_OF_MEMORY), p4m.reason
    assert {trial.status for trial in others} == {"finished"}
    assert "Champion" in process.stdout
