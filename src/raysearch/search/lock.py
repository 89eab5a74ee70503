"""One launcher a study."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from raysearch.errors import StudyError
from raysearch.search.folder import StudyFolder


@contextmanager
def launcher_lock(folder: StudyFolder) -> Iterator[None]:
    """Hold the study's lock; StudyError, naming the holder, while another launcher has it.

    The kernel gives the lock back when its holder dies, however it dies. On an address that is
    no local path there is no such lock, and two launches of one study are not told apart.
    """
    if not folder.is_local:
        yield
        return
    path = folder.local / folder.LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another launcher"
            raise StudyError(
                f"study {folder.name!r} is being run by {holder}; wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
