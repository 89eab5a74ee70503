"""What can go wrong for a user, as one small tree.

Every message is one line: what it was, what is allowed, what to do. The door (`raysearch.cli`)
prints it and leaves with exit code 2; nothing else catches these.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right."""


class SpaceError(UserError):
    """A search-space file that cannot be a study; its message holds all the faults at once."""


class DataError(UserError):
    """Images, shards or splits that cannot be used."""


class StudyError(UserError):
    """A study that cannot be started, resumed or read."""
