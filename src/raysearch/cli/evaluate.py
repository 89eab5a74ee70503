"""`raysearch evaluate`: evaluates a model on an external test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    IdentifiersOption,
    JsonOption,
    OpenOption,
    StudiesOption,
    check_out_folder,
    make_console,
    open_page,
    trust_stored_code,
)
from raysearch.data.file_access import write_file

if TYPE_CHECKING:
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.testing.evaluation_run import EvaluationOutcome


def evaluate(
    address: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A study's name, models:/NAME@champion, or a model's folder."
        ),
    ],
    data: Annotated[
        str, typer.Argument(metavar="SHARDS", help="Labeled shards from `raysearch shard`.")
    ],
    task: Annotated[str, typer.Option(help="The task whose labels are the truth.")] = "label",
    name: Annotated[
        str | None, typer.Option(help="Name of the test set. Default: the name of its folder.")
    ] = None,
    class_map: Annotated[
        str,
        typer.Option(
            help="The model's names of the shards' classes, such as 0=negative,1=positive."
        ),
    ] = "",
    other_patients: Annotated[
        bool,
        typer.Option(
            "--other-patients",
            help="Declare that patients with the names of training patients are other patients.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write the result to this page.")
    ] = None,
    identifiers: IdentifiersOption = False,
    open_in_browser: OpenOption = False,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Evaluate a model on an external test set.

    The patches must have the size and the classes of the model. A test set that shares patients or
    pixels with the training data is rejected; file names and patches of a single color prove
    nothing. A study stores the results of its champion, and its
    report shows them.

    Example: `raysearch evaluate first data/pcam`
    """
    trust_stored_code(allow_code)
    check_out_folder(out)
    from raysearch.cli.progress_bar import step_progress
    from raysearch.data.files import Folder
    from raysearch.data.shards.shard_manifest import read_manifest
    from raysearch.data.sources.class_map import parse_class_map
    from raysearch.search.journal.study_folder import StudyFolder

    manifest = read_manifest(Folder(data))
    manifest.classes_of(task)
    class_names = parse_class_map(class_map)
    console = make_console(stderr=as_json)
    with console.status("Importing torch and MLflow"):
        from raysearch.cli.evaluation_text import (
            print_evaluation,
            print_evaluation_json,
            print_tracking_error,
        )
        from raysearch.inference.model_loading import load_model
        from raysearch.testing.evaluation_run import evaluate_external
        from raysearch.testing.external_test_set import ExternalTestSet

    folder = StudyFolder(f"{studies}/{address}")
    model = load_model(address, studies)
    external = ExternalTestSet(data, task, name, class_names, other_patients)
    study_folder = folder if folder.exists(folder.PLAN) else None
    with step_progress(f"Reading the {manifest.unit}") as on_progress:
        outcome = evaluate_external(model, study_folder, external, on_progress)
    if open_in_browser and out is None:
        out = Path(f"{outcome.record.name}.html")
    if out is not None:
        _write_page(out, outcome, model.study, identifiers=identifiers)
    if open_in_browser and out is not None:
        open_page(out)
    record, evaluation = outcome.record, outcome.evaluation
    if as_json:
        print_evaluation_json(outcome)
        return 0
    print_evaluation(f"External test set {record.name}", record, evaluation, console)
    print_tracking_error(outcome.tracking_error, console)
    return 0


def _write_page(
    out: Path, outcome: EvaluationOutcome, study: StudyFolder | None, *, identifiers: bool
) -> None:
    from raysearch.data.pseudonyms import last_part
    from raysearch.reports.displayed_names import displayed_names
    from raysearch.reports.evaluation_page import evaluation_page
    from raysearch.reports.study_report import evaluate_set

    record = outcome.record
    text = f"The external test set {last_part(record.data)}, evaluated with {record.model}."
    test_set = evaluate_set(
        record.name, text, outcome.scored, notes=record.notes, is_calibrated=True
    )
    title = f"{record.model} on {test_set.name}"
    names = displayed_names(study, identifiers=identifiers)
    write_file(out, evaluation_page(title, [test_set], names).encode())
