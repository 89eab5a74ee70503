"""Functions of the user's own: imported by their path, such as `mynets:build`.

A module is an installed one, or a file in the folder of the space file, which comes last on the
search path. The content of such files is stored in the plan of a study, and imported from there
on every machine. Nothing is imported that a process was not allowed to import.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import site
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.abc import InspectLoader, MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from raysearch.config.names import suggestion
from raysearch.errors import SpaceError, first_line

PLUGIN_GROUP = "raysearch.plugins"
MAX_FILE_BYTES = 1_000_000
# The folder of this package.
SOURCE_FOLDER = Path(__file__).parents[1]
PACKAGE_FILE = "__init__.py"


class CodeNotAllowedError(SpaceError):
    """A study or a model needs code that this process may not run, or cannot."""


@dataclass(frozen=True)
class CodeFile:
    """A module of the user's that lies beside the space file.

    Attributes:
        path: Its path relative to the folder of the space file, such as `mynets.py`.
        text: Its content.
    """

    path: str
    text: str

    @property
    def module(self) -> str:
        """The name of the module."""
        path = self.path.removesuffix(".py").removesuffix("/__init__")
        return path.replace("/", ".")

    @property
    def is_package(self) -> bool:
        """Whether it is the file of a package."""
        return Path(self.path).name == PACKAGE_FILE

    @property
    def sha256(self) -> str:
        """The hash of its content, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class _TextLoader(InspectLoader):
    """Loads a module from the text of its file."""

    def __init__(self, file: CodeFile, origin: str) -> None:
        self.file, self._origin = file, origin

    def get_filename(self, _module: str) -> str:
        return self._origin

    def is_package(self, _module: str) -> bool:
        return self.file.is_package

    def get_source(self, _module: str) -> str:
        return self.file.text

    def get_code(self, module: str) -> Any:
        return self.source_to_code(self.file.text, self.get_filename(module))


