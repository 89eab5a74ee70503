"""Decides whether the model of a champion has a copy of its frozen encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import FROZEN, IMAGENET, NO_WEIGHTS, PRETRAINED, encoder_path
from raysearch.config.space import Space
from raysearch.errors import SpaceError, StudyError
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.encoder_files import (
    EncoderFile,
    find_encoder_file,
    license_of_weights,
)
from raysearch.models.weights.imagenet_files import HUB_FILES
from raysearch.models.weights.weights_license import WeightsLicense
from raysearch.search.study.plan import Plan

FORBIDDEN = "forbidden"


def encoder_file_of(plan: Plan, hparams: Hparams) -> EncoderFile | None:
    """Return the file with the frozen weights of a trial; None if it trains all its weights."""
    params = resolve(hparams)
    content_hash = plan.weights_hash(params.architecture, params.weights)
    if params.adaptation != FROZEN or params.weights == NO_WEIGHTS or not content_hash:
        return None
    return EncoderFile.of(params.architecture, params.weights, content_hash)


def separate_encoder_file(
    plan: Plan, hparams: Hparams, with_encoder: bool | None = None
) -> EncoderFile | None:
    """Return the file of the frozen encoder that the model of a champion has no copy of.

    Args:
        plan: The plan of the study.
        hparams: The hyperparameters of the champion.
        with_encoder: Whether a copy is requested, also if the license of the weights is unknown;
            None as the space says.

    Returns:
        None if the model has all of its weights.

    Raises:
        StudyError: If a copy is requested, and the license forbids it.
    """
    file = encoder_file_of(plan, hparams)
    if file is None:
        return None
    if with_encoder is None:
        with_encoder = plan.space.with_encoder
    params = resolve(hparams)
    encoder = plan.encoder(params.architecture)
    weights_license = license_of_weights(params.architecture, params.weights, encoder)
    copies = "unknown" if weights_license is None else weights_license.copies
    if weights_license is not None and copies == FORBIDDEN and with_encoder:
        raise StudyError(f"with the encoder: {forbidden_copy(weights_license)}")
    return None if with_encoder or copies == "allowed" else file


def license_terms(weights_license: WeightsLicense) -> str:
    """Return that the license of weights forbids to pass on a copy in a model."""
    page = f" ({weights_license.page})" if weights_license.page else ""
    terms = weights_license.license or "unknown"
    if weights_license.is_gated:
        terms += ", access only by request"
    return (
        f"the terms of {weights_license.architecture}{page} forbid a copy in the model (license"
        f" {terms})"
    )


def forbidden_copy(weights_license: WeightsLicense) -> str:
    """Return why a model may have no copy of weights, and what to do."""
    return f"{license_terms(weights_license)}; leave out `with_encoder` or `--with-encoder`"


def check_copies(space: Space, encoders: tuple[Encoder, ...]) -> None:
    """Check that the models of a space with the key `with_encoder` may have copies of encoders.

    Args:
        space: The space.
        encoders: Its pretrained encoders.

    Raises:
        SpaceError: If the license of frozen weights forbids it.
    """
    if not space.with_encoder or FROZEN not in space.values_of("adaptation"):
        return
    for encoder in encoders:
        weights_license = license_of_weights(encoder.name, PRETRAINED, encoder)
        if weights_license is not None and weights_license.copies == FORBIDDEN:
            raise SpaceError(f"with_encoder: {forbidden_copy(weights_license)}")


def local_encoder_file(
    plan: Plan | None,
    hparams: Hparams,
    record: EncoderFile,
    encoder: Encoder | None,
) -> Path:
    """Return the file of a frozen encoder on this machine. Nothing is downloaded.

    Args:
        plan: The plan of the study if it is at hand: its trials name the path of the file.
        hparams: The hyperparameters of the trial in that plan, else those of the model.
        record: The file.
        encoder: The description of a pretrained encoder; None of any other network.

    Raises:
        EncoderFileError: If this machine has no such file, or only others of its name.
    """
    params = resolve(hparams)
    paths = () if plan is None else original_paths(params.architecture, params.weights)
    return find_encoder_file(record, params.architecture, params.weights, encoder, paths)


def original_paths(architecture: str, weights: str) -> Iterator[Path]:
    """Yield where a folder or a file of weights was when the study was planned."""
    if weights not in (IMAGENET, PRETRAINED):
        yield Path(weights).expanduser()
    elif encoder_path(architecture):
        yield from (Path(architecture).expanduser() / name for name in HUB_FILES)
