"""Handmade PDFs and images, and a local server in NCBI's place, for the tests of the harvest."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from raysearch.cli import run
from raysearch.data.synthetic import synthesize_patches

Pixels = NDArray[np.uint8]
API_KEY = "0123456789abcdef-key"


def tissue_image(seed: int, rows: int = 4, columns: int = 4) -> Pixels:
    """Return synthetic H&E patches side by side, shape (50 rows, 50 columns, 3)."""
    count = rows * columns
    numbers = np.arange(count) + 1000 * seed
    patients = np.zeros(count, np.int64)
    patches = synthesize_patches("2:2:1", numbers, numbers % 2, patients)
    lines = [np.concatenate(patches[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    return np.concatenate(lines, 0)


def plot_image(seed: int, height: int = 200, width: int = 300) -> Pixels:
    """Return a bar chart in blue and orange on white, with black axes."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    bar_heights = np.random.default_rng(seed).integers(20, height - 20, 8)
    for index, bar_height in enumerate(bar_heights):
        left, color = 20 + index * 34, ((31, 119, 180), (255, 127, 14))[index % 2]
        pixels[height - bar_height : -10, left : left + 24] = color
    pixels[-10:-8, 10:] = pixels[:, 10:12] = 0
    return pixels


def gray_photo(seed: int, height: int = 200, width: int = 300) -> Pixels:
    """Return a noisy gray gradient, as of a gel or an electron micrograph."""
    noise = np.random.default_rng(seed).normal(0, 20, (height, width))
    gray = (np.linspace(40, 220, width)[None] + noise).clip(0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, 2)


def stream_object(dictionary: str, content: bytes) -> bytes:
    """Return a compressed PDF stream with the entries `dictionary`."""
    packed = zlib.compress(content)
    head = f"<< {dictionary} /Filter /FlateDecode /Length {len(packed)} >>\nstream\n"
    return head.encode() + packed + b"\nendstream"


def image_object(pixels: Pixels, declared_size: tuple[int, int] | None = None) -> bytes:
    """Return a lossless image object, possibly with another (width, height) than it has."""
    width, height = declared_size or (pixels.shape[1], pixels.shape[0])
    dictionary = (
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height}"
        " /ColorSpace /DeviceRGB /BitsPerComponent 8"
    )
    return stream_object(dictionary, pixels.tobytes())


def pdf_of_objects(objects: Sequence[bytes], trailer: str = "") -> bytes:
    """Return a PDF of `objects`, numbered from 1, the first of which is the catalog."""
    content, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, pdf_object in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, pdf_object)
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    content += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    entries = f"/Size {len(objects) + 1} /Root 1 0 R {trailer}"
    return bytes(content + f"trailer\n<< {entries} >>\nstartxref\n{start}\n%%EOF\n".encode())


def build_pdf(*pages: Sequence[bytes], trailer: str = "") -> bytes:
    """Return a PDF whose pages show image objects one below the other."""
    objects, page_numbers = [b"<< /Type /Catalog /Pages 2 0 R >>", b""], []
    for images in pages:
        first = len(objects) + 1
        objects += images
        names = " ".join(f"/I{number} {first + number} 0 R" for number in range(len(images)))
        operators = "".join(
            f"q 100 0 0 80 20 {number * 90} cm /I{number} Do Q\n" for number in range(len(images))
        )
        objects.append(stream_object("", operators.encode()))
        page_numbers.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R"
            f" /Resources << /XObject << {names} >> >> >>".encode()
        )
    kids = " ".join(f"{number} 0 R" for number in page_numbers)
    objects[1] = f"<< /Type /Pages /Count {len(page_numbers)} /Kids [{kids}] >>".encode()
    return pdf_of_objects(objects, trailer)


def encrypted_pdf() -> bytes:
    """Return a PDF that requires a password."""
    encryption = "/Filter /Standard /V 1 /R 2 /P -4"
    keys = f"/O <{'ab' * 32}> /U <{'cd' * 32}>"
    trailer = f"/Encrypt << {encryption} {keys} >> /ID [<00> <00>]"
    return build_pdf([image_object(tissue_image(1))], trailer=trailer)


