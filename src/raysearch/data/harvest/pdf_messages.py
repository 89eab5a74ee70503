"""The messages between the process that reads a PDF and its parent process.

Both processes import this module, so it imports only modules that import nothing
but the standard library.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from raysearch.config.json_values import parse_json

MAX_REASON_LENGTH = 1024


@dataclass(frozen=True)
class ReaderLimits:
    """The resources that one PDF may use.

    Attributes:
        file_mb: Size of the file in megabytes.
        pages: Number of pages.
        images: Number of embedded images.
        image_pixels: Number of pixels of one decoded image.
        timeout_s: Seconds to read the file.
        memory_mb: Address space of the reader process in MiB.
    """

    file_mb: int
    pages: int
    images: int
    image_pixels: int
    timeout_s: int
    memory_mb: int

    def encode(self) -> str:
        """Encode the limits as an argument of the reader process."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> ReaderLimits:
        """Decode the argument of the reader process."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class ImageHeader:
    """Announces an embedded image.

    Without an error, height x width x 3 bytes of RGB pixels follow the message.

    Attributes:
        page: Page number from 1.
        index: Number of the image on its page, from 1.
        width: Width in pixels.
        height: Height in pixels.
        error: Reason why the image could not be decoded; empty if it was.
    """

    page: int
    index: int
    width: int
    height: int
    error: str = ""


@dataclass(frozen=True)
class EndOfFile:
    """The last message; `rejection` is the reason why the PDF cannot be used, or empty."""

    rejection: str = ""


ReaderMessage = ImageHeader | EndOfFile


def encode_message(message: ReaderMessage) -> bytes:
    """Encode a message as one line of JSON."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode_message(line: bytes) -> ReaderMessage:
    """Decode one line of JSON from a process that is not trusted.

    Raises:
        ValueError: If the line is not a message.
    """
    try:
        fields = parse_json(line)
        if not isinstance(fields, dict):
            raise TypeError("no mapping")
        if fields["type"] == EndOfFile.__name__:
            return EndOfFile(str(fields["rejection"])[:MAX_REASON_LENGTH])
        return ImageHeader(
            int(fields["page"]),
            int(fields["index"]),
            int(fields["width"]),
            int(fields["height"]),
            str(fields["error"])[:MAX_REASON_LENGTH],
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError("not a message of the reader process") from None
