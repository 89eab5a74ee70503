"""Finds files of ImageNet weights where people have them, and downloads those that are missing.

A file is searched for in the folders of the variable RAYSEARCH_WEIGHTS, in the cache of this
program, and in the caches of torch and of Hugging Face's hub, in this order. In a folder of the
user, the weights of a model of timm may also have the name that torch's hub gives them, such as
`resnet10t-0a1b2c3d.pth`, or EfficientNet-PyTorch, such as `efficientnet-lite0-57934424.pth`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from raysearch.config.names import (
    HUB_NAME,
    HUB_PREFIX,
    IMAGE_ARCHITECTURES,
    SMALL_ARCHITECTURES,
    TIMM_PREFIX,
    WEIGHTS_SUFFIXES,
)
from raysearch.errors import SpaceError
from raysearch.models.timm_models import timm_library
from raysearch.models.weights.state_dicts import SAFETENSORS, write_state_dict
from raysearch.models.weights.weights_cache import (
    check_content,
    download,
    download_once,
    hash_file,
    is_trusted,
    private_weights_folder,
    weights_folder,
)
from raysearch.models.weights.weights_license import (
    WeightsLicense,
    torchvision_license,
    weights_license,
)

log = logging.getLogger(__name__)
VARIABLE = "RAYSEARCH_WEIGHTS"
# The files of a repository of Hugging Face's hub.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# The file names of torch's hub: a name, and a prefix of the SHA-256 of the content.
HASHED_NAME = re.compile(r"(.+)-[0-9a-f]{8,64}\.(?:pth|pt|bin|safetensors)")
# A name that ends in a date has no hash.
DATED_NAME = re.compile(r"-(?:19|20)\d{2}(?:0\d|1[0-2])[0-3]\d\.[a-z]+$")
# The weights that EfficientNet-PyTorch calls `efficientnet-b0` are of timm's `tf_efficientnet_b0`.
TENSORFLOW_PREFIX = "tf_"


def imagenet_file(architecture: str) -> Path:
    """Return the file of the ImageNet weights, downloaded if this node does not have it.

    If torchvision has several weights of an architecture, the recommended ones are preferred, but
    others that are on this machine are used rather than downloading.

    Raises:
        SpaceError: If the architecture has no such weights.
        DataError: If the download fails; the message says where to put the file. If a file does
            not have the hash in its name.
    """
    path = local_imagenet_file(architecture)
    if path is not None:
        return path
    log.warning("downloading: %s", weights_license(architecture))
    if architecture.startswith(TIMM_PREFIX):
        name = architecture.removeprefix(TIMM_PREFIX)
        path = weights_folder() / f"{name}{SAFETENSORS}"
        return download_once(path, f"timm's {name}", lambda: _download_from_timm(name, path))
    url = _torchvision_urls(architecture)[0]
    return download(url, weights_folder() / url.rpartition("/")[2])


def local_imagenet_file(architecture: str) -> Path | None:
    """Return the file of the ImageNet weights on this machine; None if it has none.

    Raises:
        SpaceError: If the architecture has no such weights.
        DataError: If the file does not have the hash in its name, or that of its download; if
            others can write to the cache of this program.
    """
    for path in imagenet_paths(architecture):
        if path.is_file():
            if path.parent == weights_folder():
                private_weights_folder()
            check_content(path)
            return path
    return None


def imagenet_paths(architecture: str) -> Iterator[Path]:
    """Yield where the ImageNet weights of an architecture may be on this machine.

    Raises:
        SpaceError: If the architecture has no such weights.
    """
    if architecture.startswith(TIMM_PREFIX):
        return _timm_paths(architecture.removeprefix(TIMM_PREFIX))
    return _paths(url.rpartition("/")[2] for url in _torchvision_urls(architecture))


def imagenet_license(architecture: str, path: Path | None = None) -> WeightsLicense | None:
    """Return the license of the ImageNet weights that `imagenet_file` returns.

    It is that of the file on this machine. If there is none, it is that of the weights that would
    be downloaded.

    Args:
        architecture: The architecture.
        path: The file, if it is known; by default it is searched for.

    Returns:
        None if the architecture has no such weights. The license is empty if the file's name does
        not say which weights of timm it has.

    Raises:
        SpaceError: If timm has no such model.
        DataError: If the file on this machine is not the one that was downloaded.
    """
    declared = weights_license(architecture)
    if declared is None:
        return None
    path = path or local_imagenet_file(architecture)
    if path is None:
        return declared
    if not architecture.startswith(TIMM_PREFIX):
        return torchvision_license(architecture, path.name) or declared
    if _is_known_file(architecture.removeprefix(TIMM_PREFIX), path):
        return declared
    return replace(declared, license="", library="the file", source=path.name)


def _is_known_file(name: str, path: Path) -> bool:
    """Return whether a file has the weights that timm has for a model, by where it is from.

    A user's own file may have any of the weights of a model, unless its name has their tag.
    """
    url = timm_library().get_pretrained_cfg(name).url or ""
    is_download = path.parent == weights_folder() and hash_file(path).is_file()
    is_of_hub = path.name in HUB_FILES
    is_of_url = path.name == url.rpartition("/")[2]
    return is_download or is_of_hub or is_of_url or "." in name


def torchvision_names() -> tuple[str, ...]:
    """Return the architectures of torchvision that this program has."""
    return tuple(name for name in IMAGE_ARCHITECTURES if name not in SMALL_ARCHITECTURES)


def _torchvision_urls(architecture: str) -> list[str]:
    """Return the addresses of torchvision's weights of ImageNet-1k, the recommended ones first."""
    from torchvision import models

    if architecture not in models.list_models():
        raise SpaceError(
            f"weights imagenet: {architecture} has none; choose `none`, a file, or another"
            " architecture"
        )
    weights = models.get_model_weights(architecture)
    others = (each.url for each in weights if each.name.startswith("IMAGENET1K_V"))
    return list(dict.fromkeys([weights.DEFAULT.url, *others]))


