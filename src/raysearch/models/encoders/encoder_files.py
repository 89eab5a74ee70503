"""Finds the weights of a frozen encoder that the file of a model does not have, by their hash."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raysearch.config.names import IMAGENET, PRETRAINED, encoder_path, is_encoder
from raysearch.errors import DataError, SpaceError, shortened
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.snapshots import repository_of, snapshot_paths
from raysearch.models.weights.imagenet_files import (
    HUB_FILES,
    VARIABLE,
    imagenet_license,
    imagenet_paths,
    searched_folders,
    weights_folders,
)
from raysearch.models.weights.weights_cache import sha256
from raysearch.models.weights.weights_license import WeightsLicense

SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_NAME_LENGTH = 255
# Characters of a web page in a message: the repository may be what a stranger wrote.
MAX_PAGE_LENGTH = 120


class EncoderFileError(DataError):
    """The weights of an encoder that a model needs are not on this machine, or are others."""


@dataclass(frozen=True)
class EncoderFile:
    """The file of weights of a frozen encoder that a model has no copy of.

    Attributes:
        name: The architecture; the last part of the path if a folder or a file has the weights.
        sha256: The hash of its content, in hexadecimal.
    """

    name: str
    sha256: str

    @classmethod
    def of(cls, architecture: str, weights: str, content_hash: str) -> EncoderFile:
        """Name the file of the hyperparameters `architecture` and `weights`."""
        if weights not in (IMAGENET, PRETRAINED):
            return cls(Path(weights).name, content_hash)
        name = Path(architecture).name if encoder_path(architecture) else architecture
        return cls(name, content_hash)

    def is_valid(self, architecture: str, weights: str) -> bool:
        """Return whether a record, which a stranger may have written, names a file and no path."""
        if weights == IMAGENET or (weights == PRETRAINED and not encoder_path(architecture)):
            is_name = self.name == architecture
        else:
            is_name = self.name == Path(self.name).name and self.name not in ("", "..")
        is_printable = self.name.isprintable() and len(self.name) <= MAX_NAME_LENGTH
        return is_name and is_printable and SHA256.fullmatch(self.sha256) is not None


def encoder_license(encoder: Encoder) -> WeightsLicense:
    """Return the license of the weights of a pretrained encoder."""
    return WeightsLicense(
        encoder.name,
        encoder.license,
        "its folder",
        encoder.repository or encoder.name,
        encoder.is_gated,
        encoder.page,
    )


def license_of_weights(
    architecture: str, weights: str, encoder: Encoder | None = None
) -> WeightsLicense | None:
    """Return the license of pretrained weights; None if it is unknown, as that of a user's file.

    A file for a pretrained encoder has the license of the encoder, whose weights it probably has.

    Args:
        architecture: The network or encoder.
        weights: `imagenet`, `pretrained`, or the path of a file.
        encoder: The description of a pretrained encoder; None of any other network.

    Raises:
        SpaceError: If timm has no such model.
        DataError: If the file on this machine is not the one that was downloaded.
    """
    if encoder is not None:
        return encoder_license(encoder)
    return imagenet_license(architecture) if weights == IMAGENET else None


def find_encoder_file(
    record: EncoderFile,
    architecture: str,
    weights: str,
    encoder: Encoder | None,
    known_paths: Iterable[Path] = (),
) -> Path:
    """Return the file of weights that `record` names. Nothing is downloaded.

    Args:
        record: The file.
        architecture: The hyperparameter of the model; a path in it is not read.
        weights: The hyperparameter of the model; a path in it is not read.
        encoder: The description of a pretrained encoder; None of any other network.
        known_paths: Where the file was when the model was trained, if that is known.

    Raises:
        EncoderFileError: If this machine has no such file, or only others of its name.
    """
    others = []
    for path in dict.fromkeys([*known_paths, *_paths(record, architecture, weights)]):
        try:
            if path.is_file():
                content_hash = sha256(path)
                if content_hash == record.sha256:
                    return path
                others.append(f"{path} has SHA-256 {content_hash}")
        except OSError as error:
            others.append(f"{path} cannot be read ({error.strerror or error})")
    reason = others[0] if others else "this machine does not have them"
    raise EncoderFileError(
        f"the model has no copy of its encoder {record.name}, and needs the file of weights with"
        f" SHA-256 {record.sha256}: {reason};"
        f" {_access(encoder)}{_place(record, architecture, weights)}"
    )


def _paths(record: EncoderFile, architecture: str, weights: str) -> Iterator[Path]:
    if weights not in (IMAGENET, PRETRAINED):
        yield from (folder / record.name for folder in searched_folders())
    elif encoder_path(architecture):
        folders = [folder / record.name for folder in weights_folders()]
        yield from (folder / name for folder in folders for name in HUB_FILES)
    elif is_encoder(architecture):
        yield from snapshot_paths(architecture)
    else:
        try:
            yield from imagenet_paths(architecture)
        except SpaceError:  # the installed version of the library has no such weights
            return


def _access(encoder: Encoder | None) -> str:
    if encoder is None or not encoder.page:
        return ""
    page = shortened(encoder.page, MAX_PAGE_LENGTH)
    return f"ask for access at {page}, then " if encoder.is_gated else f"see {page}; "


def _place(record: EncoderFile, architecture: str, weights: str) -> str:
    """Return where the file has to be."""
    if weights not in (IMAGENET, PRETRAINED):
        return f"put {record.name} in a folder of {VARIABLE}"
    if not is_encoder(architecture):
        return f"run `raysearch weights fetch {record.name}`, or put it in a folder of {VARIABLE}"
    is_folder = encoder_path(architecture)
    folder = record.name if is_folder else repository_of(architecture).rpartition("/")[2]
    return f"put it in a folder {shortened(folder, MAX_NAME_LENGTH)} inside a folder of {VARIABLE}"
