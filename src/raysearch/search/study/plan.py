"""Everything a study will do, frozen and printable before anything starts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.config.names import NAME
from raysearch.config.space import FOLDS, Space, space_from
from raysearch.data.patches import Rows, load_rows
from raysearch.data.splits.folds import Fold, fold_indices, split_hash
from raysearch.data.splits.split_creation import split_manifest_for
from raysearch.data.splits.split_manifest import SplitManifest
from raysearch.data.view import ALL, View
from raysearch.errors import DataError, SpaceError, StudyError
from raysearch.metrics.classification import score
from raysearch.models.architectures import reject_unfit, reject_weights
from raysearch.search.scheduling.cost_estimate import expected_fold_epochs
from raysearch.search.scheduling.policy import rule_of
from raysearch.search.study.auxiliary_data import Auxiliary, find_auxiliary
from raysearch.training.components import DEFAULTS
from raysearch.training.numerics import Numerics

# The folds of each scheme, by their number.
Splits = Mapping[int, Sequence[Fold]]


@dataclass(frozen=True)
class Split:
    """The folds of one number of folds: which patients each judges, and the split's hash."""

    folds: int
    hash: str
    patients: tuple[int, ...]
    patches: tuple[int, ...]
    rungs: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What `launch` executes, and `--dry-run` prints.

    `identity` tells this study from every other, also of the same name. `data` is the
    address of the shards, `fingerprint` the hash over them, `view` what of them it may see, by the
    split manifest with the hash `split_manifest`; counts are of what is seen. `auxiliary` is only learned from.
    `numerics` maps a kind of device and
    an architecture to how it computes there; it is empty until the probes ran.
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
    numerics: Mapping[str, Mapping[str, Numerics]] = field(default_factory=dict)

    @property
    def max_fold_epochs(self) -> int:
        """The most it can cost: every trial and the benchmark to the end, and a refit.

        Fresh seeds come after it: `repeat_fold_epochs`.
        """
        folds = max(split.folds for split in self.splits)
        trials = self.space.trials * folds * self.space.epochs
        if self.space.budget.fold_epochs is not None:
            trials = min(trials, self.space.budget.fold_epochs)
        return trials + folds * self.space.epochs + self._refit_epochs

    @property
    def expected_fold_epochs(self) -> int:
        """About what it will cost, reckoned with drawn curves, with the benchmark and a refit."""
        folds = min(split.folds for split in self.splits)
        searched = expected_fold_epochs(self.space)
        return searched + folds * self.space.epochs + self._refit_epochs

    @property
    def repeat_fold_epochs(self) -> int:
        """The most that training the champion again with fresh seeds takes, beside the search."""
        return self.space.repeats * max(split.folds for split in self.splits) * self.space.epochs

    @property
    def _refit_epochs(self) -> int:
        return self.space.epochs if self.space.champion == "refit" else 0

    def whole(self, folds: int) -> int:
        """The fold-epochs of a trial over `folds` folds that runs to its end."""
        return folds * self.space.epochs

    def split(self, folds: int) -> Split:
        """The split into `folds` folds."""
        return next(split for split in self.splits if split.folds == folds)

    def numerics_for(self, kind: str, architecture: str) -> Numerics:
        """How `architecture` computes on the kind of device `kind`; plain where nobody tried."""
        return self.numerics.get(kind, {}).get(architecture, Numerics())

    def with_numerics(self, found: Mapping[str, Mapping[str, Numerics]]) -> Plan:
        """This plan with what the probes found."""
        return replace(self, numerics=found)

    def dump(self) -> bytes:
        """The plan as JSON with a hash of it, the same bytes for the same plan."""
        fields = asdict(self)
        return json.dumps({**fields, "hash": _hash(fields)}, indent=1, sort_keys=True).encode()


@dataclass(frozen=True)
class NewStudyFiles:
    """What a new study writes down beside its plan.

    `splits` are its folds by their number; `split_manifest` is the shards' own, None where they have it.
    """

    splits: Splits
    split_manifest: SplitManifest | None = None


def load_plan(content: bytes) -> Plan:
    """The plan that `Plan.dump` gave; ValueError or KeyError where it is not as it was."""
    stored = json.loads(content)
    if stored.pop("hash") != _hash(stored):
        raise ValueError("the plan's hash does not match it")
    for name in ("shape", "class_names", "class_counts", "warnings"):
        stored[name] = tuple(stored[name])
    stored["space"] = space_from(stored["space"])
    stored["auxiliary"] = tuple(
        Auxiliary(**{**one, "held_out": tuple(one["held_out"]), "warnings": tuple(one["warnings"])})
        for one in stored["auxiliary"]
    )
    stored["view"] = View(**{**stored["view"], "held_out": tuple(stored["view"]["held_out"])})
    stored["splits"] = tuple(
        Split(
            one["folds"],
            one["hash"],
            tuple(one["patients"]),
            tuple(one["patches"]),
            tuple(one["rungs"]),
        )
        for one in stored["splits"]
    )
    stored["numerics"] = {
        kind: {name: Numerics(**one) for name, one in found.items()}
        for kind, found in stored["numerics"].items()
    }
    return Plan(**stored)


