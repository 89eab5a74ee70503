"""The permissions of files: closed to other accounts of the machine, or shared with one group.

Every file is created with these permissions, whatever the umask of the process is.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from raysearch.data.disk_errors import disk_errors
from raysearch.errors import DataError

# The group of `--shared`: an environment variable, so that child processes have it, too.
SHARED_GROUP = "RAYSEARCH_SHARED_GROUP"
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
# Files in a folder with the set-group-ID bit belong to the group of the folder.
SHARED_FILE, SHARED_FOLDER = 0o660, 0o2770
PRIVATE_UMASK, SHARED_UMASK = 0o077, 0o007
# A file that is being written, or that a killed process has left: the name of the file is group 1.
PARTIAL_FILE = re.compile(r"\.(.*)\.[0-9a-f]{8}")
# File systems without permissions answer with one of these.
UNSUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


def shared_group() -> int | None:
    """Return the group that new files are shared with; None if they are closed to all others.

    Raises:
        DataError: If the group does not exist, or this account is not a member of it.
    """
    name = os.environ.get(SHARED_GROUP, "")
    if not name:
        return None
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        raise DataError(
            f"--shared {name}: not a group of this machine; `groups` prints those of this account"
        ) from None
    if os.geteuid() != 0 and group not in {os.getegid(), *os.getgroups()}:
        raise DataError(
            f"--shared {name}: this account is not a member of the group; `groups` prints its"
            " groups"
        )
    return group


def process_umask() -> int:
    """Return the umask for files that libraries create."""
    return PRIVATE_UMASK if shared_group() is None else SHARED_UMASK


def create_folder(path: Path, *, inherits: bool = False) -> None:
    """Create the folder `path` and its missing parents; an existing folder is not changed.

    Args:
        path: The folder.
        inherits: Whether a folder inside a shared folder is shared, too.
    """
    missing: list[Path] = []
    folder = path
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        group = _group_for(folder.parent, inherits)
        with suppress(FileExistsError):
            folder.mkdir(mode=PRIVATE_FOLDER)
            with _allows_missing_permissions():
                _apply(folder, PRIVATE_FOLDER if group is None else SHARED_FOLDER, group)
    path.mkdir(exist_ok=True)  # raises FileExistsError if it is a file


def create_file(path: Path, *, inherits: bool = False, private: bool = False) -> IO[bytes]:
    """Open the new file `path` for writing; FileExistsError if it, or a link of its name, exists.

    Args:
        path: The file.
        inherits: Whether a file inside a shared folder is shared, too.
        private: Whether the file is closed in any case, such as a key.
    """
    group = None if private else _group_for(path.parent, inherits)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file = os.fdopen(os.open(path, flags, PRIVATE_FILE), "wb")
    with _allows_missing_permissions():
        _apply(file.fileno(), PRIVATE_FILE if group is None else SHARED_FILE, group)
    return file


def write_file(
    path: Path, content: bytes, *, inherits: bool = False, private: bool = False
) -> None:
    """Write `content` to `path` completely or not at all; replace an existing file.

    A device, such as `/dev/stdout`, is written to directly, also if it leads to a file. Any other
    link is replaced: it could name a file that somebody else selected.

    Args:
        path: The file; its folder exists.
        content: The content.
        inherits: Whether a file inside a shared folder is shared, too.
        private: Whether the file is closed in any case.
    """
    if path.absolute().is_relative_to("/dev") or (path.exists() and not path.is_file()):
        with disk_errors(path, len(content)):
            path.write_bytes(content)
        return
    with replace_file(path, inherits=inherits, private=private, num_bytes=len(content)) as file:
        file.write(content)


@contextmanager
def replace_file(
    path: Path, *, inherits: bool = False, private: bool = False, num_bytes: int | None = None
) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` if the body succeeds.

    Args:
        path: The file; its folder exists.
        inherits: Whether a file inside a shared folder is shared, too.
        private: Whether the file is closed in any case.
        num_bytes: The size of the content, for the error of a full disk; None if it is unknown.
    """
    if not inherits:  # a study removes those in its own folder when it is launched
        remove_abandoned_files(path.parent, path.name)
    with disk_errors(path, num_bytes):
        partial, opened = locked_partial_file(path, inherits=inherits, private=private)
        try:
            with opened as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def partial_path(path: Path) -> Path:
    """Return a new name for a file or folder that is to take the place of `path`."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def locked_partial_file(
    path: Path, *, inherits: bool = False, private: bool = False
) -> tuple[Path, IO[bytes]]:
    """Create and lock a partial file for `path`; the lock ends when the file is closed.

    Between the two steps, another process may remove the file as an abandoned one. Then a new file
    is created.

    Args:
        path: The file.
        inherits: Whether a file inside a shared folder is shared, too.
        private: Whether the file is closed in any case, such as a key.
    """
    while True:
        partial = partial_path(path)
        file = create_file(partial, inherits=inherits, private=private)
        if try_lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
            return partial, file
        file.close()


def remove_abandoned_files(folder: Path, name: str | None = None) -> None:
    """Remove the partial files and folders in `folder` that ended processes have left.

    Those of other accounts, and those that a process locks, remain.

    Args:
        folder: The folder; its subfolders are not searched.
        name: The file that they are parts of; None for all.
    """
    with suppress(OSError):  # no such folder, or one that cannot be read
        for path in list(folder.iterdir()):
            match = PARTIAL_FILE.fullmatch(path.name)
            if match is not None and name in (None, match[1]):
                remove_if_abandoned(path)


def remove_if_abandoned(partial: Path) -> None:
    """Remove a file or folder of this account unless a process locks it, or it has no locks."""
    with suppress(OSError):
        descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if status.st_uid == os.geteuid() and try_lock(descriptor):
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(partial, ignore_errors=True)
                else:
                    partial.unlink()
        finally:
            os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder; the lock ends when it is closed.

    Returns:
        False if another process locks it; None if its file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def open_log(path: Path) -> IO[bytes]:
    """Open the log `path` to append to it, in a folder that is created if it does not exist.

    A link is replaced by a new file: it could name a file that somebody else selected.
    """
    create_folder(path.parent, inherits=True)
    if path.is_symlink():
        path.unlink()
    with suppress(FileExistsError):
        create_file(path, inherits=True).close()
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK  # not waiting at a pipe
    file = os.fdopen(os.open(path, flags), "ab")
    restrict(path)
    return file


def restrict(path: Path, *, private: bool = False) -> None:
    """Close an existing file or folder of this account to others, or share it by `--shared`.

    A shared folder, and the files directly in it, keep their group. Files of other accounts, links,
    and files that are missing or that cannot be read are not changed.

    Args:
        path: The file or folder.
        private: Whether it is closed in any case, such as a file with a secret of this account.
    """
    try:
        # What is changed is what was checked: another account may replace the path meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _restrict(descriptor, path, private=private)
    finally:
        os.close(descriptor)


def _restrict(descriptor: int, path: Path, *, private: bool) -> None:
    status = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(status.st_mode)
    if status.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(status.st_mode)):
        return
    group = None if private else shared_group()
    if group is None and not private:
        group = _group_of(path if is_folder else path.parent)
    if group is not None and not is_folder and status.st_nlink > 1:
        return  # the other name may be that of a file which is not to be shared
    if group is None:
        mode = status.st_mode & (PRIVATE_FOLDER if is_folder else 0o700)
    else:
        mode = SHARED_FOLDER if is_folder else SHARED_FILE
    if stat.S_IMODE(status.st_mode) != mode or group not in (None, status.st_gid):
        with _allows_missing_permissions():
            _apply(descriptor, mode, group)


def restrict_tree(path: Path) -> None:
    """Apply `restrict` to `path` and, if it is a folder, to everything in it."""
    restrict(path)
    if path.is_dir() and not path.is_symlink():
        for root, folders, files in os.walk(path):
            for name in (*folders, *files):
                restrict(Path(root) / name)


def open_lock_file(path: Path) -> int:
    """Open or create the file `path`, which only this account, or its group, can lock.

    Whoever can read a file can lock it. A file that was open to others, because an earlier version
    created it, is replaced unless a process of this account locks it.

    Returns:
        The file descriptor, which the caller locks and closes.
    """
    create_folder(path.parent, inherits=True)
    with suppress(FileExistsError):
        create_file(path, inherits=True).close()
    flags = os.O_RDWR | os.O_NOFOLLOW
    descriptor = os.open(path, flags)
    is_open = bool(os.fstat(descriptor).st_mode & 0o077) and _group_of(path.parent) is None
    if not is_open or os.geteuid() in flock_owners(descriptor):
        return descriptor
    os.close(descriptor)
    write_file(path, b"")
    return os.open(path, flags)


def _group_for(parent: Path, inherits: bool) -> int | None:
    group = shared_group()
    return _group_of(parent) if group is None and inherits else group


def _group_of(folder: Path) -> int | None:
    """Return the group of a shared folder; None for any other folder."""
    status = folder.stat()
    return status.st_gid if stat.S_IMODE(status.st_mode) == SHARED_FOLDER else None


def _apply(file: Path | int, mode: int, group: int | None) -> None:
    if group is not None:
        os.chown(file, -1, group)
    os.chmod(file, mode)  # noqa: PTH101 it may be a file descriptor


@contextmanager
def _allows_missing_permissions() -> Iterator[None]:
    """Continue on a file system that has no permissions."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def flock_owners(descriptor: int) -> set[int]:
    """Return the accounts whose processes of this machine hold the lock of an open file.

    The set is empty if no process holds it, or one on another machine or in another container.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    owners: set[int] = set()
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == device:
                with suppress(OSError):
                    owners.add(Path(f"/proc/{fields[4]}").stat().st_uid)
    return owners
