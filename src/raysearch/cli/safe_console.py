"""The console of every command: it shows no control character of a name, and fits tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from raysearch.cli.table_fit import fit_table
from raysearch.printable_text import printable


class SafeConsole(Console):
    r"""A console that prints `\x1b` for the escape character of a name, and never the character.

    A table that is too wide for the console is turned or divided, so that no number in it is cut.
    """

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
