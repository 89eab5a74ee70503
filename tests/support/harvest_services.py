"""PDFs made by hand, and a server that plays NCBI, for the tests of the harvest."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

from raysearch.data.synthetic import draw_patches

Pixels = NDArray[np.uint8]


def tissue(seed: int, rows: int = 4, columns: int = 4) -> Pixels:
    """Drawn H&E patches side by side, (50 rows, 50 columns, 3)."""
    count = rows * columns
    numbers = np.arange(count) + 1000 * seed
    owners = np.zeros(count, np.int64)
    patches = draw_patches("2:2:1", numbers, numbers % 2, owners)
    lines = [np.concatenate(patches[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    return np.concatenate(lines, 0)


def plot(seed: int, height: int = 200, width: int = 300) -> Pixels:
    """Bars in blue and orange on white, with black axes."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    heights = np.random.default_rng(seed).integers(20, height - 20, 8)
    for place, high in enumerate(heights):
        left = 20 + place * 34
        pixels[height - high : -10, left : left + 24] = ((31, 119, 180), (255, 127, 14))[place % 2]
    pixels[-10:-8, 10:] = pixels[:, 10:12] = 0
    return pixels


def photo(seed: int, height: int = 200, width: int = 300) -> Pixels:
    """A noisy grey slope, as of a gel or an electron micrograph."""
    noise = np.random.default_rng(seed).normal(0, 20, (height, width))
    grey = (np.linspace(40, 220, width)[None] + noise).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def stream(words: str, content: bytes) -> bytes:
    """A PDF stream whose dictionary says `words`."""
    packed = zlib.compress(content)
    head = f"<< {words} /Filter /FlateDecode /Length {len(packed)} >>\nstream\n"
    return head.encode() + packed + b"\nendstream"


def image(pixels: Pixels, said: tuple[int, int] | None = None) -> bytes:
    """An image object without loss, which may lie about its (width, height)."""
    width, height = said or (pixels.shape[1], pixels.shape[0])
    words = (
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height}"
        " /ColorSpace /DeviceRGB /BitsPerComponent 8"
    )
    return stream(words, pixels.tobytes())


def file_of(objects: Sequence[bytes], trailer: str = "") -> bytes:
    """A PDF of `objects`, numbered from 1, the first of which is the catalogue."""
    out, places = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    words = f"/Size {len(objects) + 1} /Root 1 0 R {trailer}"
    return bytes(out + f"trailer\n<< {words} >>\nstartxref\n{start}\n%%EOF\n".encode())


def pdf(*pages: Sequence[bytes], trailer: str = "") -> bytes:
    """A PDF whose pages show those image objects one below the other."""
    objects, kids = [b"<< /Type /Catalog /Pages 2 0 R >>", b""], []
    for images in pages:
        first = len(objects) + 1
        objects += images
        names = " ".join(f"/I{number} {first + number} 0 R" for number in range(len(images)))
        draw = "".join(
            f"q 100 0 0 80 20 {number * 90} cm /I{number} Do Q\n" for number in range(len(images))
        )
        objects.append(stream("", draw.encode()))
        kids.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R"
            f" /Resources << /XObject << {names} >> >> >>".encode()
        )
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{listed}] >>".encode()
    return file_of(objects, trailer)


def encrypted() -> bytes:
    """A PDF that opens with a password alone."""
    said = "/Filter /Standard /V 1 /R 2 /P -4"
    locks = f"/O <{'ab' * 32}> /U <{'cd' * 32}>"
    return pdf([image(tissue(1))], trailer=f"/Encrypt << {said} {locks} >> /ID [<00> <00>]")


def flood(word: bytes, times: int) -> bytes:
    """A small PDF whose one page is drawn by `word`, so many times."""
    many = 2**20 // len(word)
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    # A block that looks back no further than its own start can be repeated.
    block = packer.compress(word * many) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = head + block * (times // many) + packer.flush()
    content = f"<< /Filter /FlateDecode /Length {len(packed)} >>\nstream\n".encode() + packed
    return file_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] /Contents 4 0 R >>",
            content + b"\nendstream",
        ]
    )


class Ncbi:
    """What the server holds, and what it was asked: `pdfs` by PubMed id, None for no open one.

    `failures` are (status, Retry-After) that the next requests get; `found` answers a search.
    """

    def __init__(self) -> None:
        self.pdfs: dict[str, bytes | None] = {}
        self.found: list[str] = []
        self.failures: list[tuple[int, str | None]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.short_by = 0
        self.address = ""

    @property
    def places(self) -> list[str]:
        """The paths that were asked for."""
        return [path for path, _words in self.asked]

    def answer(self, path: str, words: dict[str, str]) -> tuple[int, bytes]:
        """The status and the content of one answer."""
        if path == "/entrez/eutils/esearch.fcgi":
            if words["term"] == "((":
                return 200, b'{"esearchresult": {"ERROR": "Invalid query"}}'
            ids = self.found[: int(words["retmax"])]
            return 200, json.dumps({"esearchresult": {"idlist": ids}}).encode()
        if path == "/tools/idconv/api/v1/articles/":
            records = [self._record(pmid) for pmid in words["ids"].split(",")]
            return 200, json.dumps({"status": "ok", "records": records}).encode()
        return self._file(path, words)

    def _file(self, path: str, words: dict[str, str]) -> tuple[int, bytes]:
        pmid = path.partition("PMC9")[2].partition(".")[0]
        if path == "/" and words["prefix"].startswith("PMC9"):
            pmcid = words["prefix"]
            return 200, "".join(f"<Prefix>{pmcid}{n}/</Prefix>" for n in (10, 2, 1)).encode()
        content = self.pdfs.get(pmid)
        link = f"PMC9{pmid}.10/PMC9{pmid}.10.pdf"
        if path == f"/metadata/PMC9{pmid}.10.json":
            told = {"is_pmc_openaccess": content is not None}
            if content is not None:
                md5 = hashlib.md5(content).hexdigest()
                told |= {"pdf_url": f"s3://pmc-oa-opendata/{link}?md5={md5}"}  # type: ignore[dict-item]
            return 200, json.dumps(told).encode()
        if path == f"/{link}" and content is not None:
            return 200, content
        return 404, b"<Error/>"

    def _record(self, pmid: str) -> dict[str, object]:
        if pmid in self.pdfs:
            return {"requested-id": pmid, "pmid": int(pmid), "pmcid": f"PMC9{pmid}"}
        return {"requested-id": pmid, "status": "error", "errmsg": "Identifier not found in PMC"}


@contextmanager
def serve(ncbi: Ncbi) -> Iterator[None]:
    """Answer over HTTP at `ncbi.address` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            words = {name: values[0] for name, values in parse_qs(parts.query).items()}
            ncbi.asked.append((parts.path, words))
            status, after = ncbi.failures.pop(0) if ncbi.failures else (200, None)
            content = b"later"
            if status == 200:
                status, content = ncbi.answer(parts.path, words)
            self.send_response(status)
            if after is not None:
                self.send_header("Retry-After", after)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            short, ncbi.short_by = ncbi.short_by, 0
            self.wfile.write(content[: len(content) - short])

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ncbi.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
