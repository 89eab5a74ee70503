"""A champion judged on a set that did not choose it, as the study's folder keeps it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.files import Folder
from raysearch.data.patches import Rows
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.evaluation import Scored
from raysearch.search.journal.study_folder import StudyFolder

SCORES, ABOUT = "scores.parquet", "about.json"
# The name of the study's own test set among those that it was judged on.
HELD_OUT = "held_out"


@dataclass(frozen=True)
class About:
    """What was judged, by whom and when (`at`, ISO 8601).

    `in_context` is the AUROC with what the patches near each one say, by the context that was
    fitted on the study's folds; None where it is not known of each where it lies.

    `name` is the set's, `held_out` for the study's own; `opening` tells how often that was opened,
    `notes` what is to be known before its figures are believed. `seed` is an ensemble's, None of a
    refit.
    """

    name: str
    data: str
    fingerprint: str
    model: str
    trial: str
    at: str
    class_names: tuple[str, ...]
    threshold: float | None
    opening: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seed: int | None = None
    in_context: Interval | None = None


def keep(folder: StudyFolder, about: About, rows: Rows, scored: Scored) -> None:
    """Write the scores of `rows`, and then what they are `about`, into the study's folder."""
    place = folder.evaluation(about.name)
    columns: dict[str, Any] = {
        "patient": pa.array(rows.patients.tolist(), pa.string()),
        "slide": pa.array(rows.slides.tolist(), pa.string()),
        "x": pa.array(rows.xs),
        "y": pa.array(rows.ys),
        "label": pa.array(rows.labels),
    }
    for number, name in enumerate(about.class_names):
        columns[f"score_{name}"] = pa.array(scored.probabilities[:, number])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    folder.write(f"{place}/{SCORES}", bytes(sink.getvalue()))
    folder.write(f"{place}/{ABOUT}", json.dumps(asdict(about), indent=1).encode())


def kept(folder: StudyFolder) -> list[About]:
    """All sets that the study in `folder` was judged on, its own test set first."""
    found = [
        _about(folder, name)
        for name in folder.names(folder.EVALUATIONS)
        if folder.exists(f"{folder.evaluation(name)}/{ABOUT}")
    ]
    return sorted(found, key=lambda one: (one.name != HELD_OUT, one.at))


def _about(folder: StudyFolder, name: str) -> About:
    place = f"{folder.evaluation(name)}/{ABOUT}"
    try:
        told = json.loads(folder.read(place))
        lists = {one: tuple(told[one]) for one in ("class_names", "notes")}
        near = told.get("in_context")
        return About(**{**told, **lists, "in_context": Interval(**near) if near else None})
    except (ValueError, TypeError, KeyError):
        raise StudyError(f"{folder.path(place)}: damaged; judge that set again") from None


def scores_of(folder: StudyFolder, about: About) -> Scored:
    """The rows of the set with their scores; StudyError where the file is missing or damaged."""
    place = f"{folder.evaluation(about.name)}/{SCORES}"
    try:
        content = io.BytesIO(folder.read(place))
        table = pq.read_table(content, page_checksum_verification=True)
        scores = [table[f"score_{name}"].to_numpy() for name in about.class_names]
    except (FileNotFoundError, KeyError, pa.ArrowException):
        raise StudyError(
            f"{folder.path(place)}: missing or damaged; judge that set again"
        ) from None
    return Scored(
        table["label"].to_numpy(),
        np.column_stack(scores),
        np.array(table["patient"].to_pylist(), np.str_),
        about.class_names,
        about.threshold,
    )


def set_name(data: str) -> str:
    """What the shards at `data` are called among the sets: the last part of their address."""
    return Folder(data).address.rsplit("/", 1)[-1]