class CodeImporter(MetaPathFinder):
    """Imports the modules of a process's user code.

    Those are the files that a plan or a model has stored, and the files of some folders whose names
    no other module has.
    """

    def __init__(self) -> None:
        self._allowed: set[str] = set()
        self._stored: dict[str, CodeFile] = {}
        self._folders: tuple[Path, ...] = ()
        self.trusts_stored = False

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the specification of a module of the user's; None of any other module."""
        file, origin = self._stored.get(fullname), f"<study>/{fullname.replace('.', '/')}.py"
        if file is None and self._folders and self._is_requested(fullname):
            file, origin = self._file_in_folders(fullname)
        if file is None:
            return None
        spec = importlib.util.spec_from_loader(
            fullname, _TextLoader(file, origin), origin=origin, is_package=file.is_package
        )
        if spec is not None:
            spec.has_location = True
        return spec

    def _is_requested(self, module: str) -> bool:
        """Return whether a module is one of a function of the user's, or one that such imports.

        A library that looks for an optional module gets none from these folders.
        """
        modules = [path.partition(":")[0] for path in self._allowed]
        if any(f"{name}.".startswith(f"{module}.") for name in modules):
            return True
        return isinstance(_importing_loader(), _TextLoader)

    def _file_in_folders(self, module: str) -> tuple[CodeFile | None, str]:
        """Return the file of `module` in one of the folders, and its path."""
        parts = module.split(".")
        folder = next((each for each in self._folders if self._is_free(each, parts[0])), None)
        for relative in (Path(*parts) / PACKAGE_FILE, Path(*parts).with_suffix(".py")):
            if folder is not None and (folder / relative).is_file():
                path = folder / relative
                return CodeFile(relative.as_posix(), _trusted_text(path)), str(path)
        return None, ""

    def _is_free(self, folder: Path, module: str) -> bool:
        """Return whether a module may be in a folder, and is nowhere but in these folders."""
        if not ((folder / f"{module}.py").exists() or (folder / module).is_dir()):
            return False
        elsewhere = [entry for entry in sys.path if Path(entry).resolve() not in self._folders]
        is_installed = importlib.machinery.PathFinder.find_spec(module, elsewhere) is not None
        return not is_installed and module not in sys.builtin_module_names

    def allow_folders(self, folders: Sequence[Path], import_paths: Iterable[str]) -> None:
        """Allow the functions at `import_paths`, whose modules may be files in `folders`."""
        self._folders, self._stored = tuple(folders), {}
        self._allowed |= set(import_paths)
        loaded = self.files()
        if any(self._file_in_folders(file.module)[0] != file for file in loaded):
            self._forget(file.module for file in loaded)
        self._install()

    def allow_stored(self, files: Sequence[CodeFile], import_paths: Iterable[str]) -> None:
        """Allow the functions at `import_paths`, whose modules may be the stored `files`."""
        for file in files:
            _reject_installed(file)
        loaded = {file.module: file for file in self.files()}
        if any(loaded.get(file.module, file).text != file.text for file in files):
            self._forget(loaded)
        self._stored = self._stored | {file.module: file for file in files}
        self._allowed |= set(import_paths)
        self._install()

    def trust_stored(self) -> None:
        """Allow this process to run the code of every study and model that it reads."""
        self.trusts_stored = True

    def may_run(self, code: UserCode) -> bool:
        """Return whether this process trusts stored code, or runs the same code already."""
        files = [*self._stored.values(), *self.files()]
        loaded = {file.module: file.text for file in files}
        is_same = all(loaded.get(file.module) == file.text for file in code.files)
        return self.trusts_stored or (is_same and self._allowed.issuperset(code.import_paths))

    def files(self) -> tuple[CodeFile, ...]:
        """Return the files that this importer has imported so far, in the order of their paths."""
        loaders = [getattr(module, "__loader__", None) for module in list(sys.modules.values())]
        files = [loader.file for loader in loaders if isinstance(loader, _TextLoader)]
        return tuple(sorted(files, key=lambda file: file.path))

    def has_raised(self, error: BaseException) -> bool:
        """Return whether an exception passed through code of the user's."""
        modules = {path.partition(":")[0] for path in self._allowed}
        modules |= {file.module for file in self.files()}
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals.get("__name__") in modules:
                return True
            trace = trace.tb_next
        return False

    def is_allowed(self, import_path: str) -> bool:
        """Return whether this process may import a function."""
        return import_path in self._allowed

    def _install(self) -> None:
        """Add this importer before all others: the working folder may be on the search path."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        importlib.invalidate_caches()

    @staticmethod
    def _forget(modules: Iterable[str]) -> None:
        """Remove modules, so that the next import reads their new content."""
        for module in list(modules):
            sys.modules.pop(module, None)


def _importing_loader() -> object:
    """Return the loader of the module that imports another one at the moment."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != __name__ and not name.startswith("importlib"):
            return frame.f_globals.get("__loader__")
        frame = frame.f_back
    return None


def _reject_installed(file: CodeFile) -> None:
    """Raise CodeNotAllowedError if a stored file would replace an installed module."""
    top_level = file.module.partition(".")[0]
    installed = [*site.getsitepackages(), site.getusersitepackages(), str(SOURCE_FOLDER.parent)]
    is_standard = top_level in sys.stdlib_module_names
    if is_standard or importlib.machinery.PathFinder.find_spec(top_level, installed) is not None:
        raise CodeNotAllowedError(
            f"the stored module {file.path} would replace the installed module {top_level}; rename"
            " it"
        )


def _trusted_text(path: Path) -> str:
    """Return the content of a module; SpaceError if others may write it, or it is too large."""
    status = path.stat()
    if status.st_uid not in (0, os.getuid()):
        raise SpaceError(f"{path}: it belongs to another account; copy it")
    if status.st_mode & stat.S_IWOTH:
        raise SpaceError(f"{path}: every account may write it; run `chmod o-w {path}`")
    if status.st_size > MAX_FILE_BYTES:
        raise SpaceError(
            f"{path}: {status.st_size:,} bytes, at most {MAX_FILE_BYTES:,} are allowed; install it"
            " as a package"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpaceError(f"{path}: not a text in UTF-8; correct it") from None


# The importer of this process.
CODE_IMPORTER = CodeImporter()


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

    def allow(self) -> None:
        """Allow this process to import them.

        Raises:
            SpaceError: If a package is not installed here, or has another version.
        """
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
        if not CODE_IMPORTER.may_run(self):
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
    except importlib.metadata.PackageNotFoundError:
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
    if isinstance(getattr(sys.modules.get(top_level), "__loader__", None), _TextLoader):
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
