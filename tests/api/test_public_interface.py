"""The names and the signatures of the public Python API, which programs of users rely on.

A change here is a change for users: it belongs in the changelog.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import raysearch
from raysearch.errors import DataError, SpaceError, StorageError, StudyError, UserError

SIGNATURES = {
    "launch": (
        "(space: 'Space | str | Path | None' = None, data: 'str | Path | None' = None, *,"
        " name: 'str | None' = None, trials: 'int | str | None' = None, seed: 'int | None' = None,"
        " overrides: 'Sequence[str]' = (), resume: 'bool' = False,"
        " studies: 'str | Path | None' = None, memory: 'str | Path | None' = None,"
        " progress: 'bool' = True) -> 'Study'"
    ),
    "load": (
        "(name: 'str', studies: 'str | Path | None' = None, *, allow_code: 'bool' = False)"
        " -> 'Study'"
    ),
    "Space": "(folder: 'str | Path | None' = None, /, **keys: 'object') -> 'None'",
    "Space.read": "(path: 'str | Path', overrides: 'Iterable[str]' = ()) -> 'Space'",
    "Space.to_yaml": "(self) -> 'str'",
    "Space.write": "(self, path: 'str | Path') -> 'None'",
    "Space.folder": "(self) -> 'Path'",
    "Space.hyperparameters": "(self) -> 'dict[str, str]'",
    "Space.settings": "(self) -> 'validated.Space'",
    "Study": "(name: 'str', studies: 'str', *, allow_code: 'bool' = False) -> 'None'",
    "Study.code_hash": "(self) -> 'str'",
    "Study.refresh": "(self) -> 'None'",
    "Study.trials": "(self) -> 'pd.DataFrame'",
    "Study.champion": "(self) -> 'ChampionSummary | None'",
    "Study.scores": "(self, trial: 'str | None' = None) -> 'pd.DataFrame'",
    "Study.report": (
        "(self, out: 'str | Path | None' = None, *, identifiers: 'bool' = False) -> 'Path'"
    ),
    "Study.select": (
        "(self, *, margin: 'float | None' = None, threshold_by: 'str | None' = None,"
        " repeats: 'int | None' = None, ensemble: 'bool | None' = None,"
        " with_encoder: 'bool | None' = None) -> 'ChampionSummary'"
    ),
    "Study.to_optuna": "(self) -> 'OptunaStudy'",
    "ChampionSummary": (
        "(trial: 'str', hparams: 'Hparams', objective: 'Interval | None', temperature: 'float',"
        " threshold: 'float | None', model: 'str') -> None"
    ),
}
CHAMPION_FIELDS = ("trial", "hparams", "objective", "temperature", "threshold", "model")
# The columns of every study's trials; a study has more, such as those of each fold.
COLUMNS = {"trial", "kind", "state", "reason", "champion", "objective"}
SCORE_COLUMNS = ["row", "patient", "label", "fold", "score_negative", "score_positive"]


def public_signatures() -> dict[str, str]:
    """The signature of each public function, class, method and property, by its name."""
    signatures = {}
    for name in raysearch.__all__:
        member = getattr(raysearch, name)
        signatures[name] = str(inspect.signature(member))
        for public in vars(member) if inspect.isclass(member) else ():
            if public.startswith("_") or public in CHAMPION_FIELDS:
                continue
            attribute = inspect.getattr_static(member, public)
            function = attribute.fget if isinstance(attribute, property) else None
            signature = inspect.signature(function or getattr(member, public))
            signatures[f"{name}.{public}"] = str(signature)
    return signatures


def test_names_and_signatures_are_those_that_programs_rely_on() -> None:
    assert public_signatures() == SIGNATURES
    summary = fields(raysearch.ChampionSummary)
    assert tuple(field.name for field in summary) == CHAMPION_FIELDS


def test_the_errors_have_one_base() -> None:
    for error in (SpaceError, DataError, StorageError, StudyError):
        assert issubclass(error, UserError)
    assert not issubclass(UserError, (OSError, ValueError))


def test_tables_have_the_columns_that_programs_rely_on(studies: str) -> None:
    study = raysearch.load("first", studies)
    assert {*map(str, study.trials)} >= COLUMNS
    assert [*map(str, study.scores())] == SCORE_COLUMNS
    assert study.name == "first"
    assert study.studies == str(Path(studies))
