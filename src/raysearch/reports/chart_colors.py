"""The colors of charts: fixed ones in pictures, variables of the style sheet in pages.

A chart is drawn in the colors of the light page. In a page, each color becomes a variable, so that
the dark page has colors of its own.
"""

from __future__ import annotations

INK, SOFT, LINE, CARD = "#1d1a24", "#5f5a6b", "#dedbe5", "#fffffe"
# Lines and bars. Their contrast with the page is at least 4.5, and dashes distinguish them, too.
SERIES = ("#0b6390", "#b0441a", "#3b7a2f", "#8a4f9e", "#806400", "#a03060")
DARK_SERIES = ("#6cc1e8", "#f0905f", "#8fce7f", "#c9a2dc", "#e0c050", "#f08fb5")
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 3)))
# Values from the lowest to the highest: the highest has the largest contrast with the page.
LEVELS = (
    *("#d7e1ed", "#c0d2e5", "#a5c0dc", "#88afd0", "#6a9cc4"),
    *("#4d87b4", "#3472a2", "#205c8b", "#11466f", "#072f4f"),
)
DARK_LEVELS = (
    *("#2e3542", "#374456", "#3f536c", "#486384", "#51749c"),
    *("#5984b0", "#6a9bc9", "#84b4df", "#a5cdf0", "#cfe8fc"),
)
# In cells of lower levels, text has the color of the page's text; in the others, of the card.
FIRST_DARK_LEVEL = 5


def light_variables() -> dict[str, str]:
    """Return the color of the light page for each variable."""
    pairs = zip(_VARIABLES, (INK, SOFT, LINE, CARD, *SERIES, *LEVELS), strict=True)
    return dict(pairs)


def variable_of_color() -> dict[str, str]:
    """Return the style sheet's variable for each color in which charts are drawn."""
    return {color: f"var(--{name})" for name, color in light_variables().items()}


def style_sheet() -> str:
    """Return the rules that define the variables of lines and of levels for both pages."""
    names = _VARIABLES[4:]
    light, dark = (
        "".join(f"--{name}:{color};" for name, color in zip(names, colors, strict=True))
        for colors in ((*SERIES, *LEVELS), (*DARK_SERIES, *DARK_LEVELS))
    )
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def level_of(value: float, first: float, last: float) -> int:
    """Return the level of a value between that of the first and of the last level, or the nearest.

    The value of the last level may be the smaller one.
    """
    fraction = (value - first) / ((last - first) or 1)
    return min(max(int(fraction * len(LEVELS)), 0), len(LEVELS) - 1)


_VARIABLES = (
    *("ink", "soft", "line", "card"),
    *(f"series-{number}" for number in range(len(SERIES))),
    *(f"level-{number}" for number in range(len(LEVELS))),
)
