"""Images as PNG files and data URIs, and values as colors."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from raysearch.inference.image_rendering import data_uri, encode_png, viridis


def test_an_encoded_image_is_read_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    uri = data_uri(image)
    assert uri.startswith("data:image/png;base64,")
    for content in (encode_png(image), base64.b64decode(uri.partition(",")[2])):
        read = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert read is not None
        assert np.array_equal(read[:, :, ::-1], image)
    assert data_uri(image, "jpeg").startswith("data:image/jpeg;base64,")


def test_viridis_gets_brighter_with_the_value() -> None:
    colors = viridis(np.linspace(0, 1, 5, dtype=np.float32))
    assert colors.shape == (5, 3)
    assert colors[0].tolist() == [68, 1, 84]
    assert (np.diff(colors.astype(int).sum(axis=1)) > 0).all()
