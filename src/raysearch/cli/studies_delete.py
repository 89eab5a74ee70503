"""`raysearch studies delete`: deletes studies with their runs and registered models."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.json_output import print_json
from raysearch.cli.options import STUDIES, JsonOption, StudiesOption, make_console
from raysearch.config.names import NAME
from raysearch.errors import StudyError, UserError, without_passwords

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.study_deletion import StudyFiles
    from raysearch.search.tracking.run_deletion import StudyDeletion, TrackedStudy


@dataclass(frozen=True)
class DeletedStudy:
    """A study that is to be deleted.

    Args:
        folder: Its folder.
        files: What is in it.
        identity: Its identity; None if its plan is missing or damaged.
        deletion: Deletes its runs; None if they are kept or cannot be identified.
        tracked: Its runs and model versions; None with `deletion`.
    """

    folder: StudyFolder
    files: StudyFiles
    identity: str | None
    deletion: StudyDeletion | None
    tracked: TrackedStudy | None


@dataclass(frozen=True)
class DeletionRecord:
    """What was deleted of a study, as it is printed in JSON."""

    study: str
    folder: str
    num_files: int
    num_bytes: int
    num_runs: int
    model_versions: tuple[str, ...]


def delete_studies(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The studies.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_runs: Annotated[
        bool, typer.Option("--keep-runs", help="Keep the runs and models in MLflow.")
    ] = False,
    folder: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Delete studies: their folders, their MLflow runs, their model versions.

    A running study is not deleted. The shards, the splits and the test-set access log stay, and so
    do runs and model versions of other studies. `mlflow gc` frees the files of deleted runs. If the
    command is interrupted, the same command deletes the rest.

    Example: `raysearch studies delete first second`
    """
    console = make_console(stderr=as_json)
    chosen = [_find(folder, name, keep_runs, console) for name in dict.fromkeys(names)]
    for study in chosen:
        console.print(escape(_text(study)), soft_wrap=True, highlight=False)
    if not yes and not _is_confirmed(len(chosen)):
        console.print("Nothing is deleted.")
        return 1
    for study in chosen:
        _delete(study)
        console.print(f"Deleted {escape(study.folder.name)}", soft_wrap=True, highlight=False)
    if as_json:
        print_json({"deleted": [_deletion_record(study) for study in chosen]})
    return 0


def _find(studies: str, name: str, keep_runs: bool, console: Console) -> DeletedStudy:
    """Return what the deletion of a study removes; every name is checked before any deletion."""
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import read_plan
    from raysearch.search.study.study_deletion import deletable_files

    if not NAME.fullmatch(name):
        raise StudyError(f"{name!r}: not the name of a study; `raysearch studies` lists them")
    folder = StudyFolder(f"{studies}/{name}")
    files = deletable_files(folder)
    try:
        identity = read_plan(folder).identity
    except UserError:
        return DeletedStudy(folder, files, None, None, None)
    if keep_runs:
        return DeletedStudy(folder, files, identity, None, None)
    with console.status("Importing MLflow"):
        from raysearch.search.tracking.run_deletion import StudyDeletion
        from raysearch.search.tracking.tracking_store import default_store

    deletion = StudyDeletion(default_store(), name, identity)
    return DeletedStudy(folder, files, identity, deletion, deletion.find())


def _text(study: DeletedStudy) -> str:
    """Return in one line what is removed of a study, and its size."""
    from raysearch.cli.study_state import size_text

    files = study.files
    text = f"{study.folder.name}: {files.num_files:,} files, {size_text(files.num_bytes)}"
    if files.unknown:
        text += f", {len(files.unknown)} names that no study has among them ({files.unknown[0]})"
    text += f", in {study.folder.address}"
    if study.identity is None:
        return f"{text}; its plan cannot be read, so its MLflow runs are not known and stay"
    if study.tracked is None or study.deletion is None:
        return f"{text}; its MLflow runs stay"
    runs, versions = study.tracked.num_runs, len(study.tracked.versions)
    store = without_passwords(study.deletion.store)
    return f"{text}; {runs:,} MLflow runs and {versions} model versions in {store}"


def _is_confirmed(num_studies: int) -> bool:
    if not sys.stdin.isatty():
        raise StudyError("nobody can be asked, because the input is no terminal; add --yes")
    studies = "this study" if num_studies == 1 else f"these {num_studies} studies"
    return typer.confirm(f"Delete {studies}?", err=True)


def _delete(study: DeletedStudy) -> None:
    """Delete a study while no launcher can start it; its runs first, as its plan names them."""
    from raysearch.search.study.launcher_lock import launcher_lock
    from raysearch.search.study.study_deletion import delete_files

    with launcher_lock(study.folder):
        if study.deletion is not None:
            study.deletion.delete()
        delete_files(study.folder, study.identity)


def _deletion_record(study: DeletedStudy) -> DeletionRecord:
    tracked = study.tracked
    return DeletionRecord(
        study=study.folder.name,
        folder=study.folder.address,
        num_files=study.files.num_files,
        num_bytes=study.files.num_bytes,
        num_runs=0 if tracked is None else tracked.num_runs,
        model_versions=() if tracked is None else tracked.versions,
    )
