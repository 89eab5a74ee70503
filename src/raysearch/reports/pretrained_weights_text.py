"""What a model card says about the pretrained weights of a champion."""

from __future__ import annotations

from contextlib import suppress

from raysearch.config.hyperparameters import resolve
from raysearch.config.names import encoder_path
from raysearch.data.pseudonyms import last_part
from raysearch.errors import UserError
from raysearch.models.encoders.encoder_files import license_of_weights
from raysearch.reports.study_report import StudyReport
from raysearch.search.study.frozen_encoders import encoder_file_of, separate_encoder_file


def architecture_name(report: StudyReport) -> str:
    """Return the champion's architecture; of the folder of an encoder, the last part."""
    architecture = resolve(report.champion.hparams).architecture
    return last_part(architecture) if encoder_path(architecture) else architecture


def pretrained_text(report: StudyReport) -> str:
    """Return the name, license, page and SHA-256 of the champion's pretrained weights."""
    hparams, plan = resolve(report.champion.hparams), report.plan
    encoder = plan.encoder(hparams.architecture)
    weights_license = None
    with suppress(UserError):  # the file of this machine may be another
        weights_license = license_of_weights(hparams.architecture, hparams.weights, encoder)
    terms, page = "unknown", ""
    if weights_license is not None:
        terms = weights_license.license or terms
        page = weights_license.page or weights_license.source
    if encoder is not None:
        terms += ", access by request" if encoder.is_gated else ""
        page = encoder.page
    content_hash = plan.weights_hash(hparams.architecture, hparams.weights) or "unknown"
    return (
        f"Pretrained weights `{last_part(hparams.weights)}` of {architecture_name(report)},"
        f" license {terms}{f', {page}' if page else ''}, SHA-256 {content_hash}."
    )


def separate_text(report: StudyReport) -> str:
    """Return what the model's file has no copy of; empty if it has all weights."""
    record = encoder_file_of(report.plan, report.champion.hparams)
    with suppress(UserError):
        record = separate_encoder_file(
            report.plan, report.champion.hparams, report.history.with_encoder
        )
    if record is None:
        return ""
    return (
        f" It has no copy of the frozen encoder {record.name}, which is found by its SHA-256"
        f" {record.sha256}."
    )
