"""Pseudonyms of patients, slides and files: HMAC-SHA256 under a secret key (RFC 2104).

Without the key, a pseudonym cannot be computed from an identifier. A plain hash can: numbers of
patients are so few that all of them are hashed in seconds. Whoever has the key can recognize an
identifier that is already known to them, so the key is stored apart from what has the pseudonyms.
"""

from __future__ import annotations

import errno
import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from raysearch.data.file_access import locked_partial_file, remove_abandoned_files
from raysearch.data.files import Folder, open_regular
from raysearch.errors import DataError, StorageError

# The messages of `raysearch.data.splits.leak_check`, which name a patient.
LEAK = re.compile(
    r"patient (?P<patient>.*)(?P<rest>: (both sides of .*|in the test set and in a fold))",
    re.DOTALL,
)
# The folders of a path or an address.
FOLDERS = re.compile(r"(?<![\w:/.~-])(?:[A-Za-z][\w+.-]*://|/)(?:[^/\s'\":;,()]+/)+")
SECRET_BYTES = 32
# The key, and the identifier by which damage is detected; a key from elsewhere may lack it.
KEY_TEXT = re.compile(rb"([0-9a-f]{64})(?: ([0-9a-f]{16}))?\n?")
PRIVATE_MODE, OTHERS = 0o600, 0o077
# Hex digits of a pseudonym: 16 differ for a million files, 10 are short enough for a table.
STORED_DIGITS, DISPLAYED_DIGITS = 16, 10
PATIENT, SLIDE, FILE, SOURCE = "patient", "slide", "file", "source"
PREFIXES = {PATIENT: "P", SLIDE: "S", FILE: "F", SOURCE: "D"}
# The only suffixes that a pseudonym keeps: any other one may be a part of a name.
KNOWN_SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".ndpi", ".bmp", ".gif", ".webp"),
        *(".dcm", ".h5", ".hdf5", ".gz", ".zip", ".tar", ".tgz", ".bz2", ".xz", ".csv", ".txt"),
        *(".json", ".xml", ".pdf", ".mat", ".npy"),
    )
)


