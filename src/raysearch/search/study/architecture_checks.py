"""Checks that the architectures of a space accept the patches of a study, and their weights."""

from __future__ import annotations

from dataclasses import replace

from raysearch.config.hyperparameters import resolve
from raysearch.config.names import FROZEN, IMAGENET, LORA, NO_WEIGHTS, PRETRAINED, is_encoder
from raysearch.config.space import Space
from raysearch.models import PatchShape
from raysearch.models.architectures.adapter_check import check_adapters
from raysearch.models.architectures.networks import check_patch_shape, check_weights
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.encoder_files import encoder_license
from raysearch.models.encoders.snapshots import encoder_of
from raysearch.models.transfer.pretrained_weights import weights_hash
from raysearch.models.weights.imagenet_files import imagenet_license
from raysearch.models.weights.weights_license import WeightsLicense
from raysearch.search.sampling.sampled_configurations import sampled_hparams
from raysearch.search.study.plan import WeightsFile
from raysearch.search.study.plan_creation import input_variants


def check_architectures(space: Space, shape: PatchShape) -> tuple[WeightsFile, ...]:
    """Build every architecture of `space`, and check the pretrained weights that it starts from.

    Returns:
        The files of these weights.

    Raises:
        SpaceError: If an architecture does not accept patches of `shape`, LoRA does not fit it, or
            weights do not match.
        DataError: If weights cannot be read or downloaded.
    """
    files = []
    for architecture, hparams in space.largest_networks().items():
        for variant in input_variants(space, hparams):
            check_patch_shape(architecture, shape, variant)
        if architecture in space.values_of("architecture"):
            _check_adapters(space, architecture, shape)
        # The benchmark trial starts without weights, whatever the other trials do.
        if architecture in space.values_of("architecture"):
            for weights in space.weights_of(architecture):
                if weights != NO_WEIGHTS:
                    check_weights(architecture, shape, {**hparams, "weights": weights})
                    content_hash = weights_hash(architecture, str(weights))
                    files.append(WeightsFile(architecture, str(weights), content_hash))
    return tuple(files)


def _check_adapters(space: Space, architecture: str, shape: PatchShape) -> None:
    """Check LoRA with each `lora_targets` that a trial of `architecture` may have."""
    if LORA not in space.values_of("adaptation"):
        return
    by_targets = {
        params.lora_targets: hparams
        for hparams in sampled_hparams(space, architecture)
        for params in [resolve(hparams)]
        if params.adaptation == LORA
    }
    for hparams in by_targets.values():
        check_adapters(architecture, shape, hparams)


def licenses_of_weights(space: Space) -> list[WeightsLicense]:
    """Return the licenses of the weights that `check_architectures` uses or downloads for `space`.

    Raises:
        SpaceError: If timm has no such model.
        DataError: If a file on this machine is not the one that was downloaded.
    """
    licenses = []
    for architecture in map(str, space.values_of("architecture")):
        weights = space.weights_of(architecture)
        if IMAGENET in weights:
            licenses.append(imagenet_license(architecture))
        if PRETRAINED in weights and is_encoder(architecture):
            licenses.append(encoder_license(_named_encoder(architecture)))
    return [weights_license for weights_license in licenses if weights_license]


def _named_encoder(architecture: str) -> Encoder:
    """Return the description of a pretrained encoder under the name `architecture`."""
    return replace(encoder_of(architecture), name=architecture)


def encoders_of(space: Space) -> tuple[Encoder, ...]:
    """Return the pretrained encoders of a space, each under the name that the space has for it.

    Raises:
        SpaceError: If the folder of one has no usable `config.json`.
        DataError: If its files cannot be downloaded or read.
    """
    names = filter(is_encoder, map(str, space.values_of("architecture")))
    return tuple(map(_named_encoder, names))


def pretraining_notes(space: Space) -> list[str]:
    """Return what the user must know about the encoders of `space`.

    Patients on whom an encoder was trained make every estimate too optimistic, as they are in no
    fold's training rows. A model whose encoder was trained further has its weights, whatever its
    license says of copies.
    """
    encoders = [
        encoder for encoder in encoders_of(space) if PRETRAINED in space.weights_of(encoder.name)
    ]
    notes = [
        f"{encoder.name} was pretrained on {encoder.pretrained_on or 'unknown data'}; results on"
        " patients of these data are too optimistic"
        for encoder in encoders
    ]
    if set(space.values_of("adaptation")) != {FROZEN}:
        notes += [
            f"the license of {encoder.name} forbids copies, and a model that trains it further has"
            " its weights; do not pass such a model on, or search `adaptation: frozen` alone"
            for encoder in encoders
            if encoder_license(encoder).copies == "forbidden"
        ]
    return notes
