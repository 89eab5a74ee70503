"""Image files in the layouts of data sets, and what sharding them has written."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.data.synthetic import synthesize_patches


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Return the pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise_patch(seed: int, height: int = 50, width: int = 50) -> NDArray[np.uint8]:
    """Return a patch of random pixels, shape (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def synthetic_patches(count: int, side: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    """Return `count` H&E-like patches, shape (count, side, side, 3)."""
    numbers = np.arange(count)
    patches = synthesize_patches(f"4:{max(8, count)}:{seed}", numbers, numbers % 2, numbers % 4)
    return np.stack([np.array(Image.fromarray(patch).resize((side, side))) for patch in patches])


def decompression_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a small PNG file whose header announces a huge image."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_idc_file(root: Path, patient: str, label: int, x: int, y: int, content: bytes) -> Path:
    """Write one file in the layout of IDC below `root`."""
    path = root / patient / str(label) / f"{patient}_idx5_x{x}_y{y}_class{label}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_csv_source(folder: Path, text: str) -> Path:
    """Write six images `0.png` to `5.png` and the CSV file `list.csv` with the content `text`."""
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(synthetic_patches(6, 20)):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


def shard_source(
    source: Path, tmp_path: Path, source_format: str | None = None, **options: Any
) -> Manifest:
    """Shard `source` with the `SourceOptions` `options` into `out` in `tmp_path`."""
    return write_shards(
        str(source), tmp_path / "out", source_format, options=SourceOptions(**options), workers=1
    )


def rejections(tmp_path: Path) -> dict[str, str]:
    """Return the reason for each rejected file in `out` in `tmp_path`."""
    with (tmp_path / "out" / "rejected.csv").open(newline="", errors="surrogateescape") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def shard_columns(tmp_path: Path, *columns: str) -> dict[str, list[Any]]:
    """Return columns of the first shard in `out` in `tmp_path`."""
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet", columns=list(columns))
    return {name: table.column(name).to_pylist() for name in columns}
