"""Finds and reads the files of an encoder: a folder as Hugging Face's hub has it.

A snapshot has a `config.json`, of timm's or of transformers' kind, and a file of weights.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from raysearch.config.json_values import parse_json
from raysearch.config.names import HUB_PREFIX, encoder_path
from raysearch.config.telemetry import turn_off_telemetry
from raysearch.data.files import open_regular
from raysearch.errors import DataError, SpaceError, first_line, shortened
from raysearch.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Argument, Encoder
from raysearch.models.encoders.encoder_network import TRANSFORMERS_FIELDS
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.weights.imagenet_files import HUB_FILES, weights_folders
from raysearch.models.weights.weights_cache import is_trusted

log = logging.getLogger(__name__)
# The hub answers within this time, or is not reached; with these statuses, it is busy.
HUB_TIMEOUT_S = 20.0
BUSY_STATUSES = (408, 429, 500, 502, 503, 504)
Config = TypeVar("Config", bound=BaseModel)
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
MAX_CONFIG_BYTES = 10**6
RATIO_TOLERANCE = 1e-3


def encoder_of(architecture: str) -> Encoder:
    """Return the encoder that a hyperparameter `architecture` names.

    It is a row of the table, or is described by the `config.json` of its snapshot, which is
    downloaded if a repository of the hub is not on this machine.

    Raises:
        SpaceError: If the snapshot has no usable `config.json`.
        DataError: If the snapshot cannot be downloaded or read.
    """
    if architecture in ENCODERS:
        return ENCODERS[architecture]
    repository = architecture.removeprefix(HUB_PREFIX)
    for encoder in ENCODERS.values():
        if repository == encoder.repository:
            return encoder
    return _read_config(snapshot_folder(architecture), architecture)


def snapshot_folder(architecture: str) -> Path:
    """Return the folder with the files of an encoder; download them if there is none.

    A folder of the variable RAYSEARCH_WEIGHTS is searched for one with the name of the encoder, or
    of its repository; then the cache of Hugging Face's hub.

    Raises:
        DataError: If there is none, and it cannot be downloaded.
    """
    if encoder_path(architecture):
        return Path(architecture).expanduser()
    path = local_snapshot_weights(architecture)
    return _downloaded(architecture) if path is None else path.parent


def snapshot_weights(architecture: str) -> Path:
    """Return the file of weights of an encoder.

    Raises:
        DataError: If the snapshot has none, or cannot be downloaded.
    """
    folder = snapshot_folder(architecture)
    path = _weights_of(folder)
    if path is None:
        raise DataError(
            f"weights of {architecture}: {folder} has none of {', '.join(HUB_FILES)}; copy one"
            " there"
        )
    return path


def local_snapshot_weights(architecture: str) -> Path | None:
    """Return the file of weights of an encoder on this machine; None if it has none."""
    weights = (
        _weights_of(folder)
        for folder in _local_snapshots(architecture)
        if (folder / CONFIG).is_file()
    )
    return next((path for path in weights if path is not None), None)


def snapshot_paths(architecture: str) -> Iterator[Path]:
    """Yield where the weights of a table's encoder or of a repository may be on this machine."""
    return (folder / name for folder in _local_snapshots(architecture) for name in HUB_FILES)


def repository_of(architecture: str) -> str:
    """Return the repository on the hub of a table's encoder or of `hf-hub:OWNER/NAME`."""
    encoder = ENCODERS.get(architecture)
    return encoder.repository if encoder else architecture.removeprefix(HUB_PREFIX)


def _weights_of(folder: Path) -> Path | None:
    return next((folder / name for name in HUB_FILES if (folder / name).is_file()), None)


def _local_snapshots(architecture: str) -> Iterator[Path]:
    repository = repository_of(architecture)
    rows = [name for name, encoder in ENCODERS.items() if encoder.repository == repository]
    for folder in weights_folders():
        for name in (*rows, repository, repository.rpartition("/")[2]):
            yield folder / name
    turn_off_telemetry()
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, CONFIG)
    if isinstance(config, str) and is_trusted(Path(config).parent):
        yield Path(config).parent


def _downloaded(architecture: str) -> Path:
    turn_off_telemetry()
    from huggingface_hub import snapshot_download

    repository = repository_of(architecture)
    encoder = next((each for each in ENCODERS.values() if each.repository == repository), None)
    license_text = f", license {encoder.license}" if encoder and encoder.license else ""
    log.warning("downloading: %s%s", repository, license_text)
    try:
        # A repository often has the same weights twice.
        present = _names_on_hub(repository)
        weights = next((name for name in HUB_FILES if name in present), HUB_FILES[0])
        return Path(snapshot_download(repository, allow_patterns=[CONFIG, PREPROCESSOR, weights]))
    except Exception as error:  # the hub and the network have their own classes
        access = (
            f"ask for access at {encoder.page}, log in with `hf auth login`, or "
            if encoder and encoder.is_gated
            else ""
        )
        raise DataError(
            f"weights of {architecture}: {repository} cannot be fetched ({first_line(error, 100)});"
            f" {access}copy its files to a folder {repository.rpartition('/')[2]} inside a folder"
            " of RAYSEARCH_WEIGHTS on every node"
        ) from None


