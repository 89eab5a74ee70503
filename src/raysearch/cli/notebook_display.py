"""Shows something that changes in the output of a notebook's cell, and updates it in place."""

from __future__ import annotations

import contextvars
import io
import threading
import time
from collections.abc import Callable

from rich.console import RenderableType

from raysearch.cli.safe_console import NOTEBOOK_WIDTH, SafeConsole

# The output is updated every second at first, and less often in a long study: the time between two
# updates is at most this fraction of the time since the start, and at most so long.
MIN_INTERVAL_S, MAX_INTERVAL_S = 1.0, 10.0
INTERVAL_FRACTION = 1 / 300
HTML = (
    '<pre style="white-space: pre; overflow-x: auto; line-height: normal; font-family: monospace">'
    "{code}</pre>"
)


class NotebookDisplay:
    """Shows a renderable in one output of a cell of Jupyter, from `start` to `stop`.

    The output is replaced, so that the notebook has only the last one. A front end that replaces no
    outputs, such as the console of Jupyter, shows the first one.

    Args:
        render: Returns what is shown now.
    """

    def __init__(self, render: Callable[[], RenderableType]) -> None:
        self._render = render
        self._ended = threading.Event()
        # The kernel assigns the output of a thread to the cell of its context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def start(self) -> None:
        """Show it, and update it from time to time."""
        from IPython.display import DisplayHandle

        self._handle = DisplayHandle()
        self._handle.display(formats(self._render()), raw=True)
        self._thread.start()

    def stop(self) -> None:
        """Show its last state."""
        self._ended.set()
        self._thread.join()
        self._update()

    def _run(self) -> None:
        start_s = time.monotonic()
        while not self._ended.wait(update_interval(time.monotonic() - start_s)):
            self._update()

    def _update(self) -> None:
        self._handle.update(formats(self._render()), raw=True)


def update_interval(elapsed_s: float) -> float:
    """Return the seconds until the next update, `elapsed_s` seconds after the start."""
    return min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, elapsed_s * INTERVAL_FRACTION))


def formats(renderable: RenderableType) -> dict[str, str]:
    """Return `renderable` as text and as HTML, by their MIME types."""
    console = SafeConsole(
        record=True, file=io.StringIO(), width=NOTEBOOK_WIDTH, force_jupyter=False
    )
    console.print(renderable)
    html = console.export_html(inline_styles=True, code_format=HTML, clear=False)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    return {"text/plain": "\n".join(lines), "text/html": html}
