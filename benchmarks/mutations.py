"""Reads mutated images, shards and HDF5 files: no reader may crash, hang or return wrong rows.

    .venv/bin/python benchmarks/mutations.py [COUNT]

COUNT files (100,000 by default), a fifth each of PNG, JPEG, TIFF, Parquet and HDF5, are mutated:
bytes are flipped, removed, duplicated and overwritten (every other PNG inside its compressed data,
with a correct checksum). Child processes read them. Value: the files that were read or rejected
without a crash, within 5 s and 1 GB, and without wrong rows of a shard.
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
from collections.abc import Iterable
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.images.decoding import RejectedImageError, decode
from raysearch.data.images.hdf5 import count_images, read_rows
from raysearch.data.images.shared_memory import Slots
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.shard_manifest import MANIFEST_FILE, read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.synthetic import synthesize_patches
from raysearch.errors import DataError

COUNT, WORKERS, HANG_S, MAX_BYTES = 100_000, 2, 5.0, 2**30
KINDS = ("png", "jpg", "tif", "parquet", "h5")
SIZE = (50, 50)


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` with one to four mutations."""
    mutated = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(0, len(mutated)))
        length = int(rng.integers(1, 64))
        match int(rng.integers(0, 5)):
            case 0:
                mutated[start] ^= 1 << int(rng.integers(0, 8))
            case 1:
                mutated[start : start + length] = rng.bytes(length)
            case 2:
                mutated[start : start + length] = b"\xff" * length
            case 3:
                mutated[start:start] = mutated[start : start + length]
            case _:
                del mutated[start : start + length * int(rng.integers(1, 40))]
        if not mutated:
            return b"\0"
    return bytes(mutated)


def mutate_png_data(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the PNG `content` with mutated compressed pixels and a correct checksum."""
    start = content.index(b"IDAT")
    stop = start + 4 + int.from_bytes(content[start - 4 : start], "big")
    compressed = mutate(content[start + 4 : stop], rng)
    chunk = b"IDAT" + compressed
    length, checksum = len(compressed).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
    return content[: start - 4] + length + chunk + checksum + content[stop + 4 :]


class MutationReader:
    """Valid files of each kind, and the reader of a mutated one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        pixels = synthesize_patches("4:8:1", np.arange(8), np.arange(8) % 2, np.arange(8) % 4)
        self.contents = {kind: _encoded(kind, pixels[0]) for kind in KINDS[:3]}
        write_shards("4:24:1", folder / "shards", "synthetic", workers=1)
        self._manifest = read_manifest(Folder(folder / "shards"))
        self._rows = load_patches(str(folder / "shards"), folder / "cache")
        self.contents["parquet"] = (folder / "shards" / "part-00000.parquet").read_bytes()
        for options in ({}, {"chunks": (2, *pixels.shape[1:]), "compression": "gzip"}):
            with h5py.File(folder / "valid.h5", "w") as file:
                file.create_dataset("x", data=pixels, **options)
            self.contents["h5" + "z" * bool(options)] = (folder / "valid.h5").read_bytes()
        self._slots = Slots(1, 8 * pixels[0].size)
        self._slot = self._slots.take()

    def read(self, kind: str, number: int) -> str:
        """Return `rejected`, `read`, or what is wrong, for the mutated file `number` of `kind`."""
        rng = np.random.default_rng([number, KINDS.index(kind)])
        is_compressed = kind == "h5" and number % 2
        mutation = mutate_png_data if kind == "png" and number % 2 else mutate
        content = mutation(self.contents["h5z" if is_compressed else kind], rng)
        try:
            match kind:
                case "parquet":
                    return self._read_shard(content)
                case "h5":
                    return self._read_hdf5(content)
                case _:
                    return _read_image(kind, content)
        except (RejectedImageError, DataError):
            return "rejected"
        except Exception as error:  # a user would see the traceback of any other exception
            return f"{type(error).__name__}: {error}"[:200]

    def _read_hdf5(self, content: bytes) -> str:
        path = self._folder / "mutated.h5"
        path.write_bytes(content)
        num_rows, _size = count_images(str(path))
        files = [f"mutated.h5#{row}" for row in range(min(num_rows, 8))]
        read_rows(Folder(self._folder), files, SIZE, self._slot)
        return "read"

    def _read_shard(self, content: bytes) -> str:
        """Read a mutated shard; half of them have a manifest with their own hash.

        Wrong rows of those are not an error, since the hash is the only protection.
        """
        folder = self._folder / "mutated"
        folder.mkdir(exist_ok=True)
        (folder / "part-00000.parquet").write_bytes(content)
        (shard,) = self._manifest.shards
        content_hash = hashlib.sha256(content)
        has_own_hash = bool(content_hash.digest()[0] % 2)
        if has_own_hash:
            shard = replace(shard, bytes=len(content), sha256=content_hash.hexdigest())
        manifest = replace(self._manifest, shards=(shard,))
        (folder / MANIFEST_FILE).write_bytes(manifest.dump())
        rows = load_patches(str(folder), self._folder / "mutated-cache")
        is_same = all(
            np.array_equal(getattr(rows, name), getattr(self._rows, name))
            for name in ("pixels", "labels", "patients", "slides")
        )
        for path in (self._folder / "mutated-cache" / "pixels").iterdir():
            path.unlink()
        return "read" if is_same or has_own_hash else "silently wrong"


def _encoded(kind: str, image: Any) -> bytes:
    content = io.BytesIO()
    name = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}[kind]
    Image.fromarray(image).save(content, name)
    return content.getvalue()


