"""Every path of a study, in one class."""

from __future__ import annotations

from raysearch.data.files import Folder


class StudyFolder(Folder):
    """A study's folder, on a local path or any fsspec address.

    | name | what | written by |
    |---|---|---|
    | `plan.json`, `splits.json` | what the study does | the launcher, once |
    | `journal/` | all that happened | the launcher |
    | `checkpoints/TRIAL.pt` | a running trial's last state | the trial's worker |
    | `scores/TRIAL/EPOCH.parquet` | validation scores at each rung | the trial's worker |
    | `champion.pt` | the refitted champion's weights | the worker that refits |
    | `logs/` | the launcher's log, the workers' logs | the launcher |
    """

    PLAN = "plan.json"
    SPLITS = "splits.json"
    JOURNAL = "journal"
    CHECKPOINTS = "checkpoints"
    SCORES = "scores"
    CHAMPION = "champion.pt"
    LOGS = "logs"
    LOCK = "launcher.lock"

    @property
    def name(self) -> str:
        """The study's name: the last part of the address."""
        return self.address.rsplit("/", 1)[-1]

    def checkpoint(self, trial: str) -> str:
        """The name of the last checkpoint of `trial`."""
        return f"{self.CHECKPOINTS}/{trial}.pt"

    def scores(self, trial: str, epoch: int) -> str:
        """The name of the validation scores of `trial` after `epoch` fold-epochs."""
        return f"{self.SCORES}/{trial}/{epoch:05d}.parquet"
