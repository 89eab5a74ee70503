"""The importer of the modules of the user's own.

A module is a file in the folder of the space file or another folder, if no installed module has its
name, or a text that a plan or a model has stored. Nothing is imported that a process was not
allowed to import.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import site
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from raysearch.errors import SpaceError

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

    def allow_folders(
        self, folders: Sequence[Path], import_paths: Iterable[str], *, keeps_stored: bool = False
    ) -> None:
        """Allow the functions at `import_paths`, whose modules may be files in `folders`.

        Args:
            folders: The folders.
            import_paths: The functions.
            keeps_stored: Whether the stored code of a model stays in use beside them; if not, files
                replace stored modules of the same name.

        Raises:
            SpaceError: If a module of these functions is also a stored one that stays in use.
        """
        if keeps_stored:
            for module in {path.partition(":")[0] for path in import_paths} & self._stored.keys():
                raise SpaceError(f"module {module} is also stored with the model; rename the file")
        else:
            self._stored = {}
        self._folders = tuple(folders)
        self._allowed |= set(import_paths)
        loaded = [file for file in self.files() if file.module not in self._stored]
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

    @contextmanager
    def trusting(self, *, is_trusted: bool) -> Iterator[None]:
        """Allow the code of the studies and models that the block reads, if `is_trusted`."""
        before, self.trusts_stored = self.trusts_stored, self.trusts_stored or is_trusted
        try:
            yield
        finally:
            self.trusts_stored = before

    def trust_stored(self) -> None:
        """Allow this process to run the code of every study and model that it reads."""
        self.trusts_stored = True

    def may_run(self, files: Sequence[CodeFile], import_paths: Iterable[str]) -> bool:
        """Return whether this process trusts stored code, or runs the same code already."""
        loaded = {file.module: file.text for file in [*self._stored.values(), *self.files()]}
        is_same = all(loaded.get(file.module) == file.text for file in files)
        return self.trusts_stored or (is_same and self._allowed.issuperset(import_paths))

    def is_from_text(self, module: str) -> bool:
        """Return whether a module was imported from a file of a folder, or from a stored text."""
        return isinstance(getattr(sys.modules.get(module), "__loader__", None), _TextLoader)

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
    """Return the content of a module.

    Members of the group of a file are trusted, as they are in shared studies.

    Raises:
        SpaceError: If it belongs to another account, every account may write it or replace it, it
            is no file, or it is too large.
    """
    folder = path.parent.stat()
    is_open = folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX
    if is_open or folder.st_uid not in (0, os.geteuid()):
        raise SpaceError(f"{path.parent}: others may replace files in it; copy the module")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.geteuid()):
            raise SpaceError(f"{path}: it belongs to another account; copy it")
        if status.st_mode & stat.S_IWOTH:
            raise SpaceError(f"{path}: every account may write it; run `chmod o-w {path}`")
        if not stat.S_ISREG(status.st_mode):
            raise SpaceError(f"{path}: it is no file; replace it")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise SpaceError(f"{path}: more than {MAX_FILE_BYTES:,} bytes; install it as a package")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SpaceError(f"{path}: not a text in UTF-8; correct it") from None


# The importer of this process.
CODE_IMPORTER = CodeImporter()
