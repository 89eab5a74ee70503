"""`raysearch split`: the ledger of a set of shards, written once."""

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
    from raysearch.data.splits.split_manifest import Ledger


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
    name: Annotated[str | None, typer.Option(help="The ledger's. Default: the task's.")] = None,
    allow_leak: Annotated[
        str | None, typer.Option(help="Patients that may stand on both sides, with commas.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Choose a sealed test set and folds, by patient, and write them down with a hash.

    Example: `raysearch split data/idc --folds 5,10`
    """
    from raysearch.data.files import Folder
    from raysearch.data.patches import load_rows
    from raysearch.data.splits.official_splits import official_ledger
    from raysearch.data.splits.split_creation import (
        Wish,
        make_ledger,
        patients_aside,
        sealed_patients,
    )
    from raysearch.data.view import View

    chosen = task if name is None else name
    _refuse_name(data, chosen)
    wish = Wish(
        by=by,
        folds=_numbers(folds),
        leave_one_out=leave_one_out,
        holdouts=_holdouts(holdout),
        test_share=test,
        seed=seed,
        allowed=tuple(allow_leak.split(",")) if allow_leak else (),
    )
    if not (wish.folds or leave_one_out or wish.holdouts or official):
        raise DataError("--folds: none; give such as 3,5,10, or --leave-one-out, or --holdout")
    rows, sealed = load_rows(data, View(task)), sealed_patients(data)
    if official:
        ledger = official_ledger(rows, task, wish, official)
    else:
        ledger = make_ledger(rows, task, wish, patients_aside(data, sealed, seed))
    notes = _notes(ledger, rows, sealed)
    ledger.write(Folder(data), chosen)
    if as_json:
        sys.stdout.write(json.dumps({**_summary(ledger), "notes": notes}) + "\n")
    else:
        _show(_table(ledger, rows.class_names, f"{data}/splits/{chosen}.json"), notes)
    return 0


def _refuse_name(data: str, name: str) -> None:
    """DataError where the shards at `data` cannot have a new ledger `name`."""
    from raysearch.data.files import Folder
    from raysearch.data.splits.split_manifest import has_ledger

    if not NAME.fullmatch(name):
        raise DataError(f"--name {name!r}: not a name; use letters, digits, '.', '_' and '-'")
    if has_ledger(Folder(data), name):
        raise DataError(
            f"{data}: has a ledger {name!r} already, and studies may be built on it; choose"
            " another --name"
        )


def _show(table: Table, notes: list[str]) -> None:
    console = make_console()
    console.print(table)
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)


def _notes(ledger: Ledger, rows: Rows, sealed: frozenset[str]) -> list[str]:
    """What of the ledger is easily overlooked."""
    groups = rows.groups(ledger.by)
    folds = [fold for scheme in ledger.schemes.values() for fold in scheme]
    used = set().union(*(fold.learn + fold.judge for fold in folds))
    learned = set(rows.patients[np.isin(groups, sorted(used))].tolist())
    notes = []
    if sealed & learned:
        notes.append(
            f"{len(sealed & learned):,} patients that another ledger seals are learned or judged"
            " here; --test and --official have a test set of their own"
        )
    left = set(groups.tolist()) - used - set(ledger.sealed)
    if left and ledger.schemes:
        notes.append(
            f"{len(left):,} of {len(set(groups.tolist())):,} {ledger.by}s stand in none of these"
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


def _summary(ledger: Ledger) -> dict[str, object]:
    return {
        "task": ledger.task,
        "by": ledger.by,
        "seed": ledger.seed,
        "sealed": list(ledger.sealed),
        "schemes": {name: len(folds) for name, folds in ledger.schemes.items()},
        "counts": {name: list(counts) for name, counts in ledger.counts.items()},
        "leaks": list(ledger.leaks),
        "hash": ledger.hash,
    }


def _table(ledger: Ledger, class_names: tuple[str, ...], place: str) -> Table:
    table = Table(
        "split",
        f"{ledger.by}s judged",
        f"{ledger.by}s learned",
        *(f"{escape(name)} judged" for name in class_names),
        title=f"Ledger {escape(place)}, hash {ledger.hash[:12]}",
        title_justify="left",
    )
    sealed = ledger.counts.get("sealed", ())
    table.add_row("sealed test set", f"{len(ledger.sealed):,}", "", *(f"{one:,}" for one in sealed))
    for scheme, folds in ledger.schemes.items():
        for number, fold in enumerate(folds):
            counts = ledger.counts[f"{scheme}/{number}/judge"]
            table.add_row(
                f"{scheme}, fold {number}",
                f"{len(fold.judge):,}",
                f"{len(fold.learn):,}",
                *(f"{one:,}" for one in counts),
            )
    for leak in ledger.leaks:
        table.add_row("[yellow]leak[/]", escape(leak))
    return table