def pdf_bomb(operator: bytes, repetitions: int) -> bytes:
    """Return a small PDF whose page repeats a drawing operator many times."""
    operators_per_block = 2**20 // len(operator)
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    # A block that refers to no data before its own start can be repeated.
    block = packer.compress(operator * operators_per_block) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = head + block * (repetitions // operators_per_block) + packer.flush()
    content = f"<< /Filter /FlateDecode /Length {len(packed)} >>\nstream\n".encode() + packed
    return pdf_of_objects(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] /Contents 4 0 R >>",
            content + b"\nendstream",
        ]
    )


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that the local server received."""

    path: str
    parameters: dict[str, str]


class FakeNcbi:
    """The content of the local server and the requests that it received.

    Attributes:
        pdfs: PDF of each PubMed id; None for a paper without open access.
        search_results: PubMed ids that every search returns.
        failures: (status, Retry-After) of the next responses.
        requests: Received requests.
        num_missing_bytes: Number of bytes that the next response lacks.
        url: Base URL of the server.
    """

    def __init__(self) -> None:
        self.pdfs: dict[str, bytes | None] = {}
        self.search_results: list[str] = []
        self.failures: list[tuple[int, str | None]] = []
        self.requests: list[ReceivedRequest] = []
        self.num_missing_bytes = 0
        self.url = ""

    @property
    def requested_paths(self) -> list[str]:
        """The paths of the received requests."""
        return [request.path for request in self.requests]

    def answer(self, path: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        """Return the status and the content of a response."""
        if path == "/entrez/eutils/esearch.fcgi":
            if parameters["term"] == "((":
                return 200, b'{"esearchresult": {"ERROR": "Invalid query"}}'
            ids = self.search_results[: int(parameters["retmax"])]
            return 200, json.dumps({"esearchresult": {"idlist": ids}}).encode()
        if path == "/tools/idconv/api/v1/articles/":
            records = [self._converter_record(pmid) for pmid in parameters["ids"].split(",")]
            return 200, json.dumps({"status": "ok", "records": records}).encode()
        return self._bucket_answer(path, parameters)

    def _bucket_answer(self, path: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        pmid = path.partition("PMC9")[2].partition(".")[0]
        if path == "/" and parameters["prefix"].startswith("PMC9"):
            prefix = parameters["prefix"]
            return 200, "".join(f"<Prefix>{prefix}{n}/</Prefix>" for n in (10, 2, 1)).encode()
        content = self.pdfs.get(pmid)
        link = f"PMC9{pmid}.10/PMC9{pmid}.10.pdf"
        if path == f"/metadata/PMC9{pmid}.10.json":
            metadata: dict[str, object] = {"is_pmc_openaccess": content is not None}
            if content is not None:
                md5 = hashlib.md5(content).hexdigest()
                metadata["pdf_url"] = f"s3://pmc-oa-opendata/{link}?md5={md5}"
            return 200, json.dumps(metadata).encode()
        if path == f"/{link}" and content is not None:
            return 200, content
        return 404, b"<Error/>"

    def _converter_record(self, pmid: str) -> dict[str, object]:
        if pmid in self.pdfs:
            return {"requested-id": pmid, "pmid": int(pmid), "pmcid": f"PMC9{pmid}"}
        return {"requested-id": pmid, "status": "error", "errmsg": "Identifier not found in PMC"}


@contextmanager
def serve(ncbi: FakeNcbi) -> Iterator[None]:
    """Answer HTTP requests at `ncbi.url` during the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
            ncbi.requests.append(ReceivedRequest(parts.path, parameters))
            status, retry_after = ncbi.failures.pop(0) if ncbi.failures else (200, None)
            content = b"later"
            if status == 200:
                status, content = ncbi.answer(parts.path, parameters)
            self.send_response(status)
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            num_missing_bytes, ncbi.num_missing_bytes = ncbi.num_missing_bytes, 0
            self.wfile.write(content[: len(content) - num_missing_bytes])

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ncbi.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class CommandOutput:
    """What a command printed."""

    stdout: str
    stderr: str


class HarvestCommand:
    """Runs `raysearch harvest` in this process, in its own working directory."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture

    def __call__(self, *arguments: object, code: int = 0) -> CommandOutput:
        """Run the command, and check its exit code."""
        self._capture.readouterr()
        exit_code = run(["harvest", *map(str, arguments)])
        stdout, stderr = self._capture.readouterr()
        assert exit_code == code, stdout + stderr
        return CommandOutput(stdout, stderr)

    def summary(self, *arguments: object) -> dict[str, Any]:
        """Run the command, and return its JSON output."""
        summary: dict[str, Any] = json.loads(self(*arguments, "--json").stdout)
        return summary

    def error(self, *arguments: object) -> str:
        """Run the command, and return the message of an error that leaves no files."""
        before = sorted(self.folder.rglob("*"))
        output = self(*arguments, code=2)
        assert output.stdout == ""
        assert output.stderr.startswith("raysearch: ")
        assert sorted(self.folder.rglob("*")) == before
        return output.stderr

    def one_line_error(self, *arguments: object) -> str:
        """Run the command, and return the message of an error in one line."""
        message = self.error(*arguments)
        assert message.count("\n") == 1
        return message


def image_rows(out: Path) -> list[dict[str, Any]]:
    """Return the rows of the table of images."""
    rows: list[dict[str, Any]] = pq.read_table(out / "images.parquet").to_pylist()
    return rows


def rejected_files(out: Path) -> dict[str, str]:
    """Return the reason for each rejected file."""
    with (out / "rejected.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def tile_names(out: Path) -> list[str]:
    """Return the paths of all tiles, relative to their folder."""
    return sorted(
        path.relative_to(out / "tiles").as_posix() for path in out.rglob("tiles/**/*.png")
    )
