"""Notebooks that a kernel of Jupyter executes, with the messages that it sends."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbformat import NotebookNode

# Characters that a front end would show as such, or that move its cursor.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class CountingClient(NotebookClient):
    """Executes a notebook, and counts the messages of each type for each cell.

    Args:
        notebook: The notebook; its cells get their outputs.
        folder: The working directory of the kernel.
    """

    def __init__(self, notebook: NotebookNode, folder: Path) -> None:
        super().__init__(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
        self.messages: Counter[tuple[int, str]] = Counter()

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Count a message that the kernel has sent for a cell."""
        self.messages[cell_index, str(msg["msg_type"])] += 1
        return super().process_message(msg, cell, cell_index)


def output_texts(cell: NotebookNode) -> list[str]:
    """Return the text of each output of a cell, and its HTML if it has some.

    The lines of a command in a cell end as those of a terminal.
    """
    texts: list[str] = []
    for output in cell.outputs:
        content = output.get("data", {})
        texts += [output.get("text", content.get("text/plain", ""))]
        texts += [content["text/html"]] if "text/html" in content else []
    return [text.replace("\r\n", "\n") for text in texts]
