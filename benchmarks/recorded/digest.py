"""Makes the memory that the product comes with from the recorded curves.

    .venv/bin/python benchmarks/recorded/digest.py [--check]

With `--check`, nothing is written: it ends with 1 if the memory of the product is another one. The
last line has its size.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.transfer.shipped_studies import FILE, ShippedStudy
from raysearch.search.transfer.source_models import has_pattern
from raysearch.search.transfer.source_study import SourceStudy, SourceTrial, thinned
from recorded.record import CURVES

GOAL_BYTES = 1_000_000


def shipped(study: dict[str, object]) -> ShippedStudy:
    """Return the digest of a recorded study."""
    recorded = record_from_json(tuple[SourceTrial, ...], study["trials"])
    trials = tuple(
        SourceTrial(trial.hparams, thinned(list(trial.curve)), trial.epoch_seconds)
        for trial in recorded
    )
    fields = {name: study[name] for name in ("name", "metric", "mode")}
    source = record_from_json(SourceStudy, fields | {"trials": record_to_json(trials)})
    return record_from_json(
        ShippedStudy,
        {
            "source": record_to_json(source),
            "searched": study["searched"],
            "groups": study["groups"],
            "has_patients": study["has_patients"],
        },
    )


def main() -> int:
    """Write the memory, or compare it."""
    parser = argparse.ArgumentParser(description="Makes the memory that the product comes with.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    args = parser.parse_args()
    studies = [shipped(study) for study in json.loads(CURVES.read_text())]
    usable = [study for study in studies if has_pattern(study.source)]
    lines = ",\n".join(json.dumps(record_to_json(study), separators=(",", ":")) for study in usable)
    content = f"[\n{lines}\n]\n"
    is_equal = FILE.exists() and FILE.read_text() == content
    if not args.check:
        FILE.write_text(content)
    size = len(content.encode())
    line = {"benchmark": "shipped_memory", "value": size, "unit": "bytes", "peer": None}
    line |= {"ratio": None, "goal": GOAL_BYTES, "pass": size < GOAL_BYTES}
    sys.stdout.write(f"{json.dumps(line | {'equal': is_equal, 'studies': len(usable)})}\n")
    return 0 if is_equal or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