def weights_folders() -> list[Path]:
    """Return the folders of the variable RAYSEARCH_WEIGHTS, which are separated as in PATH."""
    parts = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(part).expanduser() for part in parts if part]


def searched_folders() -> list[Path]:
    """Return the folders in which files of weights are searched for by their names."""
    folders = [*weights_folders(), weights_folder()]
    torch_cache = Path(torch.hub.get_dir()) / "checkpoints"
    if is_trusted(torch_cache):
        folders.append(torch_cache)
    return folders


def _paths(names: Iterable[str]) -> Iterator[Path]:
    folders = searched_folders()
    return (folder / name for name in names for folder in folders)


def _hashed_paths(name: str) -> Iterator[Path]:
    """Yield the files of the user with a hash in their name that are of the model `name` of timm.

    A model with a tag, such as `resnet50.a1_in1k`, has none: these names do not have the tag.
    """
    names = {name}
    if name.startswith(TENSORFLOW_PREFIX):
        names.add(name.removeprefix(TENSORFLOW_PREFIX).replace("_", "-"))
    of_torchvision = _torchvision_files(name)
    for path in (path for folder in weights_folders() for path in files_of(folder)):
        match = HASHED_NAME.fullmatch(path.name)
        is_named = match is not None and match[1] in names
        if is_named and path.name not in of_torchvision and not DATED_NAME.search(path.name):
            yield path


def _torchvision_files(name: str) -> frozenset[str]:
    """Return the names of torchvision's files of a network that timm has under the same name."""
    from torchvision import models

    weights = models.get_model_weights(name) if name in models.list_models() else ()
    return frozenset(each.url.rpartition("/")[2] for each in weights)


def files_of(folder: Path) -> list[Path]:
    """Return the sorted files of a folder; a folder that cannot be read has none."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _timm_paths(name: str) -> Iterator[Path]:
    """Yield where the weights of a model of timm may be."""
    config = timm_library().get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise SpaceError(
            f"weights imagenet: {TIMM_PREFIX}{name} has none; choose `none`, a file, or another"
            " architecture"
        )
    names = [f"{name}{suffix}" for suffix in WEIGHTS_SUFFIXES]
    yield from _paths([*names, *([config.url.rpartition("/")[2]] if config.url else [])])
    if config.hf_hub_id:
        yield from hub_cache_files(config.hf_hub_id)
    yield from _hashed_paths(name)


def hub_repositories() -> list[str]:
    """Return the repositories that are in the cache of Hugging Face's hub, sorted."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = Path(HF_HUB_CACHE).glob("models--*--*")
    names = (folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)
    return sorted(name for name in names if HUB_NAME.fullmatch(f"{HUB_PREFIX}{name}"))


def hub_cache_files(repository: str) -> Iterator[Path]:
    """Yield the files of weights of a repository that are in the cache of Hugging Face's hub."""
    from huggingface_hub import try_to_load_from_cache

    for name in HUB_FILES:
        cached = try_to_load_from_cache(repository, name)
        # The file is a link to its content.
        if not isinstance(cached, str):
            continue
        if is_trusted(Path(cached).parent) and is_trusted(Path(cached).resolve().parent):
            yield Path(cached)


def _download_from_timm(name: str, path: Path) -> None:
    net = timm_library().create_model(name, pretrained=True, cache_dir=weights_folder() / "timm")
    write_state_dict(net.state_dict(), path)
