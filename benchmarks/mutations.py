"""Mutated images, shards and HDF5 files through the readers: none may crash, hang or lie.

    uv run python benchmarks/mutations.py [COUNT]

COUNT files (100,000 by default), a fifth each of PNG, JPEG, TIFF, Parquet and HDF5, are spoilt by
flipped, cut, doubled and overwritten bytes (every other PNG inside, under a right checksum), and
read by processes that are watched. Value: how many were read without a crash, in 5 s and 1 GB at
most, and without wrong rows of a shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.patches import load_patches
from raysearch.data.shards.decoding import RejectedImageError, decode
from raysearch.data.shards.hdf5 import image_rows, read_rows
from raysearch.data.shards.shard_manifest import NAME, read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.shared_memory import Slots
from raysearch.data.synthetic import draw_patches
from raysearch.errors import DataError

COUNT, WORKERS, HANG_S, MAX_BYTES = 100_000, 2, 5.0, 2**30
KINDS = ("png", "jpg", "tif", "parquet", "h5")
SIZE = (50, 50)


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """`content`, spoilt in one to four places."""
    found = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        place = int(draw.integers(0, len(found)))
        length = int(draw.integers(1, 64))
        match int(draw.integers(0, 5)):
            case 0:
                found[place] ^= 1 << int(draw.integers(0, 8))
            case 1:
                found[place : place + length] = draw.bytes(length)
            case 2:
                found[place : place + length] = b"\xff" * length
            case 3:
                found[place:place] = found[place : place + length]
            case _:
                del found[place : place + length * int(draw.integers(1, 40))]
        if not found:
            return b"\0"
    return bytes(found)


def inside(content: bytes, draw: np.random.Generator) -> bytes:
    """The PNG `content`, its packed pixels spoilt under a checksum that is right again."""
    start = content.index(b"IDAT")
    stop = start + 4 + int.from_bytes(content[start - 4 : start], "big")
    packed = mutated(content[start + 4 : stop], draw)
    chunk = b"IDAT" + packed
    length, check = len(packed).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
    return content[: start - 4] + length + chunk + check + content[stop + 4 :]


class Bench:
    """The whole files, and how a spoilt one of each kind is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        pixels = draw_patches("4:8:1", np.arange(8), np.arange(8) % 2, np.arange(8) % 4)
        self.whole = {kind: self._encoded(kind, pixels[0]) for kind in KINDS[:3]}
        write_shards("4:24:1", folder / "shards", "synthetic", workers=1)
        self._manifest = read_manifest(Folder(folder / "shards"))
        self._rows = load_patches(str(folder / "shards"), folder / "cache")
        self.whole["parquet"] = (folder / "shards" / "part-00000.parquet").read_bytes()
        for options in ({}, {"chunks": (2, *pixels.shape[1:]), "compression": "gzip"}):
            with h5py.File(folder / "whole.h5", "w") as file:
                file.create_dataset("x", data=pixels, **options)
            self.whole["h5" + "z" * bool(options)] = (folder / "whole.h5").read_bytes()
        self._slots = Slots(1, 8 * pixels[0].size)
        self._slot = self._slots.take()

    def _encoded(self, kind: str, image: Any) -> bytes:
        content = io.BytesIO()
        name = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}[kind]
        Image.fromarray(image).save(content, name)
        return content.getvalue()

    def read(self, kind: str, number: int) -> str:
        """What became of the file `number` of `kind`: rejected, read, or what is wrong."""
        draw = np.random.default_rng([number, KINDS.index(kind)])
        packed = kind == "h5" and number % 2
        spoil = inside if kind == "png" and number % 2 else mutated
        content = spoil(self.whole["h5z" if packed else kind], draw)
        try:
            match kind:
                case "parquet":
                    return self._shard(content)
                case "h5":
                    return self._hdf5(content)
                case _:
                    return self._image(kind, content)
        except (RejectedImageError, DataError):
            return "rejected"
        except Exception as error:  # whatever it is, users would see its traceback
            return f"{type(error).__name__}: {error}"[:200]

    def _image(self, kind: str, content: bytes) -> str:
        pixels, _how = decode(content, f"x.{kind}", SIZE)
        return "read" if pixels.shape == (*SIZE[::-1], 3) else f"shape {pixels.shape}"

    def _hdf5(self, content: bytes) -> str:
        path = self._folder / "spoilt.h5"
        path.write_bytes(content)
        rows, _size = image_rows(str(path))
        files = [f"spoilt.h5#{row}" for row in range(min(rows, 8))]
        read_rows(Folder(self._folder), files, SIZE, self._slot)
        return "read"

    def _shard(self, content: bytes) -> str:
        """Half of them stand beside a manifest that has their hash, which alone tells some of them.

        Of those it is asked only that the reader neither crashes nor hangs.
        """
        folder = self._folder / "spoilt"
        folder.mkdir(exist_ok=True)
        (folder / "part-00000.parquet").write_bytes(content)
        manifest = self._manifest
        (shard,) = manifest.shards
        known = hashlib.sha256(content)
        hashed = bool(known.digest()[0] % 2)
        if hashed:
            shard = replace(shard, bytes=len(content), sha256=known.hexdigest())
        manifest = replace(manifest, shards=(shard,))
        (folder / NAME).write_bytes(manifest.dump())
        found = load_patches(str(folder), self._folder / "spoilt-cache")
        same = all(
            np.array_equal(getattr(found, name), getattr(self._rows, name))
            for name in ("pixels", "labels", "patients", "slides")
        )
        for path in (self._folder / "spoilt-cache" / "pixels").iterdir():
            path.unlink()
        return "read" if same or hashed else "silently wrong"


