"""Images as files, and as addresses that hold them."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def png(image: Image) -> bytes:
    """RGB `image` as a PNG file."""
    return bytes(cv2.imencode(".png", image[:, :, ::-1])[1])


def data_uri(image: Image, kind: str = "png") -> str:
    """RGB `image` as an address that holds it, for a page."""
    content = cv2.imencode(f".{kind}", image[:, :, ::-1])[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
