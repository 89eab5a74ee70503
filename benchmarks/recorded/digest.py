"""Makes the memory that the product comes with from the recorded curves.

    .venv/bin/python benchmarks/recorded/digest.py [--check]

A curve keeps so many points as those of earlier studies. With `--check`, nothing is written: it
ends with 1 if the memory of the product is another one. The last line has its size.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.search.transfer.shipped_studies import FILE, ShippedStudy, shipped_studies
from raysearch.search.transfer.source_models import has_pattern
from raysearch.search.transfer.source_study import thinned
from recorded.record import CURVES, text_of

GOAL_BYTES = 1_000_000


def shortened(study: ShippedStudy) -> ShippedStudy:
    """Return a recorded study with fewer points in its curves."""
    trials = (replace(trial, curve=thinned(list(trial.curve))) for trial in study.source.trials)
    return replace(study, source=replace(study.source, trials=tuple(trials)))


def main() -> int:
    """Write the memory, or compare it."""
    parser = argparse.ArgumentParser(description="Makes the memory that the product comes with.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    args = parser.parse_args()
    studies = [shortened(study) for study in shipped_studies(CURVES) if has_pattern(study.source)]
    content = text_of(studies)
    is_equal = FILE.exists() and FILE.read_text() == content
    if not args.check:
        FILE.write_text(content)
    size = len(content.encode())
    line = {"benchmark": "shipped_memory", "value": size, "unit": "bytes", "peer": None}
    line |= {"ratio": None, "goal": GOAL_BYTES, "pass": size < GOAL_BYTES}
    sys.stdout.write(f"{json.dumps(line | {'equal': is_equal, 'studies': len(studies)})}\n")
    return 0 if is_equal or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
