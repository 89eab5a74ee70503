import subprocess
import sys

PAGE_FAULTS = """
import resource, sys, torch
from raysearch.training.memory import retain_allocator_memory, trim_allocator_memory
sys.argv[1] == "retain" and retain_allocator_memory()
def step():  # 64 MB: more than glibc retains by default
    torch.ones(16_000_000)
for _ in range(30):  # glibc reuses aligned memory once its bins of small fragments are full
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
retained = resident()
trim_allocator_memory()
print(retained - resident())
"""


def measure(mode: str) -> tuple[int, int]:
    """Return the page faults of five steps, and the bytes that are returned to the system."""
    command = [sys.executable, "-c", PAGE_FAULTS, mode]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    page_faults, returned_bytes = (int(line) for line in output.split())
    return page_faults, returned_bytes


def test_freed_memory_is_retained_for_the_next_step_and_returned_by_trimming() -> None:
    default_faults, _returned_bytes = measure("default")
    faults, returned_bytes = measure("retain")
    assert faults < 0.1 * default_faults
    assert returned_bytes > 50_000_000
