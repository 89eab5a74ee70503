"""Reads damaged and forged files of every kind: no reader may raise what is no error of a user.

    .venv/bin/python benchmarks/mutation_soak.py [COUNT [KIND ...]]

COUNT files (20,000 by default) of each kind: those that are read on their own (manifest, parquet,
plan, journal, checkpoint, model, space, csv, scores, figures and card), and the other files of a
study and of the caches, in their place (`STORED_FILES` in tests/support/stored_file_targets.py).
Every other one is damaged (bits and bytes are changed); the others have hostile values, and the
right hashes. A file is read correctly if it is rejected with an error that is printed in one line,
or read; a damaged file with a hash must be read as it was. Value: the files that were read
correctly, within 30 s each and 4 GB more than at the start.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from raysearch.data.cache_folder import VARIABLE
from raysearch.data.shards.sharding import write_shards
from support.mutation_targets import Target, make_targets, read_mutation
from support.stored_file_targets import STORED_FILES, make_stored_file_targets

COUNT, SEED, MAX_SECONDS, MAX_BYTES = 20_000, 1, 30.0, 4 * 2**30
PROGRESS_S = 10.0


def soak(kind: str, target: Target, count: int) -> int:
    """Read `count` mutations of `target`; return how many were read correctly."""
    outcomes: Counter[str] = Counter()
    examples: dict[str, int] = {}
    begin = shown = time.monotonic()
    for number in range(count):
        start = time.monotonic()
        outcome = read_mutation(target, number, SEED)
        now = time.monotonic()
        text = outcome.error or outcome.kind
        if now - start > MAX_SECONDS:
            text = f"takes longer than {MAX_SECONDS:g} s"
        outcomes[text] += 1
        examples.setdefault(text, number)
        if now - shown > PROGRESS_S:
            sys.stdout.write(f"{kind}: {number + 1:,} of {count:,}\n")
            sys.stdout.flush()
            shown = now
    seconds = time.monotonic() - begin
    counts = ", ".join(f"{outcomes[name]:,} {name}" for name in ("rejected", "read"))
    sys.stdout.write(f"{kind}: {count:,} files in {seconds:.0f} s: {counts}\n")
    for text, number in outcomes.items():
        if text not in ("rejected", "read"):
            sys.stdout.write(f"ERROR {kind} {examples[text]}: {number:,} times {text}\n")
    sys.stdout.flush()
    return outcomes["rejected"] + outcomes["read"]


def make_all_targets(folder: Path) -> dict[str, Target]:
    """Return every kind of file, by its name; `folder` is a scratch folder."""
    os.environ[VARIABLE] = str(folder / "cache")
    os.environ["RAYSEARCH_SCHEMES"] = "memory"  # an object store without a server
    targets = dict(make_targets(folder))
    if set(sys.argv[2:]) <= targets.keys() and sys.argv[2:]:
        return targets
    write_shards("4:12:1", folder / "shards", "synthetic", workers=1)
    stored = make_stored_file_targets(folder, folder / "shards")
    return targets | {kind: stored[kind] for kind in STORED_FILES}


def limit_memory() -> None:
    """Limit the address space to `MAX_BYTES` more than it is now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory() as folder:
        targets = make_all_targets(Path(folder))
        kinds = sys.argv[2:] or list(targets)
        limit_memory()
        num_correct = sum(soak(kind, targets[kind], count) for kind in kinds)
    line = {
        "benchmark": "mutation_soak",
        "value": num_correct,
        "unit": "files",
        "peer": None,
        "ratio": None,
        "goal": f"{count * len(kinds)} of {count * len(kinds)}",
        "pass": num_correct == count * len(kinds),
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
