"""What can go wrong for a user, as one small tree; secrets are removed from every message.

Every message is one line: what it was, what is allowed, what to do. The door (`raysearch.cli`)
prints it and leaves with exit code 2; nothing else catches these.
"""

from __future__ import annotations

import re

# What stands between `://` and the host: `user:password@`, or a token alone. A password may
# contain `/` and `@`, therefore this ends at the last `@` of a word that has a colon.
LOGIN = re.compile(r"(?<=://)(?:[^\s/:@]*:(?:(?!://)\S)*|[^\s/]*)@")
# The ends of names whose values are secrets, such as `X-Amz-Signature` and `client_secret`.
_SENSITIVE = (
    r"(?:token|password|passwd|pwd|passphrase|secret|signature|credentials?|(?<![a-z])sig"
    r"|(?:api|access|secret|private)[_-]?key(?:[_-]?id)?|(?<=[?&])key)"
)
_QUOTED = r"'[^']*'|\"[^\"]*\""
# A parameter of an address, or a setting: `token=...`.
SECRET_PARAMETER = re.compile(rf"({_SENSITIVE}=)(?:{_QUOTED}|[^\s&'\"]+)", re.IGNORECASE)
# An entry of a dictionary: `'password': '...'`.
SECRET_ENTRY = re.compile(rf"({_SENSITIVE}['\"]\s*:\s*)(?:{_QUOTED})", re.IGNORECASE)
AUTHORIZATION = re.compile(r"(authorization\W{1,4}(?:basic|bearer)\s+)[^\s'\"]+", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return `text` with `***` for every secret: for messages, logs and tables.

    Secrets are the logins in addresses, such as `s3://key:secret@bucket` and `https://token@host`,
    and the values of parameters, settings and headers that hold tokens, passwords or signatures.
    """
    text = LOGIN.sub("***@", text)
    text = SECRET_PARAMETER.sub(r"\1***", text)
    text = SECRET_ENTRY.sub(r"\1'***'", text)
    return AUTHORIZATION.sub(r"\1***", text)


def contains_password(address: str) -> bool:
    """Return whether an address contains a secret."""
    return without_passwords(address) != address


def first_line(error: BaseException, max_characters: int = 200) -> str:
    """Return the first line of an error's message; the name of its class if it has none.

    Libraries repeat addresses in their messages: the line has no secrets.
    """
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return without_passwords(line)[:max_characters]


def shortened(value: object, max_characters: int = 20) -> str:
    """Return a value of a file that somebody else wrote for a message: one line, and short."""
    return " ".join(str(value)[: 4 * max_characters].split())[:max_characters]


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
