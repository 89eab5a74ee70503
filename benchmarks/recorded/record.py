"""Records learning curves of real trainings: random configurations, each trained whole on 3 folds.

    RAYSEARCH_WEIGHTS=... .venv/bin/python benchmarks/recorded/record.py --data DIR --studies DIR

`--data` is a folder with the shards `idc`, `pcam` and `breakhis` of the public samples, each with
`raysearch split SHARDS --test 0`. Each space of this folder is launched on each of them, which
takes hours; a study that exists is resumed, or read if it has ended. The curves go to `curves.json`
in this folder: figures, hyperparameters, and hashes of the patients. `digest.py` makes the memory
of them that the product comes with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from raysearch.data.splits.folds import groups_of
from raysearch.search.journal.codec import record_to_json
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study, read_splits
from raysearch.search.transfer.shipped_studies import ShippedStudy, group_hash
from raysearch.search.transfer.source_study import SourceStudy, source_trial

HERE = Path(__file__).parent
CURVES = HERE / "curves.json"
SPACES, SETS = ("frozen", "scratch"), ("idc", "pcam", "breakhis")
RAYSEARCH = str(Path(sys.executable).with_name("raysearch"))
DIGITS = 5


def launch(name: str, space: str, data: Path, studies: Path) -> None:
    """Run the study `name` to its end."""
    command = [RAYSEARCH, "launch", str(HERE / f"{space}.yaml"), "--data", str(data)]
    command += ["--studies", str(studies), "--name", name, "--memory", "none"]
    if (studies / name).exists():
        command.append("--resume")
    subprocess.run(command, check=True)


def recorded(folder: StudyFolder) -> ShippedStudy:
    """Return an ended study, with whole curves of rounded figures."""
    study = load_study(folder)
    space = study.plan.space
    trials = [source_trial(space, trial, max_points=10**6) for trial in study.history.searched()]
    rounded = tuple(
        replace(
            trial,
            curve=tuple((round(at, DIGITS), round(value, DIGITS)) for at, value in trial.curve),
            epoch_seconds=round(trial.epoch_seconds, 3),
        )
        for trial in trials
        if trial.curve
    )
    groups = groups_of(read_splits(folder, study.plan))
    return ShippedStudy(
        source=SourceStudy(folder.name, space.metric, space.mode, rounded),
        searched=tuple(hparam.name for hparam in space.searched_hparams()),
        groups=tuple(sorted(map(group_hash, groups))),
        # Without patients, each file counts as its own; its name is a path.
        has_patients=not any("/" in group for group in groups),
    )


def text_of(studies: Iterable[ShippedStudy]) -> str:
    """Return studies as the text of a JSON file, one a line."""
    lines = (json.dumps(record_to_json(study), separators=(",", ":")) for study in studies)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main() -> int:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description="Records learning curves of real trainings.")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the three shards")
    parser.add_argument("--studies", type=Path, required=True, help="the folder of the studies")
    parser.add_argument("--only", help="the studies to record, such as frozen-idc,frozen-pcam")
    args = parser.parse_args()
    names = [f"{space}-{data}" for space in SPACES for data in SETS]
    if args.only:
        names = [name for name in names if name in args.only.split(",")]
    studies = []
    for name in names:
        space, data = name.split("-")
        folder = StudyFolder(args.studies / name)
        if not folder.exists(folder.PLAN) or load_study(folder).history.champion is None:
            launch(name, space, args.data / data, args.studies)
        studies.append(recorded(folder))
    CURVES.write_text(text_of(studies))
    sys.stdout.write(f"{len(studies)} studies in {CURVES}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
