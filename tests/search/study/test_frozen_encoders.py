"""Whether a model has a copy of its frozen encoder: by license, by request, and by the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError, StudyError
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.encoder_files import EncoderFile, EncoderFileError
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.weights.weights_cache import sha256
from raysearch.search.study.frozen_encoders import (
    check_copies,
    local_encoder_file,
    separate_encoder_file,
)
from raysearch.search.study.plan import Plan, WeightsFile
from raysearch.search.study.plan_creation import make_plan

SHA256 = "ab" * 32


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of RAYSEARCH_WEIGHTS beside empty caches."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def frozen_space(architecture: str, **settings: Any) -> dict[str, Any]:
    hparams = {"architecture": architecture, "adaptation": "frozen", "classifier": "linear"}
    return {"epochs": 1, "trials": 1, **settings, "space": {"folds": 2, **hparams}}


def plan_of(shards: Path, architecture: str, weights: str, encoder: Encoder | None = None) -> Plan:
    tree = frozen_space(architecture)
    tree["space"]["weights"] = weights
    plan, _splits = make_plan(parse_space(tree, "x"), "x", str(shards))
    files = (WeightsFile(architecture, weights, SHA256),)
    return replace(plan, weights=files, encoders=() if encoder is None else (encoder,))


@pytest.mark.parametrize(
    ("architecture", "weights", "by_default", "on_request"),
    [
        ("mobilenet_v2", "imagenet", None, None),
        ("timm:resnet18", "imagenet", None, None),
        ("midnight-12k", "pretrained", None, None),
        ("timm:resnet18", "/data/own.pt", EncoderFile("own.pt", SHA256), None),
        ("phikon", "pretrained", EncoderFile("phikon", SHA256), None),
        ("virchow", "pretrained", EncoderFile("virchow", SHA256), None),
    ],
)
def test_a_copy_needs_a_license_or_a_request(
    shards: Path,
    architecture: str,
    weights: str,
    by_default: EncoderFile | None,
    on_request: EncoderFile | None,
) -> None:
    plan = plan_of(shards, architecture, weights, ENCODERS.get(architecture))
    hparams = {"architecture": architecture, "weights": weights, "adaptation": "frozen"}
    assert separate_encoder_file(plan, hparams) == by_default
    assert separate_encoder_file(plan, hparams, with_encoder=True) == on_request
    by_space = replace(plan, space=replace(plan.space, with_encoder=True))
    assert separate_encoder_file(by_space, hparams) == on_request
    assert separate_encoder_file(by_space, hparams, with_encoder=False) == by_default
    assert separate_encoder_file(plan, {**hparams, "adaptation": "full"}) is None


@pytest.mark.parametrize("weights", ["pretrained", "/data/own.pt"])
def test_a_forbidden_copy_is_rejected(shards: Path, weights: str) -> None:
    plan = plan_of(shards, "uni", weights, ENCODERS["uni"])
    hparams = {"architecture": "uni", "weights": weights, "adaptation": "frozen"}
    assert separate_encoder_file(plan, hparams) is not None
    with pytest.raises(StudyError, match=r"cc-by-nc-nd-4.0, access only by request"):
        separate_encoder_file(plan, hparams, with_encoder=True)


def test_a_space_with_a_forbidden_copy_is_rejected_before_it_is_searched() -> None:
    encoders = (ENCODERS["uni"],)
    check_copies(parse_space(frozen_space("uni"), "x"), encoders)
    space = parse_space(frozen_space("uni", with_encoder=True), "x")
    assert space.settings()["with_encoder"] == "True"
    with pytest.raises(SpaceError, match=r"^with_encoder: the terms of uni ") as error:
        check_copies(space, encoders)
    assert "\n" not in str(error.value)


def test_a_file_is_found_where_the_study_had_it_or_by_its_name(
    shards: Path, caches: Path, tmp_path: Path
) -> None:
    original = tmp_path / "elsewhere" / "own.pt"
    original.parent.mkdir()
    original.write_bytes(b"weights")
    record = EncoderFile("own.pt", sha256(original))
    hparams = {"architecture": "mobilenet_v2", "weights": str(original), "adaptation": "frozen"}
    plan = plan_of(shards, "mobilenet_v2", str(original))
    assert local_encoder_file(plan, hparams, record, None) == original
    # A model alone names no path that is read.
    with pytest.raises(EncoderFileError, match=r"this machine does not have them; put own.pt in"):
        local_encoder_file(None, hparams, record, None)
    (caches / "own.pt").write_bytes(b"other")
    with pytest.raises(EncoderFileError, match=f"{caches / 'own.pt'} has SHA-256 "):
        local_encoder_file(None, hparams, record, None)
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    found = original.rename(tmp_path / "cache" / "weights" / "own.pt")
    assert local_encoder_file(plan, hparams, record, None) == found


def test_weights_of_torchvision_are_searched_for_by_all_of_their_names(caches: Path) -> None:
    path = caches / "mobilenet_v2-b0353104.pth"
    record = EncoderFile("mobilenet_v2", SHA256)
    hparams = {"architecture": "mobilenet_v2", "weights": "imagenet", "adaptation": "frozen"}
    with pytest.raises(EncoderFileError, match="run `raysearch weights fetch mobilenet_v2`"):
        local_encoder_file(None, hparams, record, None)
    path.write_bytes(b"weights")
    record = replace(record, sha256=sha256(path))
    assert local_encoder_file(None, hparams, record, None) == path
