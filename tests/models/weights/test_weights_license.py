"""The licenses of pretrained weights are named before a download."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.config.space_file import parse_space
from raysearch.errors import DataError, SpaceError
from raysearch.models.encoders.encoder_files import encoder_license
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.transfer.pretrained_weights import compatible_weights
from raysearch.models.weights.weights_license import WeightsLicense, weights_license
from raysearch.search.study.architecture_checks import licenses_of_weights

SPACE = """
data: synthetic:6:60:0
objective: {metric: auroc, mode: max}
epochs: 1
trials: 2
resources: {cpus: 1}
space:
  folds: 2
  architecture: "timm:convnextv2_atto"
  weights: imagenet
"""
UNREACHABLE = {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_DISABLE_XET": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}


@pytest.mark.parametrize(
    ("architecture", "terms"),
    [
        # Meta's SWAG weights of torchvision, and FAIR's weights of timm.
        ("vit_h_14", "license cc-by-nc-4.0, which prohibits commercial use"),
        ("timm:convnextv2_atto", "license cc-by-nc-4.0, which prohibits commercial use"),
        ("timm:coatnet_0_224", ""),
        ("timm:resnet18", "license apache-2.0"),
        ("timm:vit_small_patch16_dinov3", "license dinov3-license, which has terms of its own"),
        ("resnet18", "license unknown (torchvision declares none)"),
    ],
)
def test_the_terms_of_weights_are_in_one_line(architecture: str, terms: str) -> None:
    found = weights_license(architecture)
    if not terms:
        assert found is None
        return
    assert found is not None
    assert terms in str(found)
    assert architecture in str(found)
    assert "\n" not in str(found)
    assert found.is_non_commercial == ("prohibits" in terms)


@pytest.mark.parametrize(
    "name",
    ["cc-by-nc-4.0", "cc-by-nc-nd-4.0", "apple-amlr", "fair-noncommercial-research-license"],
)
def test_licenses_without_commercial_use_are_recognized(name: str) -> None:
    assert WeightsLicense("a", name, "timm", "b").is_non_commercial


@pytest.mark.parametrize("name", ["", "mit", "apache-2.0", "ncsa", "apple-ascl"])
def test_other_licenses_are_not_called_non_commercial(name: str) -> None:
    assert not WeightsLicense("a", name, "timm", "b").is_non_commercial


@pytest.mark.parametrize(
    ("name", "library", "is_gated", "copies"),
    [
        ("apache-2.0", "timm", False, "allowed"),
        ("cc-by-nc-4.0", "timm", False, "allowed"),
        ("", "torchvision", False, "allowed"),
        ("", "timm", False, "unknown"),
        ("", "its folder", False, "unknown"),
        ("lunit non-commercial", "its folder", False, "unknown"),
        ("apache-2.0", "its folder", True, "unknown"),
        ("CC-BY-NC-ND-4.0", "its folder", False, "forbidden"),
        ("cc-by-nc-4.0", "its folder", True, "forbidden"),
        ("", "its folder", True, "forbidden"),
    ],
)
def test_a_license_and_the_access_say_whether_a_model_may_have_a_copy(
    name: str, library: str, is_gated: bool, copies: str
) -> None:
    assert WeightsLicense("a", name, library, "b", is_gated).copies == copies


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        *(("uni2-h", "forbidden"), ("virchow", "unknown"), ("h0-mini", "forbidden")),
        *(("phikon", "unknown"), ("midnight-12k", "allowed"), ("lunit-s8", "unknown")),
    ],
)
def test_the_encoders_of_the_table_have_their_terms(name: str, copies: str) -> None:
    assert encoder_license(ENCODERS[name]).copies == copies


def test_an_architecture_without_weights_has_no_license() -> None:
    assert weights_license("cnn") is None
    with pytest.raises(SpaceError, match="timm has no such net"):
        weights_license("timm:resnet1")


def test_only_the_weights_of_a_space_are_named() -> None:
    tree = {
        "objective": {"metric": "auroc", "mode": "max"},
        "epochs": 1,
        "trials": 2,
        "space": {
            "folds": 2,
            "architecture": {"choice": ["resnet18", "mobilenet_v3_small", "cnn"]},
            "weights": {"choice": ["none", "imagenet"], "when": {"architecture": "resnet18"}},
        },
    }
    licenses = licenses_of_weights(parse_space(tree, "space.yaml"))
    assert [entry.architecture for entry in licenses] == ["resnet18"]


def test_the_license_is_logged_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torchvision.models import vit_h_14

    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    # urllib keeps the proxies of its first request for those of all later tests.
    monkeypatch.setattr("urllib.request._opener", None)
    for name, value in UNREACHABLE.items():
        monkeypatch.setenv(name, value)
    import torch

    with torch.device("meta"):
        net = vit_h_14()
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="cannot be fetched"):
        compatible_weights(net, "vit_h_14", "imagenet", 1000, (518, 518, 3))
    (line,) = [record.getMessage() for record in caplog.records if "license" in record.getMessage()]
    assert line.startswith("downloading: Pretrained weights of vit_h_14")
    assert "prohibits commercial use" in line


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--dry-run",), ()], ids=["plan", "launch"])
def test_a_launch_names_the_license_before_it_downloads(
    run: Commands, options: tuple[str, ...]
) -> None:
    (run.folder / "space.yaml").write_text(SPACE)
    run.environment |= {**UNREACHABLE, "RAYSEARCH_CACHE": str(run.folder / "cache")}
    finished = run("launch", "space.yaml", *options, code=2)
    named = "Pretrained weights of timm:convnextv2_atto"
    assert named in finished.stdout
    assert "prohibits commercial use" in finished.stdout
    assert "cannot be fetched" in finished.stderr
