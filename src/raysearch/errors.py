"""What can go wrong for a user, as one small tree.

Every message is one line: what it was, what is allowed, what to do. The door (`raysearch.cli`)
prints it and leaves with exit code 2; nothing else catches these.
"""

from __future__ import annotations

import re

LOGIN = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")


def without_passwords(text: str) -> str:
    """`text` with `***` for the password of every address in it, such as `http://me:word@host`."""
    return LOGIN.sub(r"\1:***@", text)


def first_line(error: BaseException, max_characters: int = 200) -> str:
    """Return the first line of an error's message; the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0][:max_characters]


class UserError(Exception):
    """Something the user can put right; its message tells no password of an address."""

    def __init__(self, message: str) -> None:
        super().__init__(without_passwords(message))


class SpaceError(UserError):
    """A search-space file that cannot be a study; its message holds all the errors at once."""


class DataError(UserError):
    """Images, shards or splits that cannot be used."""


class StorageError(UserError):
    """An object store that cannot be reached, or rejects; what lies there may be whole."""


class StudyError(UserError):
    """A study that cannot be started, resumed or read."""
