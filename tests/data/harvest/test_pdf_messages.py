"""Messages of the reader process are decoded as they were encoded; anything else is rejected."""

import pytest

from raysearch.data.harvest.pdf_messages import (
    EndOfFile,
    ImageHeader,
    ReaderLimits,
    ReaderMessage,
    decode_message,
    encode_message,
)


@pytest.mark.parametrize(
    "message", [ImageHeader(1, 2, 30, 40), ImageHeader(1, 2, 0, 0, "damaged"), EndOfFile("empty")]
)
def test_a_message_is_decoded_as_it_was_encoded(message: ReaderMessage) -> None:
    assert decode_message(encode_message(message)) == message


def test_limits_are_decoded_as_they_were_encoded() -> None:
    limits = ReaderLimits(1, 2, 3, 4, 5, 6)
    assert ReaderLimits.decode(limits.encode()) == limits


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 2000,
        b'{"type": "ImageHeader", "page": 1}',
        b'{"type": "ImageHeader", "page": Infinity, "index": 1, "width": 1, "height": 1}',
    ],
)
def test_anything_else_is_rejected(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode_message(line)