def _hash(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def make_plan(
    space: Space, name: str, data: str, split_manifest: SplitManifest | None = None
) -> tuple[Plan, Splits]:
    """The plan of the study `name` over the shards at `data`, and its splits by number of folds.

    They are those of `split_manifest`, or of the one that the shards have or would be given.

    DataError for shards or folds that cannot be used, SpaceError for a name that cannot be one,
    and for architectures that cannot take these patches.
    """
    if not NAME.fullmatch(name):
        raise SpaceError(
            f"--name {name!r}: not a name; use letters, digits, '.', '_' and '-', 100 at most"
        )
    split_manifest = split_manifest or split_manifest_of(space, data)[0]
    view = View(split_manifest.task, split_manifest.by, split_manifest.held_out)
    rows = load_rows(data, view)
    for architecture, hparams in space.largest_nets().items():
        reject_unfit(architecture, rows.shape, hparams)
        # The benchmark trial begins with none, whatever the others do.
        if architecture in space.values_of("architecture", DEFAULTS["architecture"]):
            for weights in space.weights_of(architecture):
                reject_weights(architecture, rows.shape, {**hparams, "weights": weights})
    splits = {
        len(split_manifest.schemes[name]): split_manifest.schemes[name] for name in space.schemes()
    }
    if space.validation != FOLDS:
        space = space.over(*splits)
    whole, most = min(splits) * space.epochs, space.budget.fold_epochs
    if most is not None and most < whole:
        raise SpaceError(
            f"budget.fold_epochs: {most} is less than the {whole} that one trial takes over its"
            f" folds; give {whole} or more"
        )
    told_splits = tuple(_split(space, rows, view.by, folds) for folds in splits.values())
    counts = tuple(int((rows.labels == one).sum()) for one in range(len(rows.class_names)))
    auxiliary = tuple(find_auxiliary(one, view, data) for one in space.auxiliary)
    told = [f"auxiliary {one.data}: {warning}" for one in auxiliary for warning in one.warnings]
    plan = Plan(
        name=name,
        identity=uuid.uuid4().hex,
        space=space,
        data=data,
        fingerprint=rows.fingerprint,
        shape=rows.shape,
        class_names=tuple(rows.class_names),
        class_counts=counts,
        splits=told_splits,
        view=view,
        split_manifest=split_manifest.hash,
        auxiliary=auxiliary,
        warnings=(*rows.warnings, *split_manifest.leaks, *told),
        git_commit=_git_commit(),
    )
    return plan, splits


def split_manifest_of(space: Space, data: str) -> tuple[SplitManifest, bool]:
    """The split manifest that a study of `space` over the shards at `data` goes by, and if it is new."""
    return split_manifest_for(data, space.split, space.task, space.schemes())


def reject_changes(stored: Plan, now: Plan) -> None:
    """StudyError with every difference between a study's plan and the one asked for now."""
    before, after = stored.space.flat(), now.space.flat()
    for number, (one, other) in enumerate(zip(stored.auxiliary, now.auxiliary, strict=False)):
        before[f"auxiliary {number}"] = one.fingerprint[:12]
        after[f"auxiliary {number}"] = other.fingerprint[:12]
    before |= {"data": stored.fingerprint[:12], "split": stored.splits[0].hash[:12]}
    after |= {"data": now.fingerprint[:12], "split": now.splits[0].hash[:12]}
    changed = [
        f"{name} was {before.get(name, 'absent')}, is {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if changed:
        raise StudyError(
            f"study {stored.name!r} cannot be resumed with another space: {'; '.join(changed)};"
            " put it back, or launch under another --name"
        )


def _split(space: Space, rows: Rows, by: str, folds: Sequence[Fold]) -> Split:
    """What the plan says of `folds`; DataError where the objective is not defined in one."""
    groups = rows.groups(by)
    sides, there = fold_indices(groups, folds), set(groups.tolist())
    for number, one in enumerate(sides):
        _reject_empty_class(space, rows, number, one)
    return Split(
        folds=len(folds),
        hash=split_hash(folds),
        patients=tuple(len(there.intersection(fold.judge)) for fold in folds),
        patches=tuple(len(judged) for _learned, judged in sides),
        rungs=rule_of(space).levels(len(folds)),
    )


def _reject_empty_class(
    space: Space, rows: Rows, number: int, sides: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> None:
    """DataError where a class is missing in fold `number`, and that is no way to learn or judge."""
    learned, judged = (
        np.bincount(rows.labels[one], minlength=len(rows.class_names)) for one in sides
    )
    if not learned.all():
        raise DataError(
            f"fold {number} learns from no {rows.class_names[int(learned.argmin())]}; choose other"
            " folds, or more patients"
        )
    if not judged.all() and not _defined(space.metric, rows.labels[sides[1]], rows.class_names):
        raise DataError(
            f"fold {number} is judged by no {rows.class_names[int(judged.argmin())]}, where"
            f" {space.metric} is not defined; choose `objective: {{metric: log_loss}}`, brier or"
            " accuracy, or folds of more patients"
        )


def _defined(metric: str, labels: NDArray[np.int64], class_names: Sequence[str]) -> bool:
    even = np.full((len(labels), len(class_names)), 1 / len(class_names))
    return score(labels, even, class_names)[metric] is not None


def _git_commit() -> str:
    """The commit of the installed source; empty where it is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
