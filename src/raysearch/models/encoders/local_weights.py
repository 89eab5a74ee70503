"""Lists the files of pretrained weights on this machine, and the networks that they are for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from raysearch.config.names import (
    HUB_NAME,
    HUB_PREFIX,
    IMAGENET,
    PRETRAINED,
    TIMM_PREFIX,
    WEIGHTS_SUFFIXES,
    is_encoder,
)
from raysearch.errors import DataError, SpaceError
from raysearch.models.encoders.encoder_files import SHA256, encoder_license
from raysearch.models.encoders.encoder_network import TRANSFORMERS_MODELS
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.encoders.snapshots import encoder_of, local_snapshot_weights
from raysearch.models.timm_models import timm_library
from raysearch.models.weights.imagenet_files import (
    files_of,
    hub_cache_files,
    hub_repositories,
    imagenet_license,
    local_imagenet_file,
    searched_folders,
    torchvision_names,
)
from raysearch.models.weights.weights_license import WeightsLicense

ErrorCallback = Callable[[DataError], None]


@dataclass(frozen=True)
class LocalWeights:
    """A file of pretrained weights on this machine.

    Attributes:
        architectures: The networks and encoders that it is for.
        weights: The hyperparameter that names it: `imagenet` or `pretrained`.
        path: The file.
        source: The address, or the repository of Hugging Face's hub, that it is from; empty if it
            is unknown.
        license: The name of its license; empty if it is unknown.
        sha256: The hash of its content in hexadecimal, if the cache of the hub has it; else empty.
    """

    architectures: tuple[str, ...]
    weights: str
    path: Path
    source: str
    license: str
    sha256: str = ""


@dataclass
class TimmSources:
    """The models of timm with weights, by where these are from.

    Attributes:
        by_repository: Names of models with their tag, by repository of Hugging Face's hub.
        by_file: The same by the name of the file at the address of the weights.
    """

    by_repository: Mapping[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_file: Mapping[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def list_local_weights(on_error: ErrorCallback) -> list[LocalWeights]:
    """List the files of weights that are found by a name, without reading them.

    Args:
        on_error: Called with the error of a file that cannot be used.
    """
    files: dict[tuple[Path, str], LocalWeights] = {}
    for weights in (*_of_torchvision(on_error), *_of_encoders(), *_of_timm(), *_of_the_hub()):
        # Files of torchvision are also those of some models of timm.
        listed = files.setdefault((weights.path, weights.weights), weights)
        names = tuple(dict.fromkeys([*listed.architectures, *weights.architectures]))
        files[weights.path, weights.weights] = replace(listed, architectures=names)
    return list(files.values())


def describe_weights(architecture: str, weights: str, path: Path) -> LocalWeights:
    """Describe the file of weights of one network or encoder.

    Args:
        architecture: The network or encoder.
        weights: `imagenet`, `pretrained`, or the path of a file, whose license is unknown.
        path: The file.

    Raises:
        SpaceError: If the architecture has no such weights.
        DataError: If the files of an encoder cannot be read.
    """
    declared: WeightsLicense | None = None
    if weights == PRETRAINED and is_encoder(architecture):
        declared = encoder_license(encoder_of(architecture))
    elif weights == IMAGENET:
        declared = imagenet_license(architecture, path)
    source = declared.source if declared is not None else ""
    name = declared.license if declared is not None else ""
    is_own = source in (path.name, architecture)  # a file or a folder is not its own source
    return LocalWeights(
        (architecture,), weights, path, "" if is_own else source, name, _known_hash(path)
    )


def _known_hash(path: Path) -> str:
    """Return the SHA-256 after which the cache of the hub names a file; empty if it is unknown."""
    from huggingface_hub.constants import HF_HUB_CACHE

    name = path.resolve().name
    is_of_the_cache = path.is_symlink() and path.is_relative_to(HF_HUB_CACHE)
    return name if is_of_the_cache and SHA256.fullmatch(name) else ""


def _of_torchvision(on_error: ErrorCallback) -> Iterator[LocalWeights]:
    for name in torchvision_names():
        try:
            path = local_imagenet_file(name)
            if path is not None:
                yield describe_weights(name, IMAGENET, path)
        except DataError as error:  # the other files can be used
            on_error(error)


def _of_encoders() -> Iterator[LocalWeights]:
    for name in ENCODERS:
        path = local_snapshot_weights(name)
        if path is not None:
            yield describe_weights(name, PRETRAINED, path)


def _of_timm() -> Iterator[LocalWeights]:
    """Yield the files that are named after a model of timm, or as the address of its weights."""
    for path in sorted(path for folder in searched_folders() for path in files_of(folder)):
        if path.suffix not in WEIGHTS_SUFFIXES or not path.is_file():
            continue
        sources = _timm_sources()
        tagged = sources.by_file.get(path.name, ())
        if tagged:
            yield _timm_weights(tagged, path)
        elif path.stem in _timm_names() | _timm_models():
            yield describe_weights(f"{TIMM_PREFIX}{path.stem}", IMAGENET, path)


def _of_the_hub() -> Iterator[LocalWeights]:
    """Yield the files of the cache of Hugging Face's hub, but those of the table's encoders."""
    listed = {encoder.repository for encoder in ENCODERS.values()}
    for repository in hub_repositories():
        path = next(hub_cache_files(repository), None)
        if path is None or repository in listed:
            continue
        tagged = _timm_sources().by_repository.get(repository, ())
        name = f"{HUB_PREFIX}{repository}"
        if tagged:
            yield _timm_weights(tagged, path)
        elif HUB_NAME.fullmatch(name) and _is_usable(name):
            yield describe_weights(name, PRETRAINED, path)


def _is_usable(name: str) -> bool:
    """Return whether a repository has an encoder of images that this program can build."""
    try:
        encoder = encoder_of(name)
    except (SpaceError, DataError):
        return False
    if encoder.library == "timm":
        return bool(timm_library().is_model(encoder.model))
    return encoder.model in TRANSFORMERS_MODELS


def _timm_weights(tagged: tuple[str, ...] | list[str], path: Path) -> LocalWeights:
    """Describe a file that is known to have weights of timm, by the names of its models."""
    library = timm_library()
    config = library.get_pretrained_cfg(tagged[0])
    names = []
    for name in tagged:
        base = name.partition(".")[0]
        default = library.get_pretrained_cfg(base)
        is_default = default is not None and f"{base}.{default.tag}" == name
        names += [f"{TIMM_PREFIX}{base}"] * is_default + [f"{TIMM_PREFIX}{name}"]
    described = describe_weights(f"{TIMM_PREFIX}{tagged[0]}", IMAGENET, path)
    source = described.source or str(config.hf_hub_id or config.url)
    return LocalWeights(tuple(names), IMAGENET, path, source, described.license, described.sha256)


@cache
def _timm_names() -> frozenset[str]:
    """Return the names of timm's models with weights, each with the tag of its weights."""
    return frozenset(timm_library().list_models(pretrained=True))


@cache
def _timm_models() -> frozenset[str]:
    """Return the same without the tags."""
    return frozenset(name.partition(".")[0] for name in _timm_names())


@cache
def _timm_sources() -> TimmSources:
    sources = TimmSources()
    for name in sorted(_timm_names()):
        config = timm_library().get_pretrained_cfg(name)
        if config.hf_hub_id:
            sources.by_repository[config.hf_hub_id].append(name)
        if config.url:
            sources.by_file[config.url.rpartition("/")[2]].append(name)
    return sources
