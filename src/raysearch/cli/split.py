"""`raysearch split`: the split manifest of a set of shards, written once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import make_console
from raysearch.config.names import NAME
from raysearch.errors import DataError

if TYPE_CHECKING:
    from raysearch.data.patches import Rows
    from raysearch.data.splits.split_manifest import SplitManifest


def split(
    data: Annotated[str, typer.Argument(help="The folder of shards.")],
    folds: Annotated[str, typer.Option(help="The numbers of folds, such as 3,5,10.")] = "3,5",
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="One fold a group, too.")
    ] = False,
    holdout: Annotated[
        str | None, typer.Option(help="Repeated hold-outs, too: 5x0.2 is 5 of a fifth each.")
    ] = None,
    official: Annotated[
        list[str] | None,
        typer.Option(
            help="A list of the set's authors, instead of folds; may be given again. Or `split`:"
            " the train, valid and test that the set's own folders, files or column say."
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="The share of groups to seal. Default: .15 from 60 patients on, else 0."),
    ] = None,
    by: Annotated[str, typer.Option(help="patient, slide, site or split.")] = "patient",
    task: Annotated[str, typer.Option(help="What is learned, where the shards have several.")] = (
        "label"
    ),
    seed: Annotated[int, typer.Option(help="Of the draws.", min=0)] = 0,
    name: Annotated[
        str | None, typer.Option(help="The split manifest's. Default: the task's.")
    ] = None,
    allow_leak: Annotated[
        str | None, typer.Option(help="Patients that may stand on both sides, with commas.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Choose a held-out test set and folds, by patient, and write them down with a hash.

    Example: `raysearch split data/idc --folds 5,10`
    """
    from raysearch.data.files import Folder
    from raysearch.data.patches import load_rows
    from raysearch.data.splits.official_splits import official_split_manifest
    from raysearch.data.splits.split_creation import (
        SplitSpec,
        held_out_patients,
        make_split_manifest,
        patients_aside,
    )
    from raysearch.data.view import View

    chosen = task if name is None else name
    _reject_name(data, chosen)
    split_spec = SplitSpec(
        by=by,
        folds=_numbers(folds),
        leave_one_out=leave_one_out,
        holdouts=_holdouts(holdout),
        test_share=test,
        seed=seed,
        allowed=tuple(allow_leak.split(",")) if allow_leak else (),
    )
    if not (split_spec.folds or leave_one_out or split_spec.holdouts or official):
        raise DataError("--folds: none; give such as 3,5,10, or --leave-one-out, or --holdout")
    rows, held_out = load_rows(data, View(task)), held_out_patients(data)
    if official:
        split_manifest = official_split_manifest(rows, task, split_spec, official)
    else:
        split_manifest = make_split_manifest(
            rows, task, split_spec, patients_aside(data, held_out, seed)
        )
    notes = _notes(split_manifest, rows, held_out)
    split_manifest.write(Folder(data), chosen)
    if as_json:
        sys.stdout.write(json.dumps({**_summary(split_manifest), "notes": notes}) + "\n")
    else:
        _show(_table(split_manifest, rows.class_names, f"{data}/splits/{chosen}.json"), notes)
    return 0


def _reject_name(data: str, name: str) -> None:
    """DataError where the shards at `data` cannot have a new split manifest `name`."""
    from raysearch.data.files import Folder
    from raysearch.data.splits.split_manifest import has_split_manifest

    if not NAME.fullmatch(name):
        raise DataError(f"--name {name!r}: not a name; use letters, digits, '.', '_' and '-'")
    if has_split_manifest(Folder(data), name):
        raise DataError(
            f"{data}: has a split manifest {name!r} already, and studies may be built on it; choose"
            " another --name"
        )


def _show(table: Table, notes: list[str]) -> None:
    console = make_console()
    console.print(table)
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)


def _notes(split_manifest: SplitManifest, rows: Rows, held_out: frozenset[str]) -> list[str]:
    """What of the split manifest is easily overlooked."""
    groups = rows.groups(split_manifest.by)
    folds = [fold for scheme in split_manifest.schemes.values() for fold in scheme]
    used = set().union(*(fold.learn + fold.judge for fold in folds))
    learned = set(rows.patients[np.isin(groups, sorted(used))].tolist())
    notes = []
    if held_out & learned:
        notes.append(
            f"{len(held_out & learned):,} patients that another split manifest seals are learned or judged"
            " here; --test and --official have a test set of their own"
        )
    left = set(groups.tolist()) - used - set(split_manifest.held_out)
    if left and split_manifest.schemes:
        notes.append(
            f"{len(left):,} of {len(set(groups.tolist())):,} {split_manifest.by}s stand in none of these"
            " lists; folds that a launch adds have them, too"
        )
    return notes


def _numbers(text: str) -> tuple[int, ...]:
    words = [word for word in text.split(",") if word]
    if not all(word.isascii() and word.isdigit() and 2 <= int(word) <= 1000 for word in words):
        raise DataError(f"--folds {text!r}: not numbers of folds; give such as 3,5,10")
    return tuple(sorted({int(word) for word in words}))


def _holdouts(text: str | None) -> tuple[int, float] | None:
    if text is None:
        return None
    from raysearch.data.splits.split_creation import holdouts_of

    found = holdouts_of(text)
    if found is None:
        raise DataError(f"--holdout {text!r}: not TIMESxSHARE; give such as 5x0.2")
    return found


def _summary(split_manifest: SplitManifest) -> dict[str, object]:
    return {
        "task": split_manifest.task,
        "by": split_manifest.by,
        "seed": split_manifest.seed,
        "held_out": list(split_manifest.held_out),
        "schemes": {name: len(folds) for name, folds in split_manifest.schemes.items()},
        "counts": {name: list(counts) for name, counts in split_manifest.counts.items()},
        "leaks": list(split_manifest.leaks),
        "hash": split_manifest.hash,
    }


def _table(split_manifest: SplitManifest, class_names: tuple[str, ...], place: str) -> Table:
    table = Table(
        "split",
        f"{split_manifest.by}s judged",
        f"{split_manifest.by}s learned",
        *(f"{escape(name)} judged" for name in class_names),
        title=f"Ledger {escape(place)}, hash {split_manifest.hash[:12]}",
        title_justify="left",
    )
    held_out = split_manifest.counts.get("held_out", ())
    table.add_row(
        "held-out test set",
        f"{len(split_manifest.held_out):,}",
        "",
        *(f"{one:,}" for one in held_out),
    )
    for scheme, folds in split_manifest.schemes.items():
        for number, fold in enumerate(folds):
            counts = split_manifest.counts[f"{scheme}/{number}/judge"]
            table.add_row(
                f"{scheme}, fold {number}",
                f"{len(fold.judge):,}",
                f"{len(fold.learn):,}",
                *(f"{one:,}" for one in counts),
            )
    for leak in split_manifest.leaks:
        table.add_row("[yellow]leak[/]", escape(leak))
    return table
