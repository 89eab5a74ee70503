"""The reader process decodes images of every mode, gets no key, and ends in time."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.harvest.harvest_settings import Limits
from raysearch.data.harvest.pdf_images import RejectedPdfError, read_pdf_images
from support.harvest_services import API_KEY, pdf_bomb

LIMITS = Limits().reader_limits()


@pytest.mark.parametrize(
    ("mode", "max_difference"),
    # PDFium renders CMYK as ink on paper, duller than Pillow does; inverted it would differ by 100.
    [("RGB", 5), ("L", 5), ("P", 0), ("1", 0), ("RGBA", 5), ("CMYK", 40)],
)
def test_images_of_every_mode_keep_their_colors(
    tmp_path: Path, mode: str, max_difference: int
) -> None:
    gradient = np.full((64, 64, 3), 60, np.uint8)
    gradient[..., 0] = np.linspace(90, 220, 64)[None]
    gradient[..., 2] = np.linspace(200, 120, 64)[:, None]
    original = Image.fromarray(gradient).convert(mode)
    original.save(tmp_path / "a.pdf", "PDF")
    (image,) = read_pdf_images(tmp_path / "a.pdf", LIMITS)
    assert image.pixels is not None
    assert image.pixels.shape == (64, 64, 3)
    difference = np.abs(image.pixels.astype(int) - np.asarray(original.convert("RGB")))
    assert difference.mean() <= max_difference


def test_the_reader_process_gets_no_key(monkeypatch: pytest.MonkeyPatch, papers: Path) -> None:
    monkeypatch.setenv("NCBI_API_KEY", API_KEY)
    images = read_pdf_images(papers / "a.pdf", LIMITS)
    next(images)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    environments = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in children}
    readers = [
        pid
        for pid in environments
        if b"harvest.pdf_reader" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(readers) == 1
    assert API_KEY.encode() not in environments[readers[0]]
    images.close()  # type: ignore[attr-defined]
    assert not Path(f"/proc/{readers[0]}").exists()


def test_a_reader_process_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf_bomb(b"q Q\n", 60_000_000))
    with pytest.raises(RejectedPdfError, match="takes longer than 1 s"):
        list(read_pdf_images(tmp_path / "a.pdf", Limits(timeout_s=1).reader_limits()))
