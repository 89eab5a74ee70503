"""A report written: its page, and the same as artifacts in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raysearch.errors import UserError
from raysearch.inference.model_loading import load_model
from raysearch.reports.galleries import Pictures, report_pictures
from raysearch.reports.model_card import card_text, model_card
from raysearch.reports.report_page import study_page
from raysearch.reports.study_report import study_report
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.tracking.parent_run import RunContent, log_to_parent_run
from raysearch.search.tracking.tracking_store import default_store


@dataclass(frozen=True)
class Reported:
    """What is to be known of the figures, and why MLflow does not have them, where it has not."""

    notes: tuple[str, ...]
    unsent: Exception | None


def write_report(
    folder: StudyFolder, name: str, studies: str, out: Path, said: Mapping[str, str]
) -> Reported:
    """Write the report of the study in `folder`, called `name` below `studies`, to `out`.

    `said` is what people say of the topics of its model card.
    Where its patches or weights have gone there are no pictures, and a note says so. StudyError
    where it has no champion.
    """
    report = study_report(folder)
    notes = list(report.notes)
    notes += [f"{one.name}: {note.text}" for one in report.sets for note in one.notes]
    try:
        pictures = report_pictures(report, load_model(name, studies))
    except UserError as error:
        pictures = Pictures()
        notes.append(f"no pictures: {error}")
    card = model_card(report, said)
    page = study_page(report, pictures, card).encode()
    beside = out.with_name(f".{out.name}.part")
    beside.write_bytes(page)
    beside.replace(out)
    files = {"report.html": page, "card.md": card_text(card).encode(), **pictures.files}
    return Reported(tuple(notes), log_to_parent_run(report.plan, default_store(), RunContent(files=files)))