@dataclass(frozen=True)
class PseudonymKey:
    """A secret key, and the pseudonyms under it."""

    secret: bytes = field(repr=False)

    @classmethod
    def random(cls) -> PseudonymKey:
        """A new key, for pseudonyms that nothing else shares."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @property
    def id(self) -> str:
        """16 hex digits that tell this key from others and do not reveal it."""
        return self.digest("key", "")[:16]

    def digest(self, kind: str, name: str) -> str:
        """HMAC-SHA256 of `name` in hex; equal names of different kinds have different digests."""
        message = f"{kind}\0{name}".encode("utf-8", "surrogateescape")
        return hmac.digest(self.secret, message, "sha256").hex()

    def pseudonym(self, kind: str, name: str, digits: int = STORED_DIGITS) -> str:
        """The pseudonym of `name`, such as `P-4F2A91B03C12D4E5`; empty if `name` is empty.

        Args:
            kind: `PATIENT`, `SLIDE`, `FILE` or `SOURCE`. A file or a source keeps its suffix.
            name: The identifier.
            digits: Number of hex digits.
        """
        if not name:
            return ""
        suffix = _suffix(name) if kind in (FILE, SOURCE) else ""
        return f"{PREFIXES[kind]}-{self.digest(kind, name)[:digits].upper()}{suffix}"


@dataclass(frozen=True)
class DisplayedNames:
    """The names that a page shows.

    Attributes:
        key: The key of the pseudonyms; None if the page shows the identifiers themselves.
    """

    key: PseudonymKey | None

    def patient(self, name: str) -> str:
        """The displayed name of a patient."""
        return self._displayed(PATIENT, name)

    def slide(self, name: str) -> str:
        """The displayed name of a slide."""
        return self._displayed(SLIDE, name)

    def file(self, name: str) -> str:
        """The displayed name of a file of the source."""
        return self._displayed(FILE, name)

    def source(self, address: str) -> str:
        """The displayed name of a source of images: no folder of this machine."""
        return self._displayed(SOURCE, last_part(address))

    def message(self, text: str) -> str:
        """A message about the data without folders, and with the displayed name of its patient."""
        match = LEAK.fullmatch(text)
        if match is not None:
            text = f"patient {self.patient(match['patient'])}{match['rest']}"
        return without_folders(text)

    def _displayed(self, kind: str, name: str) -> str:
        return name if self.key is None else self.key.pseudonym(kind, name, DISPLAYED_DIGITS)


def _suffix(name: str) -> str:
    suffix = Path(name.partition("#")[0]).suffix
    return suffix if suffix.lower() in KNOWN_SUFFIXES else ""


def last_part(address: str) -> str:
    """The last part of a path or an address: what a model or a page shows of it."""
    return address.rstrip("/").rsplit("/", 1)[-1]


def without_folders(text: str) -> str:
    """Shorten every absolute path and every address in `text` to its last part.

    Messages of errors name files with the folders, and so with the user's name.
    """
    for folder in (Path.cwd(), Path.home()):  # their names may have spaces
        if folder != folder.parent:
            text = text.replace(f"{folder}/", "")
    return FOLDERS.sub("", text)


def read_key_file(path: Path) -> PseudonymKey:
    """Read the key in the file `path`; create the file with mode 0600 if it does not exist.

    Raises:
        DataError: If the file has no key, other users can read it, or it cannot be created.
    """
    try:
        if not os.path.lexists(path):
            _create(path, PseudonymKey.random())
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_mode & OTHERS:
                raise DataError(
                    f"{path}: other users can read or write this key (mode"
                    f" {stat.S_IMODE(status.st_mode):04o}); run chmod 600 on it, or name a new file"
                )
            content = file.read(2 * 2 * SECRET_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be used as key file ({error.strerror or error})") from None
    return _parse(content, str(path), is_own=False)


def key_in(folder: Folder, name: str) -> PseudonymKey:
    """Read the key in the file `name` of `folder`; create it if there is none.

    A file on this machine is closed to other accounts, or shared as its folder is; on an object
    store, its rules decide who reads it.

    Raises:
        OSError: If the file cannot be read or created.
        StorageError: If the object store rejects it.
        DataError: If the file has no key.
    """
    if not folder.exists(name):
        key = PseudonymKey.random()
        if folder.is_local:
            _create(Path(folder.path(name)), key, is_shared=True)
        else:
            folder.write(name, _text(key))
    return _parse(folder.read(name), folder.path(name))


def existing_key_in(folder: Folder, name: str) -> PseudonymKey | None:
    """Read the key in the file `name` of `folder`; None if there is none that can be read.

    Raises:
        DataError: If the file has no key.
    """
    try:
        return _parse(folder.read(name), folder.path(name))
    except (OSError, StorageError):
        return None


def _create(path: Path, key: PseudonymKey, *, is_shared: bool = False) -> None:
    """Write `key` to the new file `path`; a file that another process just created remains.

    Only a file that `is_shared` gets the group of its folder, or of `--shared`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned_files(path.parent, path.name)
    partial, file = locked_partial_file(path, inherits=is_shared, private=not is_shared)
    with file:
        try:
            file.write(_text(key))
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(partial)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP):
                raise
            partial.replace(path)  # a file system without hard links
        finally:
            partial.unlink(missing_ok=True)


def _text(key: PseudonymKey) -> bytes:
    return f"{key.secret.hex()} {key.id}\n".encode()


def _parse(content: bytes, path: str, *, is_own: bool = True) -> PseudonymKey:
    """Parse a key; one that `is_own`, which this program wrote, has its identifier."""
    match = KEY_TEXT.fullmatch(content)
    if match is not None and (match[2] or not is_own):
        key = PseudonymKey(bytes.fromhex(match[1].decode()))
        if match[2] in (None, key.id.encode()):
            return key
    raise DataError(f"{path}: not a key of pseudonyms, or damaged; restore it from a copy")
