"""Writes the report of a study as one self-contained page, and adds it to MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from raysearch.analysis.search_figures import study_figures
from raysearch.analysis.stored_importances import ImportancesByFolds, read_importances
from raysearch.config.report_interval import trial_epochs
from raysearch.data.file_access import write_file
from raysearch.data.pseudonyms import DisplayedNames, last_part
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.errors import UserError
from raysearch.inference.model_loading import load_model
from raysearch.metrics.row_units import PATCHES, SLIDES, singular
from raysearch.models.encoders.encoder_files import EncoderFileError
from raysearch.reports.answer_tables import answer_tables
from raysearch.reports.chart_canvas import Chart
from raysearch.reports.displayed_names import displayed_names
from raysearch.reports.evaluation_page import evaluation_section
from raysearch.reports.evaluation_tables import hparams_summary, interval_text, number
from raysearch.reports.headline import value_table
from raysearch.reports.html_page import Table, render_page
from raysearch.reports.learning_curve_chart import learning_curve_chart
from raysearch.reports.model_card import ModelCard, card_markdown, model_card
from raysearch.reports.report_pictures import ReportPictures, report_pictures
from raysearch.reports.search_page import search_section
from raysearch.reports.slides_page import slides_page
from raysearch.reports.study_report import StudyReport, repeats_text, study_report
from raysearch.reports.trial_charts import ranking_chart, shown_candidates
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.tracking.parent_run import RunContent, log_to_parent_run
from raysearch.search.tracking.tracking_store import default_store

# The ranking chart shows this many trials and the selected one; the table below it shows all.
MAX_TRIALS = 12
PACKAGES = ("raysearch", "torch", "torchvision", "ray", "optuna")


COMPUTING, WRITING = "Computing the metrics", "Writing the page"


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes:
        notes: The notes of the report.
        tracking_error: The error if the tracking store did not accept the report.
        slides: The page with the slides of the held-out test set; None if there is none.
    """

    notes: tuple[str, ...]
    tracking_error: Exception | None
    slides: Path | None = None


@dataclass(frozen=True)
class SelectionSection:
    """The section on the selection of the champion.

    Attributes:
        metric: The objective's metric.
        margin: The margin of non-inferiority.
        tied: The trials that are tied with the best one.
        corrected: The bias-corrected estimate of the best trial's objective.
        chart: The chart of the best trials and the selected one.
        num_hidden: The number of trials that only the table shows.
        table: The table of all finished trials.
        answers: Tables of the best trial of each value of a choice.
    """

    metric: str
    margin: str
    tied: tuple[str, ...]
    corrected: str
    chart: Chart
    num_hidden: int
    table: Table
    answers: tuple[Table, ...]


def write_report(
    name: str,
    studies: str,
    out: Path,
    card_answers: Mapping[str, str],
    *,
    identifiers: bool = False,
    on_progress: StepCallback = ignore_progress,
) -> WrittenReport:
    """Write the report of a study to a file, and add it to the study's run in MLflow.

    If the champion was evaluated on the held-out test set, and positions are known, the maps of its
    slides are in a second page beside the report, `NAME-slides.html`. With identifiers, the pages
    are for their reader only, and are not added to MLflow.

    If the patches or the weights are gone, the report has no pictures, and a note says so.

    Args:
        name: The name of the study.
        studies: The folder or address with all studies.
        out: The file; an existing one is replaced.
        card_answers: The authors' answers to topics of the model card.
        identifiers: Whether the report shows the identifiers of patients and slides; if not, it
            shows their pseudonyms.
        on_progress: Called with what is done, and with the number of explained patches.

    Raises:
        StudyError: If the study has no champion.
        EncoderFileError: If the weights of its frozen encoder are needed, and not on this machine.
    """
    folder = StudyFolder(f"{studies}/{name}")
    names = displayed_names(folder, identifiers=identifiers)
    on_progress(StepProgress(COMPUTING, 0, 0, PATCHES))
    report = study_report(folder)
    importances = read_importances(folder, report.plan, report.history)
    notes = [
        *report.notes,
        *(
            f"{evaluated.name}: {note.text}"
            for evaluated in report.sets
            for note in evaluated.notes
        ),
    ]
    try:
        pictures = report_pictures(report, load_model(name, studies), names, on_progress)
    except EncoderFileError:
        raise
    except UserError as error:
        pictures = ReportPictures()
        notes.append(f"no pictures: {error}")
    try:
        slides = slides_page(report, names, on_progress)
    except UserError as error:
        slides = None
        notes.append(f"no maps of the slides of the test set: {error}")
    on_progress(StepProgress(WRITING, 0, 0, PATCHES))
    card = model_card(report, card_answers, names)
    slides_file = None if slides is None else out.with_name(f"{out.stem}-slides.html")
    page = report_page(report, importances, pictures, card, names, slides_file).encode()
    if slides is not None and slides_file is not None:
        write_file(slides_file, slides.encode())
    write_file(out, page)
    if identifiers:
        return WrittenReport(tuple(notes), None, slides_file)
    files = {"report.html": page, "card.md": card_markdown(card).encode(), **pictures.files}
    if slides is not None and slides_file is not None:
        files[slides_file.name] = slides.encode()
    tracking_error = log_to_parent_run(report.plan, default_store(), RunContent(files=files))
    return WrittenReport(tuple(notes), tracking_error, slides_file)


