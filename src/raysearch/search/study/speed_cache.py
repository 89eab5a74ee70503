"""What is known about the speed of the networks of a space on this machine, before a study starts.

A probe measures a few configurations of each architecture; the results are in the cache. No slow
library is imported here: a plan whose speeds are known appears at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from raysearch.config.hyperparameter_readers import network_hparams
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.config.json_values import dump_checked, parse_checked
from raysearch.config.names import FROZEN, NO_WEIGHTS, TRAINED_CLASSIFIERS, is_encoder
from raysearch.config.report_interval import report_interval, trial_epochs
from raysearch.data.cache_folder import cache_folder, private_folder
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json
from raysearch.search.sampling.sampled_configurations import feature_kinds, sampled_hparams
from raysearch.search.sampling.searched_networks import architectures_of, network_of
from raysearch.search.scheduling.epoch_seconds import EpochSeconds
from raysearch.search.study.plan import Plan
from raysearch.training.precision_settings import cpu_kind

# The folder of the results in the cache, and the number of their format.
SPEEDS, FORMAT = "speeds", 1
# So many configurations of a network are probed, by size: each represents a third of them.
NUM_PROBED = 3
# Of the configurations, these change the time of an epoch, beside those of the network.
TIMED_HPARAMS = frozenset(
    (
        *("batch_size", "optimizer", "preprocess", "clahe_tile_grid", "augment", "shift", "zoom"),
        *("rotation", "color_jitter", "stain_jitter", "cutout", "mixup_alpha", "ema_decay"),
        *("normalization", "frozen_blocks", "trained_blocks", "gradient_clip_norm"),
        *("feature_passes", "augmented_views", "lora_rank", "lora_targets"),
    )
)
DEFAULT_BATCH_SIZE = resolve({}).batch_size
GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class NetworkSpeed:
    """The measured speed of a configuration, in seconds per patch.

    Args:
        train_s: Of training: batch, augmentation, both passes and step.
        validation_s: Of one view in validation.
        preprocess_s: Of the preprocessing, once in a fold.
        features_s: Of the features of a frozen network, once on a node.
    """

    train_s: float
    validation_s: float
    preprocess_s: float
    features_s: float = 0.0


@dataclass(frozen=True)
class ProbedConfiguration:
    """A configuration whose speed is measured.

    Args:
        architecture: Its architecture.
        network: Its network, as `network_of` names it.
        hparams: The hyperparameters that a trial has, as pairs of name and value.
        file: The name of its file in the cache.
    """

    architecture: str
    network: str
    hparams: tuple[tuple[str, Value], ...]
    file: str


@lru_cache(2)
def machine_kind(gpus: float) -> str:
    """The kind of this machine: its CPU and cores, and its GPUs if trials use them."""
    kind = f"{cpu_kind()}, {len(os.sched_getaffinity(0))} cores"
    return f"{kind}, {', '.join(gpu_kinds())}" if gpus else kind


@lru_cache(1)
def _torch_version() -> str:
    return version("torch")


def gpu_kinds() -> list[str]:
    """The models of the NVIDIA GPUs of this machine."""
    texts = [path.read_text(errors="replace") for path in sorted(GPUS.glob("*/information"))]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("Model:")]
    return [line.partition(":")[2].strip() for line in lines]


def probed_configurations(plan: Plan) -> list[ProbedConfiguration]:
    """The configurations whose speed represents the space: at most three of each network."""
    return [
        configuration
        for architecture in architectures_of(plan.space)
        for configuration in _configurations(plan, architecture)
    ]


def _configurations(plan: Plan, architecture: str) -> Iterator[ProbedConfiguration]:
    """Configurations of equal parts of those of each network of an architecture, by size."""
    sizes: dict[str, tuple[float, ProbedConfiguration]] = {}
    by_network: dict[str, list[tuple[float, ProbedConfiguration]]] = {}
    for hparams in sampled_hparams(plan.space, architecture):
        configuration = _configuration(plan, architecture, hparams)
        sizes.setdefault(configuration.file, (_size(plan, architecture, hparams), configuration))
        by_network.setdefault(configuration.network, []).append(sizes[configuration.file])
    for sampled in by_network.values():
        sampled.sort(key=lambda item: (item[0], item[1].file))
        parts = range(1, 2 * NUM_PROBED, 2)
        chosen = (sampled[part * len(sampled) // (2 * NUM_PROBED)][1] for part in parts)
        yield from {configuration.file: configuration for configuration in chosen}.values()


def _size(plan: Plan, architecture: str, hparams: Mapping[str, Value]) -> float:
    """A number that grows with the size of the network, and a little with smaller batches.

    A classifier of frozen features is faster than the training of any network.
    """
    if hparams.get("adaptation") == FROZEN:
        return -math.inf
    names = network_hparams(architecture, plan.space.table) & hparams.keys()
    values = [hparams[name] for name in sorted(names)]
    numbers = [float(value) for value in values if _is_positive(value)]
    size = math.fsum(map(math.log, numbers))
    return size - 0.01 * math.log(int(hparams.get("batch_size", DEFAULT_BATCH_SIZE)))


def _is_positive(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _configuration(
    plan: Plan, architecture: str, hparams: Mapping[str, Value]
) -> ProbedConfiguration:
    resources = plan.space.resources
    names = (network_hparams(architecture, plan.space.table) | TIMED_HPARAMS) & hparams.keys()
    timed = {name: hparams[name] for name in sorted(names) if "dropout" not in name}
    timed["architecture"] = architecture
    identity = [
        *(FORMAT, _torch_version(), machine_kind(resources.gpus), resources.cpus, resources.gpus),
        *(plan.shape, len(plan.class_names), sorted(timed.items())),
    ]
    if plan.code.import_paths:
        identity.append(plan.code.sha256)
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    # Weights do not change the speed; a probe does not download any.
    kept = {name: value for name, value in hparams.items() if name not in ("weights", "folds")}
    if is_encoder(architecture):  # whose own weights are the default
        kept["weights"] = NO_WEIGHTS
    items = tuple(({"architecture": architecture} | kept).items())
    network = network_of(plan.space, hparams)
    return ProbedConfiguration(architecture, network, items, f"{digest[:24]}.json")


def cached_speeds(
    configurations: Sequence[ProbedConfiguration],
) -> dict[ProbedConfiguration, NetworkSpeed]:
    """The speeds of those configurations that this machine has measured before."""
    folder = cache_folder() / SPEEDS
    if not folder.is_dir():
        return {}
    cache = Folder(private_folder(folder))
    speeds = {item: _read_speed(cache, item.file) for item in configurations}
    return {item: speed for item, speed in speeds.items() if speed is not None}


def _read_speed(cache: Folder, name: str) -> NetworkSpeed | None:
    """The speed in a file; None if it is missing or damaged."""
    try:
        return record_from_json(NetworkSpeed, parse_checked(cache.read(name)))
    except (OSError, ValueError, StudyError):
        return None


def store_speed(configuration: ProbedConfiguration, speed: NetworkSpeed) -> None:
    """Store a measured speed in the cache."""
    cache = Folder(private_folder(cache_folder() / SPEEDS))
    cache.write(configuration.file, dump_checked(asdict(speed)))


def epoch_seconds(
    plan: Plan, speeds: Mapping[ProbedConfiguration, NetworkSpeed]
) -> dict[str, EpochSeconds]:
    """The seconds of a fold-epoch of each network with a known speed; of a frozen one, a fold."""
    return {
        network: EpochSeconds(
            tuple(
                _epoch_seconds(plan, dict(item.hparams), speed)
                for item, speed in speeds.items()
                if item.network == network
            )
        )
        for network in {item.network: None for item in speeds}
    }


def _epoch_seconds(plan: Plan, hparams: Mapping[str, Value], speed: NetworkSpeed) -> float:
    """The mean seconds from one report to the next of a configuration, over its folds."""
    params, epochs = resolve(hparams), trial_epochs(plan.space, hparams)
    num_reports = epochs // report_interval(hparams, epochs)
    split = min(plan.splits, key=lambda split: split.folds)
    num_validated = sum(split.patches) / split.folds
    num_own = (sum(plan.class_counts) - num_validated) * params.patient_fraction
    num_auxiliary = sum(shards.rows for shards in plan.auxiliary) if params.auxiliary_weight else 0
    num_trained = num_own + num_auxiliary
    height, width, _channels = plan.shape
    num_views = (8 if height == width else 4) if params.tta == "dihedral" else 1
    # Only the last epoch of a fold is validated with all views.
    num_validations = num_reports - 1 + num_views
    is_fitted = params.adaptation == FROZEN and params.classifier not in TRAINED_CLASSIFIERS
    fold_s = (
        num_trained * speed.train_s * (1 if is_fitted else epochs)
        + num_validated * num_validations * speed.validation_s
        + (num_trained + num_validated) * speed.preprocess_s
    )
    return fold_s / num_reports


@dataclass(frozen=True)
class FeatureSeconds:
    """The time of the features of a frozen architecture.

    Attributes:
        seconds: Of all patches, in one process, for all kinds of features.
        num_kinds: The kinds of features that the space has, such as those of two input sizes.
        num_patches: The patches.
    """

    seconds: float
    num_kinds: int
    num_patches: int


def feature_seconds(
    plan: Plan, speeds: Mapping[ProbedConfiguration, NetworkSpeed]
) -> dict[str, FeatureSeconds]:
    """The time of the features of each architecture with a known speed that is frozen."""
    num_patches = sum(plan.class_counts) + sum(shards.rows for shards in plan.auxiliary)
    kinds = feature_kinds(plan.space)
    seconds = {}
    for architecture in dict.fromkeys(item.architecture for item in speeds):
        measured = [
            speed.features_s
            for item, speed in speeds.items()
            if item.architecture == architecture and speed.features_s
        ]
        num_kinds = sum(kind["architecture"] == architecture for kind in kinds)
        if measured and num_kinds:
            mean_s = math.fsum(measured) / len(measured)
            seconds[architecture] = FeatureSeconds(
                mean_s * num_patches * num_kinds, num_kinds, num_patches
            )
    return seconds
