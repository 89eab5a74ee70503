"""The licenses that `raysearch doctor` prints."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from rich.console import Console

from raysearch.cli.package_licenses import (
    InstalledPackage,
    declared_license,
    installed_packages,
    is_permissive,
    package_table,
)

LICENSE_TEXT = "Copyright (c) 2020 A. Author\n\nPermission is hereby granted ...\n"


def metadata(folder: Path, **fields: str | list[str]) -> importlib.metadata.PackageMetadata:
    """The metadata of an installed package with these fields."""

    headers = [("Metadata-Version", "2.4"), ("Name", "x"), ("Version", "1")]
    for name, value in fields.items():
        texts = [value] if isinstance(value, str) else value
        headers += [(name.replace("_", "-"), text.replace("\n", "\n        ")) for text in texts]
    info = folder / "x-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("".join(f"{name}: {text}\n" for name, text in headers))
    return importlib.metadata.Distribution.at(info).metadata


def test_a_license_is_read_from_the_expression_the_classifiers_or_the_field(tmp_path: Path) -> None:
    approved = "License :: OSI Approved"
    for fields, license_name in (
        ({"License_Expression": "MIT AND Zlib", "License": "other"}, "MIT AND Zlib"),
        ({"Classifier": [f"{approved} :: MIT License"], "License": LICENSE_TEXT}, "MIT License"),
        (
            {"Classifier": ["License :: Public Domain", f"{approved} :: BSD License"]},
            "Public Domain AND BSD License",
        ),
        ({"Classifier": [approved, "Topic :: Software"], "License": "BSD"}, "BSD"),
        ({"License": "Apache 2.0"}, "Apache 2.0"),
        ({"License": LICENSE_TEXT}, "unknown"),
        ({"License": "A" * 101}, "unknown"),
        ({}, "unknown"),
    ):
        assert declared_license(metadata(tmp_path, **fields)) == license_name, fields


@pytest.mark.parametrize(
    "license_name",
    [
        "MIT",
        "mit",
        "Apache-2.0 WITH LLVM-exception AND BSD-3-Clause",
        "GPL-3.0-only OR MIT",
        "(MIT OR Apache-2.0)",
        "ISC License (ISCL)",
        "Apache Software License",
    ],
)
def test_a_permissive_license_is_not_flagged(license_name: str) -> None:
    assert is_permissive(license_name)


@pytest.mark.parametrize(
    "license_name",
    [
        "",
        "unknown",
        "GPL-3.0-only",
        "MIT AND GPL-2.0-or-later",
        "MIT AND (GPL-2.0-only OR LGPL-2.1-only)",
        "MPL-2.0 AND MIT",
        "LicenseRef-NVIDIA-Proprietary",
        "CC-BY-NC-4.0",
        "Public Domain AND BSD License AND GNU General Public License (GPL)",
    ],
)
def test_every_other_license_is_flagged(license_name: str) -> None:
    assert not is_permissive(license_name)


def test_the_packages_are_those_of_this_environment() -> None:
    packages = {package.name: package for package in installed_packages()}
    assert packages["ray"].version == importlib.metadata.version("ray")
    assert packages["ray"].license == "Apache 2.0"
    assert packages["ray"].is_direct
    assert packages["mlflow"].is_permissive  # its field `License` holds the whole text
    assert packages["raysearch"].license == "Apache-2.0"
    assert not packages["certifi"].is_direct


def test_the_table_lists_what_is_required_and_names_what_is_not_permissive() -> None:
    packages = [
        InstalledPackage("direct", "1.0", "MIT", True, True),
        InstalledPackage("flagged", "2.0", "GPL-3.0-only", False, True),
        InstalledPackage("indirect", "3.0", "[custom]", False, False),
        InstalledPackage("unmentioned", "4.0", "MIT", True, False),
    ]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(package_table(packages))
    lines = capture.get().splitlines()
    (flagged,) = [line for line in lines if "read it" in line]
    assert "flagged" in flagged
    text = " ".join(" ".join(lines).split())
    assert "direct │ 1.0 │ MIT" in text
    assert "2 more packages are installed; --json lists them." in text
    assert "Not known to be permissive: indirect" in text
    assert "unmentioned" not in text
