"""`raysearch split`: creates the split manifest of a set of shards."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import JsonOption, make_console
from raysearch.config.names import LABEL, NAME, parse_holdouts
from raysearch.errors import DataError

if TYPE_CHECKING:
    from raysearch.data.shards.rows import Rows
    from raysearch.data.splits.split_creation import SplitSpec
    from raysearch.data.splits.split_manifest import SplitManifest

MAX_FOLDS = 1000


def split(
    data: Annotated[str, typer.Argument(help="The folder of shards.")],
    folds: Annotated[str, typer.Option(help="The numbers of folds, such as 3,5,10.")] = "3,5",
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Add leave-one-group-out cross-validation.")
    ] = False,
    holdout: Annotated[
        str | None,
        typer.Option(
            help="Add repeated hold-outs: 5x0.2 is 5 repetitions with a validation fraction of 0.2."
        ),
    ] = None,
    official: Annotated[
        list[str] | None,
        typer.Option(
            help="A list of the official split, instead of folds; repeat the option for several"
            " lists. Or `split`: the train, valid and test in the data set's own folders, files or"
            " column."
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            help="Fraction of groups in the held-out test set. Default: .15 if there are at least"
            " 60 patients, else 0."
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Group by patient, slide, site or split.")] = "patient",
    task: Annotated[str, typer.Option(help="The task, if the shards have several.")] = LABEL,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.", min=0)] = 0,
    name: Annotated[
        str | None, typer.Option(help="Name of the split manifest. Default: the task.")
    ] = None,
    allow_leak: Annotated[
        str | None,
        typer.Option(help="Patients that may be on both sides of a fold, separated by commas."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Create a held-out test set and folds, grouped by patient.

    Example: `raysearch split data/idc --folds 5,10`
    """
    from raysearch.data.csv_files import clean_name
    from raysearch.data.files import Folder
    from raysearch.data.shards.rows import View, load_rows
    from raysearch.data.splits.split_creation import SplitSpec, held_out_patients

    manifest_name = task if name is None else name
    _reject_name(data, manifest_name)
    split_spec = SplitSpec(
        by=by,
        folds=_parse_folds(folds),
        leave_one_out=leave_one_out,
        holdouts=_parse_holdout(holdout),
        test_fraction=test,
        seed=seed,
        allowed_leaks=tuple(map(clean_name, allow_leak.split(","))) if allow_leak else (),
    )
    if not (split_spec.folds or leave_one_out or split_spec.holdouts or official):
        raise DataError("--folds: none; give such as 3,5,10, or --leave-one-out, or --holdout")
    rows, held_out = load_rows(data, View(task)), held_out_patients(data)
    split_manifest = _create(data, rows, task, split_spec, official, held_out)
    notes = _notes(split_manifest, rows, held_out)
    split_manifest.write(Folder(data), manifest_name)
    if as_json:
        sys.stdout.write(_json_summary(split_manifest, notes) + "\n")
        return 0
    console = make_console()
    console.print(_table(split_manifest, rows.class_names, f"{data}/splits/{manifest_name}.json"))
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    return 0


def _create(
    data: str,
    rows: Rows,
    task: str,
    split_spec: SplitSpec,
    official: list[str] | None,
    held_out: frozenset[str],
) -> SplitManifest:
    """Create the split manifest from the official lists, or else from `split_spec`."""
    from raysearch.data.splits.official_splits import official_split_manifest
    from raysearch.data.splits.split_creation import choose_test_patients, create_split_manifest

    if official:
        return official_split_manifest(rows, task, split_spec, official)
    test_patients = choose_test_patients(data, held_out, split_spec.seed)
    return create_split_manifest(rows, task, split_spec, test_patients)


def _reject_name(data: str, name: str) -> None:
    """Raise DataError if the shards at `data` cannot have a new split manifest `name`."""
    from raysearch.data.files import Folder
    from raysearch.data.splits.split_manifest import has_split_manifest

    if not NAME.fullmatch(name):
        raise DataError(f"--name {name!r}: not a name; use letters, digits, '.', '_' and '-'")
    if has_split_manifest(Folder(data), name):
        raise DataError(
            f"{data}: has a split manifest {name!r} already, and studies may use it; choose another"
            " --name"
        )


def _notes(split_manifest: SplitManifest, rows: Rows, held_out: frozenset[str]) -> list[str]:
    """Notes on test patients of other split manifests, and on groups that no fold contains."""
    groups = rows.groups(split_manifest.by)
    in_folds: set[str] = set()
    for _scheme, _number, fold in split_manifest.numbered_folds():
        in_folds.update(fold.train, fold.validation)
    fold_patients = set(rows.patients[np.isin(groups, sorted(in_folds))].tolist())
    notes = []
    if held_out & fold_patients:
        notes.append(
            f"{len(held_out & fold_patients):,} patients in the held-out test set of another split"
            " manifest are in these folds; --test and --official have a test set of their own"
        )
    all_groups = set(groups.tolist())
    unused = all_groups - in_folds - set(split_manifest.held_out)
    if unused and split_manifest.schemes:
        notes.append(
            f"{len(unused):,} of {len(all_groups):,} {split_manifest.by}s are in none of these"
            " lists; folds that a launch adds include them"
        )
    return notes


def _parse_folds(text: str) -> tuple[int, ...]:
    words = [word for word in text.split(",") if word]
    if not all(word.isascii() and word.isdigit() and 2 <= int(word) <= MAX_FOLDS for word in words):
        raise DataError(f"--folds {text!r}: not numbers of folds; give such as 3,5,10")
    return tuple(sorted({int(word) for word in words}))


def _parse_holdout(text: str | None) -> tuple[int, float] | None:
    holdouts = None if text is None else parse_holdouts(text)
    if text is not None and holdouts is None:
        raise DataError(f"--holdout {text!r}: not REPETITIONSxFRACTION; give such as 5x0.2")
    return holdouts


def _json_summary(split_manifest: SplitManifest, notes: Sequence[str]) -> str:
    """Return the split manifest as one line of JSON: of each scheme its number of folds."""
    return json.dumps(
        {
            "task": split_manifest.task,
            "by": split_manifest.by,
            "seed": split_manifest.seed,
            "held_out": list(split_manifest.held_out),
            "schemes": {name: len(folds) for name, folds in split_manifest.schemes.items()},
            "counts": {name: list(counts) for name, counts in split_manifest.counts.items()},
            "leaks": list(split_manifest.leaks),
            "hash": split_manifest.hash,
            "notes": list(notes),
        }
    )


def _table(split_manifest: SplitManifest, class_names: tuple[str, ...], path: str) -> Table:
    from raysearch.data.splits.split_manifest import HELD_OUT, VALIDATION

    table = Table(
        "split",
        f"validation {split_manifest.by}s",
        f"train {split_manifest.by}s",
        *(f"validation {escape(name)}" for name in class_names),
        title=f"Split manifest {escape(path)}, hash {split_manifest.hash[:12]}",
        title_justify="left",
    )
    table.add_row(
        "held-out test set",
        f"{len(split_manifest.held_out):,}",
        "",
        *(f"{count:,}" for count in split_manifest.counts.get(HELD_OUT, ())),
    )
    for scheme, number, fold in split_manifest.numbered_folds():
        counts = split_manifest.counts[f"{scheme}/{number}/{VALIDATION}"]
        table.add_row(
            f"{scheme}, fold {number}",
            f"{len(fold.validation):,}",
            f"{len(fold.train):,}",
            *(f"{count:,}" for count in counts),
        )
    for leak in split_manifest.leaks:
        table.add_row("[yellow]leak[/]", escape(leak))
    return table
