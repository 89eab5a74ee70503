"""The plan of a study: everything it will do, frozen and printable before it starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from raysearch.config.space import Space
from raysearch.data.shards.rows import ALL, View
from raysearch.data.splits.folds import Fold
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.training.precision_settings import PrecisionSettings

FORMAT = 2
# The folds of each split scheme, by their number.
Splits = Mapping[int, Sequence[Fold]]


@dataclass(frozen=True)
class Split:
    """A split scheme of a study.

    Args:
        folds: Number of folds.
        hash: Hash of the folds.
        patients: Number of validation patients of each fold.
        patches: Number of validation patches of each fold.
        rungs: Fold-epochs at which trials with so many folds are compared.
    """

    folds: int
    hash: str
    patients: tuple[int, ...]
    patches: tuple[int, ...]
    rungs: tuple[int, ...]


@dataclass(frozen=True)
class Auxiliary:
    """A folder of auxiliary shards.

    Args:
        data: Address of the shards.
        fingerprint: Hash of the shards.
        rows: Number of their visible patches.
        held_out: Their own test patients, which are not trained on either.
        warnings: What the user should know about them.
    """

    data: str
    fingerprint: str
    rows: int
    held_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def view(self) -> View:
        """The rows that a study sees of them."""
        return View(held_out=self.held_out)


@dataclass(frozen=True)
class Plan:
    """What `launch` executes, and what `--dry-run` prints.

    Args:
        name: Name of the study.
        identity: A random identifier, different for each study, even of the same name.
        space: The search space.
        data: Address of the shards.
        fingerprint: Hash of the shards.
        shape: Height, width and channels of a patch.
        class_names: Names of the classes.
        class_counts: Visible patches of each class.
        splits: The split schemes of the trials.
        view: The rows that the study sees, without the held-out test set.
        split_manifest: Hash of the split manifest that defines the folds and the view.
        auxiliary: Other shards that are trained on and never validated on.
        warnings: What the user should know about the data.
        git_commit: Commit of the installed source; empty if it is no git checkout.
        precision_settings: How each architecture computes, by kind of device and architecture;
            empty until the probes ran.
    """

    name: str
    identity: str
    space: Space
    data: str
    fingerprint: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    splits: tuple[Split, ...]
    view: View = ALL
    split_manifest: str = ""
    auxiliary: tuple[Auxiliary, ...] = ()
    warnings: tuple[str, ...] = ()
    git_commit: str = ""
    precision_settings: Mapping[str, Mapping[str, PrecisionSettings]] = field(default_factory=dict)

    @property
    def max_fold_epochs(self) -> int:
        """The largest cost of the search, the benchmark and a refit, without the repeats."""
        folds = max(split.folds for split in self.splits)
        trials = self.space.trials * self.total_fold_epochs(folds)
        if self.space.budget.fold_epochs is not None:
            trials = min(trials, self.space.budget.fold_epochs)
        return trials + self.total_fold_epochs(folds) + self.refit_epochs

    @property
    def repeat_fold_epochs(self) -> int:
        """The largest cost of repeating the champion's cross-validation with new seeds."""
        return self.space.repeats * max(
            self.total_fold_epochs(split.folds) for split in self.splits
        )

    @property
    def refit_epochs(self) -> int:
        """The cost of a refit; 0 if the champion is an ensemble."""
        return self.space.epochs if self.space.champion == "refit" else 0

    def total_fold_epochs(self, folds: int) -> int:
        """The fold-epochs of a trial that trains all its `folds` folds."""
        return folds * self.space.epochs

    def split(self, folds: int) -> Split:
        """The split scheme with `folds` folds."""
        return next(split for split in self.splits if split.folds == folds)

    def precision_for(self, device_kind: str, architecture: str) -> PrecisionSettings:
        """How `architecture` computes on a kind of device; the default if no probe ran there."""
        return self.precision_settings.get(device_kind, {}).get(architecture, PrecisionSettings())

    def with_precision(
        self, precision_settings: Mapping[str, Mapping[str, PrecisionSettings]]
    ) -> Plan:
        """This plan with the results of the probes."""
        return replace(self, precision_settings=precision_settings)

    def dump(self) -> bytes:
        """The plan as JSON with a hash of its content; the same bytes for the same plan."""
        content = record_to_json(self) | {"format": FORMAT}
        return json.dumps({**content, "hash": _hash(content)}, indent=1, sort_keys=True).encode()


def load_plan(content: bytes) -> Plan:
    """Load the plan that `Plan.dump` wrote.

    Raises:
        StudyError: If it is damaged or of another format.
    """
    try:
        fields = json.loads(content)
        stored_hash = fields.pop("hash")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise StudyError("damaged; restore the plan from a copy or start a new study") from None
    plan_format = fields.get("format", 1)
    if stored_hash != _hash(fields):
        raise StudyError("damaged; restore the plan from a copy or start a new study")
    if plan_format != FORMAT:
        raise StudyError(
            f"plan format {plan_format}, but this version of raysearch reads format {FORMAT};"
            " use the version that launched the study, or start a new study"
        )
    del fields["format"]
    return record_from_json(Plan, fields)


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
