"""The paths of the files of a study, in one class."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil

from raysearch.data.files import Folder

_SHA256 = re.compile(r"[0-9a-f]{64}")


class StudyFolder(Folder):
    """A study's folder, on a local path or any fsspec address.

    | name | content | written by |
    |---|---|---|
    | `plan.json`, `splits.json` | what the study does | the launcher, once |
    | `memory.json` | the trials of earlier studies, to learn from | the launcher, once |
    | `journal/` | the events of the study | the launcher |
    | `journal.head` | how far the journal is, to detect that it was set back | the launcher |
    | `checkpoints/TRIAL.pt` | the last state of a running trial | the trial's worker |
    | `scores/TRIAL/EPOCH-HASH.parquet` | validation scores at each rung | the trial's worker |
    | `repeats/TRIAL/SEED/scores-FOLD.parquet` | a repeat's validation scores of a fold | a worker |
    | `repeats/TRIAL/SEED/fold-FOLD.pt` | its network, with its pre-processing | that worker |
    | `unfinished/NAME.pt` | the last state of a refit, or of a fold of a repeat | that worker |
    | `features/` | chunks of features that machines exchange before the search | the workers |
    | `champion.pt` | the refitted champion, with its pre-processing | the worker that refits |
    | `evaluations/SET/` | the champion's scores of another set | `test`, `evaluate` |
    | `importances.json` | the hyperparameter importances | the launcher, at the end |
    | `intervals.json` | the intervals of the finished trials' objectives | `launch`, `select` |
    | `pseudonyms.key` | the key of the patients' pseudonyms | `launch`, `select`, `report` |
    | `requests/` | requests of the user that are not in the journal yet | `stop` |
    | `launcher.lock` | which launcher runs the study | the launcher |
    | `logs/` | the logs of the launcher and the workers | the launcher |
    """

    PLAN = "plan.json"
    SPLITS = "splits.json"
    MEMORY = "memory.json"
    JOURNAL = "journal"
    JOURNAL_HEAD = "journal.head"
    CHECKPOINTS = "checkpoints"
    SCORES = "scores"
    REPEATS = "repeats"
    UNFINISHED = "unfinished"
    FEATURES = "features"
    CHAMPION = "champion.pt"
    EVALUATIONS = "evaluations"
    IMPORTANCES = "importances.json"
    INTERVALS = "intervals.json"
    PSEUDONYM_KEY = "pseudonyms.key"
    LOGS = "logs"
    REQUESTS = "requests"
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
        """Replace the last checkpoint of `trial` by `state` at once; see `write_state`."""
        self.write_state(self.checkpoint(trial), state)

    def write_state(self, name: str, state: bytes) -> None:
        """Replace the file `name` by the state of a training at once.

        Raises:
            OSError: If less than `RESERVED_BYTES` of a local disk would remain free.
        """
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

    def write_hashed(self, name: str, content: bytes) -> str:
        """Write the file `name`, and return its SHA-256 in hex, for the journal."""
        self.write(name, content)
        return hashlib.sha256(content).hexdigest()

    def read_verified(self, name: str, sha256: str | None) -> bytes:
        """Read the file `name`.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If its SHA-256 is not `sha256`, the one in the journal.
        """
        content = self.read(name)
        if sha256 is None:
            raise ValueError("the journal does not name it")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its SHA-256 is not the one in the journal")
        return content

    def scores(self, trial: str, epoch: int, sha256: str) -> str:
        """The file of the validation scores of `trial` after `epoch` fold-epochs.

        A trial that starts again while its first worker is only delayed has two workers for a
        while. The name contains the hash, so that neither replaces the file of the other.

        Raises:
            ValueError: If `sha256` is not one.
        """
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256[:80]!r} is not a SHA-256")
        return f"{self.SCORES}/{trial}/{epoch:05d}-{sha256[:8]}.parquet"

    def write_scores(self, trial: str, epoch: int, content: bytes) -> str:
        """Write a file of validation scores, and return its SHA-256 in hex, for the journal."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.write(self.scores(trial, epoch, sha256), content)
        return sha256

    def repeat_scores(self, trial: str, seed: int, fold: int) -> str:
        """The file of the validation scores of `trial` with a repeat `seed` in `fold`."""
        return f"{self.REPEATS}/{trial}/{seed}/scores-{fold}.parquet"

    def repeat_network(self, trial: str, seed: int, fold: int) -> str:
        """The file of the network of `trial` with a repeat `seed` in `fold`."""
        return f"{self.REPEATS}/{trial}/{seed}/fold-{fold}.pt"

    def refit_checkpoint(self, trial: str, attempt: int) -> str:
        """The file of the last checkpoint of a refit of `trial`, in its `attempt` from 0."""
        return f"{self.UNFINISHED}/{trial}-refit-{attempt}.pt"

    def refit_result(self, trial: str, attempt: int) -> str:
        """The file of the weights of an `attempt` to refit `trial` that is followed by another."""
        return f"{self.UNFINISHED}/{trial}-refit-{attempt}-weights.pt"

    def repeat_checkpoint(self, trial: str, seed: int, fold: int) -> str:
        """The file of the last checkpoint of `trial` with a repeat `seed` in `fold`."""
        return f"{self.UNFINISHED}/{trial}-{seed}-{fold}.pt"

    def remove_unfinished(self, prefix: str) -> None:
        """Remove the states of refits and repeats whose file names begin with `prefix`."""
        for name in self.names(self.UNFINISHED):
            if name.startswith(prefix):
                self.remove(f"{self.UNFINISHED}/{name}")