def _names_on_hub(repository: str) -> set[str]:
    """Return the names of the files of a repository; without a network, it fails at once."""
    from huggingface_hub import HfApi, list_repo_files
    from huggingface_hub.errors import HfHubHTTPError

    try:
        siblings = HfApi().model_info(repository, timeout=HUB_TIMEOUT_S).siblings or ()
        return {sibling.rfilename for sibling in siblings}
    except HfHubHTTPError as error:
        if error.response.status_code not in BUSY_STATUSES:
            raise
        return set(list_repo_files(repository))  # it repeats its request


class PretrainedConfig(BaseModel):
    """What timm's `config.json` says about the pretraining."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input_size: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 224, 224)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    license: str | None = None


class SnapshotConfig(BaseModel):
    """A `config.json` of timm, or, with `model_type` and further fields, of transformers."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    architecture: str | None = None
    global_pool: str | None = None
    model_args: dict[str, Argument] = {}
    pretrained_cfg: PretrainedConfig = PretrainedConfig()
    model_type: str | None = None
    image_size: PositiveInt = 224


class PreprocessorConfig(BaseModel):
    """A `preprocessor_config.json` of transformers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD


def _read_config(folder: Path, architecture: str) -> Encoder:
    config = _read_json(folder / CONFIG, SnapshotConfig, architecture)
    if config.model_type is not None:
        return _transformers_encoder(config, folder, architecture)
    if config.architecture is not None:
        return _timm_encoder(config, config.architecture, architecture)
    raise SpaceError(
        f"architecture {architecture}: {CONFIG} has neither `architecture` (of timm) nor"
        " `model_type` (of transformers); give the folder of one of these libraries"
    )


def _read_json(path: Path, kind: type[Config], architecture: str) -> Config:
    try:
        with open_regular(path) as file:
            return kind.model_validate(parse_json(file.read(MAX_CONFIG_BYTES)))
    except FileNotFoundError:
        raise SpaceError(
            f"architecture {architecture}: {path.parent} has no {path.name}; give the folder of an"
            " encoder, with its config.json and its weights"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise SpaceError(
            f"architecture {architecture}: {path.name}: {shortened(name, 60)}:"
            f" {shortened(first['msg'], 100)}; copy it again"
        ) from None
    except (OSError, ValueError) as error:
        raise SpaceError(
            f"architecture {architecture}: {path} cannot be read ({first_line(error, 100)}); copy"
            " it again"
        ) from None


def _timm_encoder(config: SnapshotConfig, model: str, architecture: str) -> Encoder:
    pretrained = config.pretrained_cfg
    arguments = {
        name: value
        for name, value in _with_modules(model, config.model_args).items()
        if name not in ("img_size", "num_classes", "dynamic_img_size")
    }
    has_pooling = arguments.get("global_pool", config.global_pool) != ""
    return Encoder(
        name=architecture,
        library="timm",
        model=model,
        arguments=arguments,
        pooling="model" if has_pooling else "class_mean",
        input_size=pretrained.input_size[-1],
        mean=pretrained.mean,
        std=pretrained.std,
        repository=repository_of(architecture) if architecture.startswith(HUB_PREFIX) else "",
        license=pretrained.license or "",
    )


def _with_modules(model: str, arguments: Mapping[str, Argument]) -> dict[str, Argument]:
    """Add the modules that JSON cannot have, such as SwiGLU, from the row with the same shape."""
    ratio = arguments.get("mlp_ratio")
    for encoder in ENCODERS.values():
        row_ratio = encoder.arguments.get("mlp_ratio")
        if (
            encoder.model == model
            and isinstance(ratio, float)
            and isinstance(row_ratio, float)
            and math.isclose(ratio, row_ratio, abs_tol=RATIO_TOLERANCE)
        ):
            modules = {"mlp_layer", "act_layer"} & encoder.arguments.keys()
            return {**{name: encoder.arguments[name] for name in modules}, **arguments}
    return dict(arguments)


def _transformers_encoder(config: SnapshotConfig, folder: Path, architecture: str) -> Encoder:
    is_hub = architecture.startswith(HUB_PREFIX)
    path = folder / PREPROCESSOR
    preprocessor = (
        _read_json(path, PreprocessorConfig, architecture)
        if path.is_file()
        else PreprocessorConfig()
    )
    fields = {**(config.model_extra or {}), "image_size": config.image_size}
    return Encoder(
        name=architecture,
        library="transformers",
        model=str(config.model_type),
        arguments={name: value for name, value in fields.items() if name in TRANSFORMERS_FIELDS},
        pooling="class",
        input_size=config.image_size,
        mean=preprocessor.image_mean,
        std=preprocessor.image_std,
        repository=repository_of(architecture) if is_hub else "",
    )