def _read_image(kind: str, content: bytes) -> str:
    pixels = decode(content, f"x.{kind}", SIZE).pixels
    return "read" if pixels.shape == (*SIZE[::-1], 3) else f"shape {pixels.shape}"


@dataclass(frozen=True)
class Worker:
    """A process that reads files; `progress` is the current file and the time at its start."""

    process: SpawnProcess
    progress: Any

    def kill_if_hanging(self) -> str | None:
        """Kill the process if one file takes too long; return the error."""
        number, start = self.progress[0], self.progress[1]
        if self.process.is_alive() and number >= 0 and time.monotonic() - start > HANG_S:
            self.process.kill()
            return f"file {number:.0f} takes longer than {HANG_S:g} s"
        return None


def read_files(first: int, count: int, progress: Any, results: Any) -> None:
    """Read every `WORKERS`-th file from `first`; put the outcomes and the peak memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        reader = MutationReader(Path(folder))
        outcomes: Counter[tuple[str, str]] = Counter()
        for number in range(first, count, WORKERS):
            kind = KINDS[number % len(KINDS)]
            progress[0], progress[1] = float(number), time.monotonic()
            outcomes[kind, reader.read(kind, number)] += 1
        progress[0] = -1.0
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.put((dict(outcomes), peak_bytes))


def run_workers(workers: Iterable[Worker]) -> list[str]:
    """Wait for the workers; return the errors of those that hang or crash."""
    workers, errors = list(workers), []
    while any(worker.process.is_alive() for worker in workers):
        time.sleep(0.5)
        errors += [error for worker in workers if (error := worker.kill_if_hanging())]
    return errors + [
        f"file {worker.progress[0]:.0f} ended its reader by signal {-worker.process.exitcode}"
        for worker in workers
        if worker.process.exitcode
    ]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = []
    for first in range(WORKERS):
        progress = context.Array("d", [-1.0, time.monotonic()])
        process = context.Process(target=read_files, args=(first, count, progress, results))
        process.start()
        workers.append(Worker(process, progress))
    errors = run_workers(workers)
    outcomes: Counter[tuple[str, str]] = Counter()
    peak_bytes = 0
    while not results.empty():
        worker_outcomes, worker_bytes = results.get()
        outcomes.update(worker_outcomes)
        peak_bytes = max(peak_bytes, worker_bytes)
    num_good = 0
    for (kind, outcome), number in sorted(outcomes.items()):
        sys.stdout.write(f"{kind}: {number:,} {outcome}\n")
        if outcome in ("read", "rejected"):
            num_good += number
        else:
            errors.append(f"{kind}: {outcome}")
    sys.stdout.write(f"peak memory of a reader: {peak_bytes / 1e6:.0f} MB\n")
    sys.stdout.write("".join(f"ERROR {error}\n" for error in errors))
    line = {
        "benchmark": "mutations",
        "value": num_good,
        "unit": "files",
        "peer": None,
        "ratio": None,
        "goal": f"{count} of {count}, under {MAX_BYTES} bytes",
        "pass": num_good == count and not errors and peak_bytes < MAX_BYTES,
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
