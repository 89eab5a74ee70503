"""Opens an address with a token in the user's browser, with the token in no process's arguments."""

from __future__ import annotations

import html
import os
import shutil
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path

# The browser has so long to start and to read the page.
KEEP_S = 60.0
POLL_S = 0.2
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>raysearch ui</title>
<p><a href="{address}">Open the UI</a>
</html>
"""


def open_privately(address: str, is_needed: Callable[[], bool]) -> None:
    """Open `address` by a page that only this user can read, and remove the page later.

    Every account of the machine can read the arguments of the browser: they contain the path of the
    page. The page is in the user's home, because browsers in a sandbox read no other folder.

    Args:
        address: The address, with a token.
        is_needed: Whether the page may still be read; it is removed at the latest after `KEEP_S`.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="raysearch-ui-", dir=Path.home()))
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.stderr.write(f"raysearch: --open: no page in your home ({reason}); open the address\n")
        return
    try:
        page = folder / "open.html"
        with os.fdopen(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(PAGE.format(address=html.escape(address)))
        webbrowser.open(page.as_uri())
        deadline_s = time.monotonic() + KEEP_S
        while is_needed() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
