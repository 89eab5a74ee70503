"""A study that is read from its folder: its trials, scores and champion."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raysearch.api.command_process import run_command
from raysearch.cli.results_csv import trial_table
from raysearch.config.custom_code import HASH_VARIABLE
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.names import DEFAULT_STUDIES, STUDIES_VARIABLE
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.metrics.interval import Interval
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study
from raysearch.selection.stored_intervals import read_intervals

if TYPE_CHECKING:
    import pandas as pd

    from raysearch.search.journal.history import Trial
    from raysearch.search.sampling.optuna_export import OptunaStudy


@dataclass(frozen=True)
class ChampionSummary:
    """The champion of a study.

    Attributes:
        trial: Name of the trial.
        hparams: Its hyperparameters.
        objective: The objective of its pooled out-of-fold scores, with an interval by patient; None
            if the interval is not stored.
        temperature: Calibration temperature of the logits.
        threshold: Smallest calibrated probability of the second class that counts as positive; None
            for more than two classes.
        model: Address of the model in MLflow's registry, once it is registered.
    """

    trial: str
    hparams: Hparams
    objective: Interval | None
    temperature: float
    threshold: float | None
    model: str


def load(name: str, studies: str | Path | None = None, *, allow_code: bool = False) -> Study:
    """Read the study `name`, which may be running.

    Args:
        name: The name of the study.
        studies: The folder or address with all studies. Default: the environment variable
            RAYSEARCH_STUDIES, else `studies`.
        allow_code: Whether to run the code of its author's that the study needs, such as a metric.

    Raises:
        StudyError: If there is no such study, or it is damaged.
    """
    return Study(name, studies_folder(studies), allow_code=allow_code)


def studies_folder(studies: str | Path | None) -> str:
    """Return the folder or address with all studies."""
    if studies is not None:
        return str(studies)
    return os.environ.get(STUDIES_VARIABLE) or DEFAULT_STUDIES


class Study:
    """A study as it was when it was read; `refresh` reads it again.

    Attributes:
        name: Name of the study.
        studies: The folder or address with all studies.

    Raises:
        StudyError: If there is no such study, or it is damaged.
    """

    def __init__(self, name: str, studies: str, *, allow_code: bool = False) -> None:
        self.name, self.studies = name, Folder(studies).address
        self._allow_code, self._code_hash = allow_code, ""
        self._folder = StudyFolder(f"{self.studies}/{name}")
        self.refresh()

    def refresh(self) -> None:
        """Read the study again."""
        self._snapshot = load_study(self._folder)
        code_hash = self._snapshot.plan.code.content_hash
        if self._code_hash not in ("", code_hash):
            raise StudyError(f"study {self.name!r} has other code than before; load it again")
        self._code_hash = code_hash
        self._intervals = read_intervals(self._folder, self._snapshot.history)

    @property
    def code_hash(self) -> str:
        """A hash of the code that is stored with the study, in hexadecimal."""
        return self._code_hash

    @property
    def trials(self) -> pd.DataFrame:
        """A row for each trial, the best first.

        The columns are those of `raysearch results --csv`: among them the state, the objective, the
        metrics of each fold (`fold_0/auroc`), the costs (`costs/parameters`) and the
        hyperparameters (`hparams/learning_rate`).
        """
        import pandas as pd

        header, rows = trial_table(self._snapshot.plan, self._snapshot.history, self._intervals)
        return pd.DataFrame([{**row} for row in rows], columns=header)

    @property
    def champion(self) -> ChampionSummary | None:
        """The champion; None before one is selected."""
        history = self._snapshot.history
        decision = history.champion_decision
        if history.champion is None or decision is None:
            return None
        return ChampionSummary(
            trial=history.champion,
            hparams=history.trials[history.champion].hparams,
            objective=self._intervals.get(history.champion),
            temperature=decision.temperature,
            threshold=decision.threshold,
            model=f"models:/{self.name}@champion",
        )

    def scores(self, trial: str | None = None) -> pd.DataFrame:
        """Return the out-of-fold scores of a trial: each by a network without the patient.

        Args:
            trial: The name of a trial that has finished all its folds. Default: the champion.

        Returns:
            A row for each scored patch, or slide: its number among those that the study reads
            (`row`; without the held-out test set and rows without a label), its patient, label and
            validation fold, and the probability of each class, `score_CLASS`, before calibration.

        Raises:
            StudyError: If the trial does not exist or has not finished, or its scores are damaged.
        """
        import pandas as pd

        from raysearch.search.study.fold_scores import out_of_fold

        plan = self._snapshot.plan
        scored = out_of_fold(self._folder, plan, self._finished_trial(trial))
        probabilities = {
            f"score_{name}": scored.probabilities[:, number]
            for number, name in enumerate(plan.class_names)
        }
        labels = [plan.class_names[label] for label in scored.labels]
        rows = {
            "row": scored.rows,
            "patient": scored.patients,
            "label": labels,
            "fold": scored.folds,
        }
        return pd.DataFrame({**rows, **probabilities})

    def _finished_trial(self, name: str | None) -> Trial:
        history = self._snapshot.history
        name = name or history.champion
        if name is None:
            raise StudyError(f"study {self.name!r} has no champion yet; name a trial")
        trial = history.trials.get(name)
        if trial is None or trial.status != "finished":
            finished = ", ".join(each.id for each in history.done()) or "none yet"
            raise StudyError(
                f"{name!r} is no finished trial of {self.name!r}; these are: {finished}"
            )
        return trial

    def report(self, out: str | Path | None = None, *, identifiers: bool = False) -> Path:
        """Write the report of the study, and return its path.

        As by `raysearch report`, it is also sent to the study's run in MLflow, unless it shows
        identifiers.

        Args:
            out: The page. Default: NAME.html.
            identifiers: Whether the report shows the identifiers of patients, slides and files
                instead of pseudonyms.

        Raises:
            StudyError: If the study has no champion, or the page cannot be written.
        """
        path = Path(out or f"{self.name}.html")
        words = ["report", f"--studies={self.studies}", f"--out={path}", "--json"]
        options = ["--identifiers"] if identifiers else []
        words = [*words, *options, *self._code_options, "--", self.name]
        run_command(words, variables=self._variables)
        return path

    def select(
        self,
        *,
        margin: float | None = None,
        threshold_by: str | None = None,
        repeats: int | None = None,
        ensemble: bool | None = None,
        with_encoder: bool | None = None,
    ) -> ChampionSummary:
        """Select the champion again, register its model, and return it.

        The arguments are the options of `raysearch select`; None stands for their defaults.

        Raises:
            StudyError: If an option is invalid, or no trial has finished.
        """
        values = {"--margin": margin, "--threshold-by": threshold_by, "--repeats": repeats}
        options = [f"{option}={value}" for option, value in values.items() if value is not None]
        if ensemble is not None:
            options.append("--ensemble" if ensemble else "--refit")
        if with_encoder is not None:
            options.append("--with-encoder" if with_encoder else "--without-encoder")
        options += self._code_options
        words = ["select", *options, f"--studies={self.studies}", "--json", "--", self.name]
        run_command(words, variables=self._variables)
        self.refresh()
        if self.champion is None:
            raise StudyError(f"study {self.name!r} has no champion")
        return self.champion

    @property
    def _code_options(self) -> list[str]:
        """The option of a command by which it may run the code of the study's author."""
        return ["--allow-code"] if self._allow_code else []

    @property
    def _variables(self) -> dict[str, str]:
        """The variable of a command by which it runs the code of this study alone."""
        return {HASH_VARIABLE: self._code_hash} if self._allow_code else {}

    def to_optuna(self) -> OptunaStudy:
        """Return the searched trials as an `optuna.Study` in memory."""
        with warnings.catch_warnings():
            # Of tqdm, which Optuna imports, in a notebook without ipywidgets.
            warnings.filterwarnings("ignore", "IProgress not found")
            from raysearch.search.sampling.optuna_export import ExportedStudy, optuna_study

        plan, history = self._snapshot.plan, self._snapshot.history
        return optuna_study(
            ExportedStudy(self.name, plan.space, plan.fingerprint, plan.identity, history)
        )

    def __repr__(self) -> str:
        history = self._snapshot.history
        return (
            f"Study({self.name!r}, {len(history.searched())} trials, champion"
            f" {history.champion or 'not selected'})"
        )
