"""The console of every command: it shows no control character of a name, and fits tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from raysearch.cli.table_fit import fit_table
from raysearch.printable_text import printable

# The variable that a kernel of Jupyter has, and so have the commands in its cells.
KERNEL_VARIABLE = "JPY_PARENT_PID"
# The columns of the text in a cell's output, at the usual width of a notebook.
NOTEBOOK_WIDTH = 115


class SafeConsole(Console):
    r"""A console that prints `\x1b` for the escape character of a name, and never the character.

    A table that is too wide for the console is turned or divided, so that no number in it is cut.
    The output of a notebook's cell is no terminal, although Jupyter asks for colors (FORCE_COLOR).
    """

    def __init__(self, *, force_terminal: bool | None = None, **options: Any) -> None:
        if force_terminal is None and is_notebook_cell():
            force_terminal = False
        super().__init__(force_terminal=force_terminal, **options)

    def render_str(self, text: str, *args: Any, **kwargs: Any) -> Text:
        """Return `text` with markup as rich text, its control characters made visible."""
        return super().render_str(printable(text), *args, **kwargs)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of `renderable`, with visible control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def print(self, *objects: Any, **kwargs: Any) -> None:
        """Print the objects; tables in the width of the console."""
        fitted = [
            part
            for item in objects
            for part in (fit_table(item, self) if isinstance(item, Table) else [item])
        ]
        super().print(*fitted, **kwargs)


def is_notebook_cell() -> bool:
    """Whether this process is a kernel of Jupyter, or a command in a cell."""
    return KERNEL_VARIABLE in os.environ