def report_page(
    report: StudyReport,
    importances: ImportancesByFolds,
    pictures: ReportPictures,
    card: ModelCard,
    names: DisplayedNames,
    slides_file: Path | None = None,
) -> str:
    """Render the page of the report of a study.

    Its main part shows the held-out test set; without one, an external test set; without any, the
    study's own folds.

    Args:
        report: The content of the report.
        importances: The importances of the hyperparameters.
        pictures: The pictures of errors and of a slide.
        card: The model card.
        names: The displayed names of patients and slides.
        slides_file: The page with the slides of the held-out test set, beside the report; None if
            there is none.
    """
    plan = report.plan
    main_set = report.held_out or next(iter(report.external), report.out_of_fold)
    return render_page(
        "report_page.html",
        title=f"Report of {plan.name}",
        facts=tuple(_facts(report)),
        selection=_selection_section(report),
        main=evaluation_section(main_set, names),
        other_sections=[
            evaluation_section(evaluated, names)
            for evaluated in report.sets
            if evaluated is not main_set
        ],
        values=value_table(report),
        learning_curves=learning_curve_chart(
            report.champion, trial_epochs(plan.space, report.champion.hparams)
        ),
        pictures=pictures,
        slides_page="" if slides_file is None else slides_file.name,
        is_of_slides=plan.unit == SLIDES,
        card=card,
        notes=report.notes,
        search_sections=[
            search_section(group, plan.unit)
            for group in study_figures(plan, report.history, importances)
        ],
    )


def _facts(report: StudyReport) -> Iterator[tuple[str, str]]:
    """Yield name and text of each fact at the top of the page."""
    plan, history, champion = report.plan, report.history, report.champion
    decision, view = report.decision, report.plan.view
    yield "champion", f"{champion.id}: {hparams_summary(champion.hparams)}"
    rule = f"temperature {decision.temperature:.3f}"
    if decision.threshold is not None:
        rule += f", threshold {decision.threshold:.3f} (maximizes {decision.criterion})"
    yield "decision rule", rule
    yield "repeats with new seeds", repeats_text(report) or "none"
    if decision.kind == "ensemble":
        networks = f"the mean of {champion.folds} networks, one for each fold of the first repeat"
    else:
        networks = "one network, trained on all development patients"
    yield "registered model", networks
    yield "trials", f"{len(history.searched()):,} searched, {len(history.done()):,} finished"
    counts = zip(plan.class_names, plan.class_counts, strict=True)
    count_text = ", ".join(f"{count:,} {name}" for name, count in counts)
    num_patients = report.selection.num_patients
    yield (
        "development data",
        f"{last_part(plan.data)}; {plan.unit}: {count_text}; {num_patients:,} patients",
    )
    yield "held-out test set", f"{len(view.held_out):,} {view.by}s" if view.held_out else "none"
    split_hash = plan.splits[0].hash
    yield "fingerprints", f"data {plan.fingerprint[:12]}, split {split_hash[:12]}"
    yield "seed", str(plan.space.seed)
    yield "software", ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _selection_section(report: StudyReport) -> SelectionSection:
    selection, metric = report.selection, report.plan.space.metric
    rows = [
        [
            candidate.trial.id,
            number(candidate.objective.value),
            interval_text(candidate.objective),
            number(candidate.comparison.difference.value),
            "yes" if candidate.comparison.tied else "no",
            "-" if candidate.inference_ms is None else f"{candidate.inference_ms:.3g}",
            "yes" if candidate.trial is selection.chosen else "",
        ]
        for candidate in selection.candidates
    ]
    columns = ["trial", metric, "95 % CI by patient", "difference from best", "tied"]
    table = Table("", [*columns, f"ms per {singular(report.plan.unit)}", "selected"], rows)
    return SelectionSection(
        metric=metric,
        margin=f"{selection.margin:g}",
        tied=tuple(candidate.trial.id for candidate in selection.tied),
        corrected=str(selection.corrected),
        chart=ranking_chart(metric, selection, MAX_TRIALS),
        num_hidden=len(selection.candidates) - len(shown_candidates(selection, MAX_TRIALS)),
        table=table,
        answers=answer_tables(report.answers, metric),
    )
