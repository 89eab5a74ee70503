"""The paths of the files of a study, in one class."""

from __future__ import annotations

import errno
import shutil

from raysearch.data.files import Folder


class StudyFolder(Folder):
    """A study's folder, on a local path or any fsspec address.

    | name | content | written by |
    |---|---|---|
    | `plan.json`, `splits.json` | what the study does | the launcher, once |
    | `journal/` | the events of the study | the launcher |
    | `checkpoints/TRIAL.pt` | the last state of a running trial | the trial's worker |
    | `scores/TRIAL/EPOCH.parquet` | validation scores at each rung | the trial's worker |
    | `repeats/TRIAL/SEED/scores-FOLD.parquet` | a repeat's validation scores of a fold | a worker |
    | `repeats/TRIAL/SEED/fold-FOLD.pt` | its network, with its pre-processing | that worker |
    | `champion.pt` | the refitted champion, with its pre-processing | the worker that refits |
    | `evaluations/SET/` | the champion's scores of another set | `test`, `evaluate` |
    | `importances.json` | the hyperparameter importances | the launcher, at the end |
    | `launcher.lock` | which launcher runs the study | the launcher |
    | `logs/` | the logs of the launcher and the workers | the launcher |
    """

    PLAN = "plan.json"
    SPLITS = "splits.json"
    JOURNAL = "journal"
    CHECKPOINTS = "checkpoints"
    SCORES = "scores"
    REPEATS = "repeats"
    CHAMPION = "champion.pt"
    EVALUATIONS = "evaluations"
    IMPORTANCES = "importances.json"
    LOGS = "logs"
    LOCK = "launcher.lock"
    # A checkpoint leaves so many bytes of a local disk to the journal.
    RESERVED_BYTES = 2**20

    @property
    def name(self) -> str:
        """The study's name: the last part of the address."""
        return self.address.rsplit("/", 1)[-1]

    def checkpoint(self, trial: str) -> str:
        """The file of the last checkpoint of `trial`."""
        return f"{self.CHECKPOINTS}/{trial}.pt"

    def evaluation(self, name: str) -> str:
        """The folder with the champion's scores of the set `name`."""
        return f"{self.EVALUATIONS}/{name}"

    def write_checkpoint(self, trial: str, state: bytes) -> None:
        """Replace the last checkpoint of `trial` by `state` at once.

        Raises:
            OSError: If less than `RESERVED_BYTES` of a local disk would remain free.
        """
        name = self.checkpoint(trial)
        if self.is_local:
            free = shutil.disk_usage(self.local).free
            if free < len(state) + self.RESERVED_BYTES:
                raise OSError(
                    errno.ENOSPC,
                    f"a checkpoint of {len(state):,} bytes does not fit into the {free:,} free"
                    " bytes",
                    self.path(name),
                )
        self.write(name, state)

    def scores(self, trial: str, epoch: int) -> str:
        """The file of the validation scores of `trial` after `epoch` fold-epochs."""
        return f"{self.SCORES}/{trial}/{epoch:05d}.parquet"

    def repeat_scores(self, trial: str, seed: int, fold: int) -> str:
        """The file of the validation scores of `trial` with a repeat `seed` in `fold`."""
        return f"{self.REPEATS}/{trial}/{seed}/scores-{fold}.parquet"

    def repeat_network(self, trial: str, seed: int, fold: int) -> str:
        """The file of the network of `trial` with a repeat `seed` in `fold`."""
        return f"{self.REPEATS}/{trial}/{seed}/fold-{fold}.pt"
