"""Functions of the user's own: imported by their path, such as `mynets:build`.

A plan or a model stores the modules that are no installed ones; they are imported from there on
every machine.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from raysearch.config.code_importer import (
    CODE_IMPORTER,
    SOURCE_FOLDER,
    CodeFile,
    CodeNotAllowedError,
)
from raysearch.config.names import suggestion
from raysearch.errors import SpaceError, first_line

PLUGIN_GROUP = "raysearch.plugins"
# The `content_hash` that code must have to be allowed: a program that runs a command sets it.
HASH_VARIABLE = "RAYSEARCH_CODE_HASH"


@dataclass(frozen=True)
class UserCode:
    """The functions of the user's own that a study runs.

    Attributes:
        import_paths: Their import paths.
        files: The modules among them, and those that these import, that lay beside the space file.
        distributions: The names and versions of the packages that the others come from.
    """

    import_paths: tuple[str, ...] = ()
    files: tuple[CodeFile, ...] = ()
    distributions: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """A hash of all of it, in hexadecimal; empty if there are no functions."""
        if not self.import_paths:
            return ""
        parts = [*self.import_paths, *self.distributions]
        parts += [f"{file.path} {file.sha256}" for file in self.files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def content_hash(self) -> str:
        """A hash of the files and the packages alone, in hexadecimal."""
        parts = [*self.distributions, *(f"{file.path} {file.sha256}" for file in self.files)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def allow(self, expected_hash: str | None = None) -> None:
        """Allow this process to import them.

        Args:
            expected_hash: The hash that they must have, if another process has allowed them and
                the file of the plan may have changed since; None if they are in memory.

        Raises:
            CodeNotAllowedError: If they have another hash; if a package is not installed here, or
                has another version.
        """
        if expected_hash is not None and expected_hash != self.sha256:
            raise CodeNotAllowedError(
                "the code in the plan is not the code that the launch has allowed; restore the plan"
            )
        if not self.import_paths:
            return
        for distribution in self.distributions:
            _check_distribution(distribution)
        CODE_IMPORTER.allow_stored(self.files, self.import_paths)

    def require(self, owner: str) -> None:
        """Allow them if this process trusts the code of studies, or runs the same code already.

        Args:
            owner: What they belong to, such as the name of a study, for the message.

        Raises:
            SpaceError: If it does not, or a package is missing.
        """
        if not self.import_paths:
            return
        expected_hash = os.environ.get(HASH_VARIABLE, "")
        if expected_hash and expected_hash != self.content_hash:
            raise CodeNotAllowedError(
                f"{owner} has other code than when it was allowed; read the study again"
            )
        if not CODE_IMPORTER.may_run(self.files, self.import_paths):
            places = ", ".join([*(file.path for file in self.files), *self.distributions])
            raise CodeNotAllowedError(
                f"{owner} runs code of its own ({', '.join(self.import_paths)} of {places}), which"
                " may do anything on this machine; if you trust it, add --allow-code (Python:"
                " allow_code=True)"
            )
        self.allow()

    def only(self, import_paths: Iterable[str]) -> UserCode:
        """Return the part of it with some of the functions; all files, if any function is left."""
        names = set(import_paths)
        kept = tuple(path for path in self.import_paths if path in names)
        return replace(self, import_paths=kept) if kept else NO_CODE


NO_CODE = UserCode()


def _check_distribution(distribution: str) -> None:
    """Raise SpaceError unless a package is installed in a version."""
    name, _separator, version = distribution.rpartition(" ")
    try:
        installed = importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: no name
        raise CodeNotAllowedError(
            f"{platform.node()}: the package {distribution}, whose components the study uses, is"
            " not installed; install it on every node"
        ) from None
    if installed != version:
        raise CodeNotAllowedError(
            f"{platform.node()}: the study uses components of {distribution}, and {installed} is"
            " installed; install the same version on every node"
        )


def load_function(import_path: str) -> Callable[..., Any]:
    """Return the function at `import_path`.

    Raises:
        SpaceError: If it is not allowed in this process, does not exist, or its module cannot be
            imported.
    """
    if not CODE_IMPORTER.is_allowed(import_path):
        raise CodeNotAllowedError(
            f"{import_path}: code that comes with a study is not run by default; if you trust it,"
            " add --allow-code (Python: allow_code=True)"
        )
    module_name, _separator, name = import_path.partition(":")
    if module_name == "__main__":
        raise SpaceError(
            f"{import_path}: workers cannot import functions of a notebook or a script; write them"
            " to a module beside it, in a notebook by `%%writefile mynets.py`"
        )
    try:
        module = importlib.import_module(module_name)
    except SpaceError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise SpaceError(
                f"{import_path}: there is no module {error.name!r}, neither installed nor beside"
                " the space file; a folder of modules needs a file `__init__.py`"
            ) from None
        raise SpaceError(
            f"{import_path}: its module raises ModuleNotFoundError: {first_line(error)}"
        ) from error
    except (Exception, SystemExit) as error:  # code of the user's raises any class
        raise SpaceError(
            f"{import_path}: its module raises {type(error).__name__}: {first_line(error)}"
        ) from error
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise SpaceError(
            f"{import_path}: module {module_name} has no function {name!r}{suggestion(name, names)}"
        )
    return function


def load_metrics(import_paths: Iterable[str]) -> dict[str, Callable[..., float]]:
    """Return the metrics of the user's at `import_paths`, by these; see `load_function`."""
    return {import_path: load_function(import_path) for import_path in import_paths}


@lru_cache(1)
def _packages_distributions() -> Mapping[str, list[str]]:
    """Return the distributions of each top-level package; it takes a second to find them."""
    return importlib.metadata.packages_distributions()


def distribution_of(import_path: str) -> str:
    """Return the name and version of the package that a function comes from.

    Empty if it is no installed package.
    """
    top_level = import_path.partition(":")[0].partition(".")[0]
    if top_level == SOURCE_FOLDER.name:
        return f"raysearch {importlib.metadata.version('raysearch')}"
    if CODE_IMPORTER.is_from_text(top_level):
        return ""
    names = _packages_distributions().get(top_level, [])
    return f"{names[0]} {importlib.metadata.version(names[0])}" if names else ""


def plugin_import_paths(part: str) -> dict[str, str]:
    """Return the import paths of the components that installed packages declare.

    They are entry points `PART.NAME` of the group `raysearch.plugins`.

    Args:
        part: The hyperparameter that selects one, such as `architecture`.

    Returns:
        Import paths by name.
    """
    prefix = f"{part}."
    return {
        point.name.removeprefix(prefix): point.value
        for point in importlib.metadata.entry_points(group=PLUGIN_GROUP)
        if point.name.startswith(prefix)
    }
