"""Contact sheets: small pictures of what was kept and what was dropped, to judge at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLUMNS, A_PAGE = 10, 60
# Beyond this, nobody looks; the table has them all.
MAX_PAGES = 20
SIDE, CELL, LINE, HEADING, MARGIN = 128, (162, 170), 13, 30, 10
INK, PAPER, EMPTY = (30, 30, 30), (255, 255, 255), (225, 225, 225)
LETTERS = 28


class Pile:
    """Pictures under one heading, in the order in which they came."""

    def __init__(self, heading: str) -> None:
        self.heading, self.count = heading, 0
        self._cells: list[tuple[Image.Image, tuple[str, str]]] = []

    def add(self, picture: Image.Image, first: str, second: str) -> None:
        """Add a small picture and the two lines below it."""
        self.count += 1
        if len(self._cells) < A_PAGE * MAX_PAGES:
            self._cells.append((picture, (_short(first), _short(second))))

    @property
    def pages(self) -> int:
        """How many pages it fills."""
        return -(-len(self._cells) // A_PAGE)

    def page(self, number: int) -> list[tuple[Image.Image, tuple[str, str]]]:
        """The cells of page `number`, from 0."""
        return self._cells[number * A_PAGE : (number + 1) * A_PAGE]


def small_picture(pixels: NDArray[np.uint8] | None) -> Image.Image:
    """`pixels`, uint8 (H, W, 3), as small as a sheet shows them; grey where there are none."""
    if pixels is None:
        return Image.new("RGB", (SIDE, SIDE), EMPTY)
    small = Image.fromarray(pixels)
    # Halving first makes a page of large figures three times as fast.
    small.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small


def write_sheets(folder: Path, upper: Pile, lower: Pile) -> list[str]:
    """Write contact.png, contact-2.png and so on into `folder`, and return their names.

    Each has up to 60 pictures of `upper` above as many of `lower`; no pictures, no sheet.
    """
    names = []
    for number in range(max(upper.pages, lower.pages)):
        names.append("contact.png" if number == 0 else f"contact-{number + 1}.png")
        _sheet([(pile, number) for pile in (upper, lower)]).save(folder / names[-1])
    return names


def _sheet(parts: list[tuple[Pile, int]]) -> Image.Image:
    """One page: a heading and rows of cells for each (pile, page) that has some."""
    parts = [(pile, number) for pile, number in parts if pile.page(number)]
    rows = [-(-len(pile.page(number)) // COLUMNS) for pile, number in parts]
    height = 2 * MARGIN + sum(HEADING + count * CELL[1] for count in rows)
    sheet = Image.new("RGB", (2 * MARGIN + COLUMNS * CELL[0], height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    top = MARGIN
    for (pile, number), count in zip(parts, rows, strict=True):
        cells = pile.page(number)
        first = number * A_PAGE
        shown = f" ({first + 1} to {first + len(cells)})" if len(cells) < pile.count else ""
        heading = f"{pile.heading}: {pile.count:,}{shown}"
        pen.text((MARGIN, top + 4), heading, INK, ImageFont.load_default(size=16))
        top += HEADING
        for place, (picture, lines) in enumerate(cells):
            left, up = MARGIN + place % COLUMNS * CELL[0], top + place // COLUMNS * CELL[1]
            sheet.paste(picture, (left, up + SIDE - picture.height))
            for line, text in enumerate(lines):
                pen.text((left, up + SIDE + 3 + line * LINE), text, INK, font)
        top += count * CELL[1]
    return sheet


def _short(text: str) -> str:
    """`text` in one line that fits below its picture."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= LETTERS else plain[: LETTERS - 1] + "\u2026"
