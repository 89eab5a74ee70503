"""`raysearch studies`: lists, exports, imports and deletes studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.command_table import CONTEXT_SETTINGS
from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    JsonOption,
    StudiesOption,
    StudyArgument,
    command_line_value,
    make_console,
)
from raysearch.cli.studies_delete import delete_studies
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.cli.study_state import StudySummary
    from raysearch.search.journal.study_folder import StudyFolder


class ExportFormat(StrEnum):
    """What `studies export` writes."""

    ARCHIVE = "archive"
    OPTUNA = "optuna"


studies = typer.Typer(
    add_completion=False,
    context_settings=CONTEXT_SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@studies.callback(invoke_without_command=True)
def list_studies(
    context: typer.Context, folder: StudiesOption = STUDIES, as_json: JsonOption = False
) -> int:
    """List, export, import and delete studies.

    Without a command, the studies of a folder are listed, the newest first.

    Example: `raysearch studies --studies s3://bucket/studies`
    """
    if context.invoked_subcommand is not None:
        if command_line_value(context, "folder") is not None:
            raise StudyError(
                f"--studies before `{context.invoked_subcommand}` has no effect; give it after"
            )
        return 0
    return print_studies(folder, as_json)


def print_studies(folder: str, as_json: bool) -> int:
    """Print the studies of `folder`, the newest first; return the exit code."""
    from raysearch.cli.study_paths import newest_name
    from raysearch.cli.study_state import starting_names, summary
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import study_names

    starting = starting_names(folder)
    if not starting:
        newest_name(folder)  # reports a folder without studies
    names = [*starting, *reversed(study_names(folder))]
    # A study that has just started has its plan, and is in both lists.
    summaries = [summary(StudyFolder(f"{folder}/{name}")) for name in dict.fromkeys(names)]
    if as_json:
        print_json({"studies": [asdict(study) for study in summaries]})
        return 0
    make_console().print(_studies_table(summaries))
    return 0


def _studies_table(summaries: Sequence[StudySummary]) -> Table:
    from raysearch.cli.study_state import size_text

    table = Table("study", "state", "trials", "objective", "best", "champion")
    table.add_column("size", justify="right")
    for study in summaries:
        cells = ["-", "-", "-", escape(study.error)]
        if not study.error:
            best = "-" if study.best is None else f"{study.best:.4f}"
            trials = f"{study.num_started}/{study.num_planned}"
            cells = [trials, study.metric, best, study.champion or "-"]
        table.add_row(escape(study.name), study.state, *cells, size_text(study.num_bytes))
    return table


@studies.command("export", no_args_is_help=True)
def export_study(
    name: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The new file.")],
    file_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="`archive`: all files of the study, for `raysearch studies import`."
            " `optuna`: its trials as an Optuna journal, for `optuna-dashboard`.",
        ),
    ] = ExportFormat.ARCHIVE,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="With `--format optuna`: append to the file while the study runs, until it ends."
            " A file of the same study is continued.",
        ),
    ] = False,
    folder: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Export a study as one file.

    With `--follow`, `optuna-dashboard` shows a study while it runs. Ctrl-C ends the command, not
    the study; the same command continues the file.

    Example: `raysearch studies export quickstart quickstart.log --format optuna --follow`
    """
    if not out.parent.is_dir():
        raise StudyError(f"{out}: no folder {out.parent}; create it, or name another")
    from raysearch.search.journal.study_folder import StudyFolder

    if follow:
        if file_format is not ExportFormat.OPTUNA:
            raise StudyError("--follow: an archive is written once; add --format optuna")
        return _follow(folder, name, out, as_json)
    study_folder = StudyFolder(f"{folder}/{name}")
    left_out: Sequence[str] = ()
    if file_format is ExportFormat.OPTUNA:
        content = {"num_trials": _export_for_optuna(study_folder, out)}
    else:
        from raysearch.cli.progress_bar import file_progress
        from raysearch.search.study.study_archive import export_archive

        with file_progress("Exporting", "files") as update:
            export = export_archive(study_folder, out, update)
        content, left_out = {"num_files": export.num_files}, export.left_out
    if as_json:
        _print_export(name, out, file_format, content, left_out)
        return 0
    console = make_console()
    if left_out:
        console.print(
            f"Left out: {len(left_out)} files that no study has, such as {escape(left_out[0])}",
            soft_wrap=True,
        )
    [(kind, number)] = content.items()
    text = f"{number} {kind.removeprefix('num_')} in {escape(str(out))}"
    console.print(text, soft_wrap=True)
    return 0


def _print_export(
    name: str,
    out: Path,
    file_format: ExportFormat,
    content: Mapping[str, int | None],
    left_out: Sequence[str] = (),
) -> None:
    record = {"study": name, "file": out, "format": file_format.value}
    print_json({**record, **content, "left_out": left_out})


def _follow(studies: str, name: str, out: Path, as_json: bool) -> int:
    """Keep `out` up to date until the study ends or a signal arrives; return the exit code."""
    from raysearch.cli.local_study import end_text, local_study
    from raysearch.cli.studies_follow import follow_export

    folder, console = local_study(studies, name), make_console()

    def print_line(text: str) -> None:
        if not as_json:
            console.print(text, soft_wrap=True, markup=False, highlight=False)

    export = follow_export(folder, out, print_line)
    if as_json:
        _print_export(name, out, ExportFormat.OPTUNA, {"num_trials": export.num_trials})
    if export.signum is not None:
        count = export.num_trials
        state = "was not updated" if count is None else f"has {count} trials"
        print_line(f"Interrupted; {out} {state}. The same command continues it.")
        return 128 + export.signum
    print_line(f"{export.num_trials} trials in {out}")
    print_line(end_text(folder))
    return 0


def _export_for_optuna(folder: StudyFolder, out: Path) -> int:
    from raysearch.search.sampling.optuna_export import ExportedStudy, export_study
    from raysearch.search.study.stored_study import load_study

    study = load_study(folder)
    plan = study.plan
    exported = ExportedStudy(plan.name, plan.space, plan.fingerprint, plan.identity, study.history)
    return export_study(exported, out)


studies.command("delete", no_args_is_help=True)(delete_studies)


@studies.command("import", no_args_is_help=True)
def import_study(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `studies export`.")],
    folder: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Import a study that `raysearch studies export` wrote.

    Example: `raysearch studies import quickstart.zip`
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such file; give a file of `raysearch studies export`")
    from raysearch.cli.progress_bar import file_progress
    from raysearch.search.study.study_archive import import_archive

    with file_progress("Importing", "files") as update:
        study_folder = import_archive(path, folder, update)
    if as_json:
        print_json({"study": study_folder.name, "folder": study_folder.address})
        return 0
    console = make_console()
    console.print(f"Study {escape(study_folder.name)} in {escape(folder)}", soft_wrap=True)
    return 0
