"""A study as one file: a zip archive with its files, and a list of their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from raysearch.config.addresses import reject_foreign_address
from raysearch.config.json_values import parse_json
from raysearch.config.names import NAME
from raysearch.data.file_access import replace_file
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import check_no_launcher
from raysearch.search.study.plan import load_plan
from raysearch.search.study.stored_study import load_study

FORMAT = 1
CONTENTS = "raysearch-study.json"
MAX_CONTENTS_BYTES = 64 * 2**20
MAX_FILE_BYTES = 16 * 2**30
FILE_NAME = re.compile(r"(?!\.)[\w.=-]+(/(?!\.)[\w.=-]+)*", re.ASCII)
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError),
    *(RuntimeError, OverflowError),
)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ArchivedStudy:
    """The list of what an archive contains, which is its first file.

    Args:
        format: The version of the format of archives.
        name: The study's name.
        files: The SHA-256 of each file, by its name in the study's folder.
    """

    format: int
    name: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Export:
    """What an export wrote.

    Args:
        num_files: The files in the archive.
        left_out: The names of the other files, which no study has, such as those of an editor.
    """

    num_files: int
    left_out: Sequence[str]


def export_archive(folder: StudyFolder, path: Path, progress: Progress) -> Export:
    """Write all files of the study in `folder` to the archive `path`.

    Args:
        folder: Folder of the study.
        path: The new archive.
        progress: Called with the number of written files and that of all files.

    Returns:
        The number of files, and the names of those that an archive cannot have.

    Raises:
        StudyError: If a launcher runs the study, there is no such study, or the file exists.
    """
    if path.exists():
        raise StudyError(f"{path}: the file exists; remove it, or choose another")
    check_no_launcher(folder)
    load_study(folder)
    stored = [name for name in folder.file_names() if name != folder.LOCK]
    names = [name for name in stored if _is_allowed(name)]
    hashes = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in names}
    with replace_file(path) as file:
        _write(folder, ArchivedStudy(FORMAT, folder.name, hashes), file, progress)
    return Export(len(names), [name for name in stored if not _is_allowed(name)])


def _is_allowed(name: str) -> bool:
    return FILE_NAME.fullmatch(name) is not None and name != CONTENTS


def _write(
    folder: StudyFolder, contents: ArchivedStudy, file: IO[bytes], progress: Progress
) -> None:
    # What a study stores is compressed already, or small.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(CONTENTS, json.dumps(record_to_json(contents)))
        for number, (name, sha256) in enumerate(contents.files.items(), 1):
            content = folder.read(name)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise StudyError(f"{folder.path(name)}: it changed during the export; try again")
            archive.writestr(name, content)
            progress(number, len(contents.files))


def import_archive(path: Path, studies: str, progress: Progress) -> StudyFolder:
    """Create the study of the archive `path` in the folder `studies`.

    Args:
        path: The archive.
        studies: Folder of all studies.
        progress: Called with the number of files that are read and that of all files.

    Returns:
        The folder of the new study.

    Raises:
        StudyError: If it is no archive of a study, a file in it is damaged, or there is a study of
            its name.
        DataError: If the study names a remote address that is not allowed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = _contents(archive, path)
            folder = StudyFolder(f"{studies}/{contents.name}")
            if folder.exists():
                raise StudyError(
                    f"{folder.address}: exists already; remove or rename it, or give another"
                    " --studies"
                )
            _extract(archive, contents, folder, path, progress)
    except DAMAGED as error:
        raise _damaged(path, error) from None
    except OSError as error:
        # A damaged archive may name an offset before its start.
        if error.errno != errno.EINVAL or error.filename is not None:
            raise
        raise _damaged(path, error) from None
    return folder


def _damaged(path: Path, error: Exception) -> StudyError:
    return StudyError(f"{path}: not an archive of a study, or damaged ({error})")


def _contents(archive: zipfile.ZipFile, path: Path) -> ArchivedStudy:
    """Return the list in `archive`; StudyError if it has another form, or other files."""
    entry = archive.getinfo(CONTENTS)
    # A file that is not compressed does not expand.
    if entry.compress_type != zipfile.ZIP_STORED:
        raise StudyError(f"{path}: its list of files is compressed; export the study again")
    if entry.file_size > MAX_CONTENTS_BYTES:
        raise StudyError(
            f"{path}: its list of files has {entry.file_size:,} bytes, more than is allowed"
        )
    fields = parse_json(archive.read(CONTENTS))
    number = fields.get("format") if isinstance(fields, dict) else None
    if number != FORMAT:
        raise StudyError(
            f"{path}: archive format {number}, but this version of raysearch reads format {FORMAT};"
            " use the version that exported the study"
        )
    contents = record_from_json(ArchivedStudy, fields)
    entries = [entry for entry in archive.infolist() if entry.filename != CONTENTS]
    is_valid = (
        NAME.fullmatch(contents.name) is not None
        and sorted(entry.filename for entry in entries) == sorted(contents.files)
        and all(_is_allowed(entry.filename) for entry in entries)
        and all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        and all(entry.file_size == entry.compress_size <= MAX_FILE_BYTES for entry in entries)
        and StudyFolder.PLAN in contents.files
    )
    if not is_valid:
        raise StudyError(f"{path}: its files are not those of its list; export the study again")
    return contents


def _extract(
    archive: zipfile.ZipFile,
    contents: ArchivedStudy,
    folder: StudyFolder,
    path: Path,
    progress: Progress,
) -> None:
    """Write the files to `folder`, the plan last, without which there is no study."""
    names = sorted(contents.files, key=lambda name: name == folder.PLAN)
    try:
        for number, name in enumerate(names, 1):
            content = archive.read(name)
            if hashlib.sha256(content).hexdigest() != contents.files[name]:
                raise StudyError(f"{path}: {name} is damaged; export the study again")
            if name == folder.PLAN:
                _reject_remote_data(content, path)
            folder.write(name, content)
            progress(number, len(names))
        load_study(folder, is_restored=True)
    except BaseException:
        folder.remove()
        raise


def _reject_remote_data(plan: bytes, path: Path) -> None:
    """Raise DataError if the plan of somebody else names a remote address that is not allowed."""
    loaded = load_plan(plan)
    for address in (loaded.data, *(auxiliary.data for auxiliary in loaded.auxiliary)):
        reject_foreign_address(address, f"the study in {path}")
