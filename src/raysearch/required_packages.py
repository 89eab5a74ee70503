"""The packages that raysearch requires, on a machine of somebody else.

A job brings raysearch to a cluster, and no library. Without a comparison of versions, a missing
package would be a traceback, and an old one a fault in the middle of a study.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, metadata, requires, version

PACKAGE = "raysearch"
# Set in the jobs that bring the package.
JOB_VARIABLE = "RAYSEARCH_JOB"


def unsuitable_packages() -> list[str]:
    """Return the required packages that are missing or have another version, with the required one.

    Packages of extras, such as `raysearch[onnx]`, are not required.
    """
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    unsuitable = []
    python = metadata(PACKAGE)["Requires-Python"]
    if not SpecifierSet(python).contains(platform.python_version()):
        unsuitable.append(f"python {platform.python_version()} (required: {python})")
    for text in requires(PACKAGE) or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        required = f"(required: {requirement.specifier})"
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            unsuitable.append(f"no {requirement.name} {required}")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            unsuitable.append(f"{requirement.name} {installed} {required}")
    return unsuitable


def check_job() -> None:
    """Exit with 2, and one line, if this is a job on a machine that lacks packages."""
    if not os.environ.get(JOB_VARIABLE):
        return
    unsuitable = unsuitable_packages()
    if unsuitable:
        sys.stderr.write(
            "raysearch: the head of the cluster lacks what raysearch requires:"
            f" {'; '.join(unsuitable)}; start the cluster with these packages, see"
            " requirements.lock\n"
        )
        raise SystemExit(2)