def work(first: int, count: int, now: Any, answers: Any) -> None:
    """Read files from `first` on, every `WORKERS`-th, saying in `now` which one since when."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        told: Counter[tuple[str, str]] = Counter()
        for number in range(first, count, WORKERS):
            kind = KINDS[number % len(KINDS)]
            now[0], now[1] = float(number), time.monotonic()
            became = bench.read(kind, number)
            told[kind, became] += 1
        now[0] = -1.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.put((dict(told), most))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    errors: list[str] = []
    watched = []
    for first in range(WORKERS):
        now = context.Array("d", [-1.0, time.monotonic()])
        process = context.Process(target=work, args=(first, count, now, answers))
        process.start()
        watched.append((process, now))
    while any(process.is_alive() for process, _now in watched):
        time.sleep(0.5)
        for process, now in watched:
            number, since = now[0], now[1]
            if process.is_alive() and number >= 0 and time.monotonic() - since > HANG_S:
                errors.append(f"file {number:.0f} takes longer than {HANG_S:g} s")
                process.kill()
    errors += [
        f"file {now[0]:.0f} ended its reader by signal {-process.exitcode}"
        for process, now in watched
        if process.exitcode
    ]
    told: Counter[tuple[str, str]] = Counter()
    most = 0
    while not answers.empty():
        found, bytes_used = answers.get()
        told.update(found)
        most = max(most, bytes_used)
    for (kind, became), number in sorted(told.items()):
        sys.stdout.write(f"{kind}: {number:,} {became}\n")
        if became not in ("read", "rejected"):
            errors.append(f"{kind}: {became}")
    sys.stdout.write(f"most memory of a reader: {most / 1e6:.0f} MB\n")
    sys.stdout.write("".join(f"FAULT {error}\n" for error in errors))
    good = sum(number for (_kind, became), number in told.items() if became in ("read", "rejected"))
    line = {
        "benchmark": "mutations",
        "value": good,
        "unit": "files",
        "peer": None,
        "ratio": None,
        "goal": f"{count} of {count}, under {MAX_BYTES} bytes",
        "pass": good == count and not errors and most < MAX_BYTES,
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
