"""Every path of a study, in one class."""

from __future__ import annotations

import errno
import shutil

from raysearch.data.files import Folder


class StudyFolder(Folder):
    """A study's folder, on a local path or any fsspec address.

    | name | what | written by |
    |---|---|---|
    | `plan.json`, `splits.json` | what the study does | the launcher, once |
    | `journal/` | all that happened | the launcher |
    | `checkpoints/TRIAL.pt` | a running trial's last state | the trial's worker |
    | `scores/TRIAL/EPOCH.parquet` | validation scores at each rung | the trial's worker |
    | `again/TRIAL/SEED/scores-FOLD.parquet` | what it gave a fold with a fresh seed | a worker |
    | `again/TRIAL/SEED/fold-FOLD.pt` | that fold's net, and its pre-processing | the same worker |
    | `champion.pt` | the refitted champion, and its pre-processing | the worker that refits |
    | `evaluations/SET/` | the champion's scores of another set | `test`, `evaluate` |
    | `launcher.lock` | whose launch is under way | the launcher |
    | `logs/` | the launcher's log, the workers' logs | the launcher |
    """

    PLAN = "plan.json"
    SPLITS = "splits.json"
    JOURNAL = "journal"
    CHECKPOINTS = "checkpoints"
    SCORES = "scores"
    AGAIN = "again"
    CHAMPION = "champion.pt"
    EVALUATIONS = "evaluations"
    LOGS = "logs"
    LOCK = "launcher.lock"
    # Bytes.
    SPARE = 2**20

    @property
    def name(self) -> str:
        """The study's name: the last part of the address."""
        return self.address.rsplit("/", 1)[-1]

    def checkpoint(self, trial: str) -> str:
        """The name of the last checkpoint of `trial`."""
        return f"{self.CHECKPOINTS}/{trial}.pt"

    def evaluation(self, name: str) -> str:
        """The name of the folder with the champion's scores of the set `name`."""
        return f"{self.EVALUATIONS}/{name}"

    def keep(self, trial: str, state: bytes) -> None:
        """Make `state` the last checkpoint of `trial`; the one before stays until it is whole.

        OSError where a local disk would have less than `SPARE` left, which the journal needs.
        """
        name = self.checkpoint(trial)
        if self.is_local:
            free = shutil.disk_usage(self.local).free
            if free < len(state) + self.SPARE:
                raise OSError(
                    errno.ENOSPC,
                    f"a checkpoint of {len(state):,} bytes does not fit into the {free:,} that are"
                    " free",
                    self.path(name),
                )
        self.write(name, state)

    def scores(self, trial: str, epoch: int) -> str:
        """The name of the validation scores of `trial` after `epoch` fold-epochs."""
        return f"{self.SCORES}/{trial}/{epoch:05d}.parquet"

    def again_scores(self, trial: str, seed: int, fold: int) -> str:
        """The name of the scores that `trial` with a fresh `seed` gave the patches of `fold`."""
        return f"{self.AGAIN}/{trial}/{seed}/scores-{fold}.parquet"

    def again_net(self, trial: str, seed: int, fold: int) -> str:
        """The name of the net that `trial` with a fresh `seed` learned in `fold`."""
        return f"{self.AGAIN}/{trial}/{seed}/fold-{fold}.pt"
