"""Reads versions and licenses of the installed packages, as the packages declare them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

PACKAGE = "raysearch"
UNKNOWN = "unknown"
# Longer texts in the field `License` are the license itself instead of its name.
MAX_NAME_LENGTH = 100
# SPDX identifiers, and the names in classifiers and in older metadata.
PERMISSIVE = frozenset(
    {
        "0bsd",
        "3-clause bsd license",
        "apache 2.0",
        "apache software license",
        "apache-2.0",
        "bsd",
        "bsd license",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsl-1.0",
        "cc0-1.0",
        "cnri-python",
        "hpnd",
        "isc",
        "isc license (iscl)",
        "mit",
        "mit license",
        "mit-0",
        "mit-cmu",
        "psf-2.0",
        "python software foundation license",
        "python-2.0",
        "unlicense",
        "zlib",
    }
)
# Classifiers that name no license.
APPROVALS = ("DFSG approved", "OSI Approved")


@dataclass(frozen=True)
class InstalledPackage:
    """An installed package.

    Attributes:
        name: Its name.
        version: Its version.
        license: The license that it declares; `unknown` if it declares none.
        is_permissive: Whether that is known to be a permissive license, such as MIT or Apache-2.0.
        is_direct: Whether raysearch itself requires the package.
    """

    name: str
    version: str
    license: str
    is_permissive: bool
    is_direct: bool


def installed_packages() -> list[InstalledPackage]:
    """Return the packages that this process can import, by name."""
    requirements = importlib.metadata.requires(PACKAGE) or []
    direct = {_normalized(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in requirements}
    packages = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.name
        license_name = declared_license(distribution.metadata)
        packages[_normalized(name)] = InstalledPackage(
            name=name,
            version=distribution.version,
            license=license_name,
            is_permissive=is_permissive(license_name),
            is_direct=_normalized(name) in {*direct, PACKAGE},
        )
    return [package for _, package in sorted(packages.items())]


def declared_license(metadata: importlib.metadata.PackageMetadata) -> str:
    """Return the license in the metadata of a package; `unknown` if there is none.

    It is, in this order, an SPDX expression, the classifiers joined by `AND`, or the field
    `License`.
    """
    fields = metadata.json
    expression = fields.get("license_expression")
    if expression:
        return str(expression)
    classifiers = [
        text.split(" :: ")[-1]
        for text in fields.get("classifier", [])
        if text.startswith("License :: ")
    ]
    names = [name for name in classifiers if name not in APPROVALS]
    if names:
        return " AND ".join(names)
    text = str(fields.get("license", "")).strip()
    return text if 0 < len(text) <= MAX_NAME_LENGTH and "\n" not in text else UNKNOWN


def is_permissive(license_name: str) -> bool:
    """Return whether a license is known to be permissive.

    An expression with `OR` and without `AND` requires one permissive license, and every other
    expression requires that all of its licenses are permissive.
    """
    names = re.split(r"\s+(?:AND|OR)\s+", license_name.lower(), flags=re.IGNORECASE)
    are_permissive = [
        name in PERMISSIVE or _without_exception(name) in PERMISSIVE for name in names
    ]
    is_choice = " OR " in license_name and " AND " not in license_name
    return any(are_permissive) if is_choice else all(are_permissive)


def package_table(packages: Sequence[InstalledPackage]) -> Table:
    """Return the table of the packages that raysearch requires.

    Its caption names the licenses of other packages that are not known to be permissive.
    """
    table = Table("package", "version", "license", "")
    for package in packages:
        if package.is_direct:
            mark = "" if package.is_permissive else "[yellow]read it[/]"
            table.add_row(package.name, package.version, escape(package.license), mark)
    others = [package for package in packages if not package.is_direct]
    names = [package.name for package in others if not package.is_permissive]
    table.caption = f"{len(others)} more packages are installed; --json lists them."
    if names:
        table.caption += " Not known to be permissive: " + escape(", ".join(names))
    table.caption_justify = "left"
    return table


def _without_exception(name: str) -> str:
    return re.split(r"\s+with\s+", name.strip("()"))[0]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
