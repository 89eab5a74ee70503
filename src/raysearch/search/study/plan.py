"""The plan of a study: everything it will do, frozen and printable before it starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from raysearch.config.custom_code import NO_CODE, UserCode
from raysearch.config.json_values import parse_json
from raysearch.config.names import NAME
from raysearch.config.space import Space
from raysearch.config.stored_space import stored_space_error
from raysearch.data.shards.rows import ALL, View
from raysearch.data.shards.shard_manifest import TileSettings
from raysearch.data.splits.folds import Fold
from raysearch.errors import StudyError, shortened
from raysearch.models import row_unit
from raysearch.models.encoders.encoder import Encoder
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.training.precision_settings import PrecisionSettings

# Format 2 has no hashes of weights, and no encoders; format 3 has no code of the user's.
# Format 4 has no memory; format 5 has no prior; format 6 has no settings of tiles.
FORMAT, READ_FORMATS = 7, (2, 3, 4, 5, 6, 7)
# The folds of each split scheme, by their number.
Splits = Mapping[int, Sequence[Fold]]


@dataclass(frozen=True)
class Split:
    """A split scheme of a study.

    Args:
        folds: Number of folds.
        hash: Hash of the folds.
        patients: Number of validation patients of each fold.
        patches: Number of validation patches, or slides, of each fold.
        rungs: Fold-epochs at which trials with so many folds are compared; those of the largest
            number of epochs if trials differ in it.
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
class WeightsFile:
    """A file of pretrained weights.

    Args:
        architecture: The architecture that starts from it.
        weights: The hyperparameter `weights`: `imagenet`, or the path of the file.
        sha256: The hash of its content, in hexadecimal.
    """

    architecture: str
    weights: str
    sha256: str


@dataclass(frozen=True)
class MemorySource:
    """An earlier study that the search learns from.

    Args:
        name: Its name.
        num_trials: Its trials that reported an objective.
        num_shared: The patients, or other groups, of this study that it trained or validated on.
    """

    name: str
    num_trials: int
    num_shared: int = 0


@dataclass(frozen=True)
class OmittedStudy:
    """An earlier study that the search does not learn from, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Memory:
    """The earlier studies of a plan.

    Args:
        sources: Those that the search learns from.
        omitted: The others.
        sha256: The hash of the file with the trials of the sources; empty if there are none.
    """

    sources: tuple[MemorySource, ...] = ()
    omitted: tuple[OmittedStudy, ...] = ()
    sha256: str = ""


NOTHING = Memory()


@dataclass(frozen=True)
class Plan:
    """What `launch` executes, and what `--dry-run` prints.

    Args:
        name: Name of the study.
        identity: A random identifier, different for each study, even of the same name.
        space: The search space.
        data: Address of the shards.
        fingerprint: Hash of the shards.
        shape: Height, width and channels of a patch; of bags (patches, features, 1).
        class_names: Names of the classes.
        class_counts: Visible patches, or slides, of each class.
        splits: The split schemes of the trials.
        view: The rows that the study sees, without the held-out test set.
        split_manifest: Hash of the split manifest that defines the folds and the view.
        auxiliary: Other shards that are trained on and never validated on.
        warnings: What the user should know about the data.
        git_commit: Commit of the installed source; empty if it is no git checkout.
        precision_settings: How each architecture computes, by kind of device and architecture;
            empty until the probes ran.
        weights: The files of pretrained weights that trials start from.
        encoders: The pretrained encoders of the space. Every worker builds its networks by these
            descriptions, and not by the files of its machine.
        code: The functions of the user's own that it runs.
        memory: The earlier studies that the search learns from.
        tile_settings: How slides were cut into the patches; None if the patches are no tiles.
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
    weights: tuple[WeightsFile, ...] = ()
    encoders: tuple[Encoder, ...] = ()
    code: UserCode = NO_CODE
    memory: Memory = NOTHING
    tile_settings: TileSettings | None = None

    @property
    def unit(self) -> str:
        """What a row of the study is: `SLIDES` or `PATCHES`."""
        return row_unit(self.shape)

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
        """The most fold-epochs of a trial that trains all its `folds` folds."""
        return folds * self.space.epochs

    def require_metrics(self) -> None:
        """Allow the code of the study, if it has metrics of its own.

        Raises:
            CodeNotAllowedError: If this process may not run it.
        """
        if self.space.custom_metrics:
            self.code.require(f"study {self.name!r}")

    def split(self, folds: int) -> Split:
        """The split scheme with `folds` folds."""
        return next(split for split in self.splits if split.folds == folds)

    def encoder(self, architecture: str) -> Encoder | None:
        """Return the description of a pretrained encoder; None of any other network."""
        return next((each for each in self.encoders if each.name == architecture), None)

    def weights_hash(self, architecture: str, weights: str) -> str:
        """Return the SHA-256 of the pretrained `weights` of `architecture`; empty if unknown."""
        return next(
            (
                file.sha256
                for file in self.weights
                if (file.architecture, file.weights) == (architecture, weights)
            ),
            "",
        )

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
        fields = parse_json(content)
        if not isinstance(fields, dict):
            raise ValueError("no mapping")
    except ValueError:
        raise StudyError("damaged; restore the plan from a copy or start a new study") from None
    stored_hash, plan_format = fields.pop("hash", None), fields.pop("format", None)
    if plan_format is None and stored_hash == _hash(fields):
        plan_format = 1
    if stored_hash != _hash(fields | {"format": plan_format}):
        _reject_other_format(plan_format)
        raise StudyError("damaged; restore the plan from a copy or start a new study")
    if plan_format not in READ_FORMATS:
        _reject_other_format(plan_format)
        raise StudyError("damaged; restore the plan from a copy or start a new study")
    plan = record_from_json(Plan, fields)
    error = _contradiction(plan)
    if error is not None:
        raise StudyError(f"{error}; restore the plan from a copy or start a new study")
    return plan


def _reject_other_format(plan_format: object) -> None:
    """Raise StudyError for another format than this version's, whose hash may be another, too."""
    if type(plan_format) is not int or plan_format in READ_FORMATS:
        return
    advice = (
        "update raysearch"
        if plan_format > FORMAT
        else "use the version that launched the study, or start a new study"
    )
    raise StudyError(
        f"plan format {shortened(plan_format)}, but this version of raysearch reads format"
        f" {FORMAT}; {advice}"
    )


def _contradiction(plan: Plan) -> str | None:
    """Return which field of a plan contradicts another one, or is out of its range; None if none.

    The hash detects damage; whoever forges a plan also writes the right hash.
    """
    folds = [split.folds for split in plan.splits]
    if not folds or len(set(folds)) < len(folds) or min(folds) < 1:
        return "its split schemes have no numbers of folds"
    for split in plan.splits:
        if not len(split.patients) == len(split.patches) == split.folds:
            return f"the split scheme with {split.folds} folds has other counts"
    if not plan.class_names or len(plan.class_counts) != len(plan.class_names):
        return "its classes and their counts do not match"
    if not NAME.fullmatch(plan.name):
        return "its name is not the name of a study"
    if min(plan.shape) < 1:
        return "its patches have no size"
    return stored_space_error(plan.space) or _code_contradiction(plan)


def _code_contradiction(plan: Plan) -> str | None:
    """Return what is wrong with the code of the user's in a plan; None if nothing is."""
    named = {component.name for component in plan.space.components}
    if named.union(plan.space.custom_metrics) != set(plan.code.import_paths):
        return "its code is not that of its components"
    return None


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
