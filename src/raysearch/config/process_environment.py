"""What the surroundings of a process may lack, or contain by accident: a home, a search path."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# The home of accounts without one; nothing can be created there.
NO_HOME = "/nonexistent"
SAFE_PATH, SEARCH_PATH = "PYTHONSAFEPATH", "PYTHONPATH"
# The size of the terminal. Terminals without a size set 0, with which nothing would be printed.
TERMINAL_SIZE = ("COLUMNS", "LINES")


def prepare_environment() -> None:
    """Prepare this process and those that it starts; the first thing that a command does.

    The working folder comes last on the search path of modules, so that a user's own module is
    found there and a file such as `types.py` replaces no other module. An account without a home
    or a name gets one that libraries can read, because some of them read it when they are imported.
    """
    os.environ[SAFE_PATH] = "1"  # Python would put the working folder first for `-m` and `-c`
    if SEARCH_PATH in os.environ:
        os.environ[SEARCH_PATH] = without_working_folder(os.environ[SEARCH_PATH])
    sys.path[:] = path_with_working_folder_last(sys.path)
    name_account()
    remove_terminal_size_of_zero()


def remove_terminal_size_of_zero() -> None:
    """Remove the environment variables of a terminal's size that are no number of at least 1."""
    for name in TERMINAL_SIZE:
        size = os.environ.get(name, "1")
        if not (size.isdecimal() and int(size) > 0):
            del os.environ[name]


def path_with_working_folder_last(path: Sequence[str]) -> list[str]:
    """Return a search path of modules with the working folder at its end.

    If the working folder has been removed, it is not on the path.
    """
    try:
        folder = os.path.realpath(Path.cwd())
    except FileNotFoundError:
        return [entry for entry in path if entry]
    return [*(entry for entry in path if os.path.realpath(entry) != folder), folder]


def name_account() -> None:
    """Set the environment variables of the home and the name of an account that lacks them."""
    try:
        Path.home()
    except RuntimeError:  # neither HOME nor an entry in the database of users
        os.environ["HOME"] = NO_HOME
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid{os.getuid()}"


def without_working_folder(search_path: str) -> str:
    """Return PYTHONPATH without the working folder, unless this package is in that folder.

    An empty entry is the working folder.
    """
    package_folder = str(Path(__file__).parents[2])
    entries = search_path.split(os.pathsep)
    try:
        folder = os.path.realpath(Path.cwd())
    except FileNotFoundError:  # it has been removed
        folder = None
    return os.pathsep.join(
        entry
        for entry in entries
        if entry and (os.path.realpath(entry) != folder or entry == package_folder)
    )
