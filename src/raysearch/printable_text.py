"""Makes control characters of names visible, before a terminal, a page or a table shows them.

Class names, file names and patients come from files that somebody else wrote. An escape sequence in
one would change the terminal, a carriage return would overwrite a line, and a bidirectional control
would change the order in which a line is read.
"""

from __future__ import annotations

import re

# C0 and C1 control characters, line and paragraph separators, and the bidirectional embeddings,
# overrides and isolates (Unicode Standard Annex 9).
_CONTROL = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
CONTROL_CHARACTERS = re.compile(f"[{_CONTROL}]")
# The same without tab and newline, which a text of several lines has.
_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# What `escape_controls` writes, and what it has to escape so that it can be reversed.
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4})")


def printable(text: str) -> str:
    r"""Return `text` with an escape such as `\x1b` for each control character but tab and newline.

    A second call changes nothing.
    """
    return _IN_LINES.sub(_escape, text)


def escape_controls(text: str) -> str:
    r"""Return `text` with an escape such as `\x1b` for each control character, tab and newline too.

    `unescape_controls` reverses it: the backslash of an escape that `text` itself has is written
    as `\x5c`.
    """
    literal = _ESCAPE.sub(lambda match: rf"\x5c{match[0][1:]}" if _code(match) else match[0], text)
    return CONTROL_CHARACTERS.sub(_escape, literal)


def unescape_controls(text: str) -> str:
    """Return the text of which `escape_controls` made `text`."""
    return _ESCAPE.sub(lambda match: _code(match) or match[0], text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _code(match: re.Match[str]) -> str:
    """Return the character of an escape that `escape_controls` writes; empty for any other."""
    character = chr(int(match[0][2:], 16))
    return character if character == "\\" or CONTROL_CHARACTERS.match(character) else ""
