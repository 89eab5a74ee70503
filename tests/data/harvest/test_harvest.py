"""From papers to tiles: what is kept, what is rejected by name, and what is fetched once."""

import csv
import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from raysearch.cli import run as run_command
from raysearch.data.harvest.http import AnswerError, Web, _retry_after
from raysearch.data.harvest.ncbi import Contact, contact_of
from raysearch.data.harvest.pdf import RejectedPdfError, rasters
from raysearch.data.harvest.purple import purple_mask, shortcoming
from raysearch.data.harvest.settings import Limits, Purple
from raysearch.data.harvest.tiling import purple_tiles, tile_corners
from support.harvest_services import (
    Ncbi,
    Pixels,
    encrypted,
    flood,
    image,
    pdf,
    photo,
    plot,
    serve,
    tissue,
)

KEY = "0123456789abcdef-key"


class Here:
    """Runs `raysearch harvest` in this very process, in a folder of its own."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture

    def __call__(self, *words: object, code: int = 0) -> SimpleNamespace:
        self._capture.readouterr()
        ended = run_command(["harvest", *map(str, words)])
        out, err = self._capture.readouterr()
        assert ended == code, out + err
        return SimpleNamespace(stdout=out, stderr=err)

    def counts(self, *words: object) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(self(*words, "--json").stdout)
        return counts

    def rejection(self, *words: object) -> str:
        """The one line of a run that leaves nothing behind."""
        before = sorted(self.folder.rglob("*"))
        done = self(*words, code=2)
        assert done.stdout == ""
        assert done.stderr.startswith("raysearch: ")
        assert done.stderr.count("\n") == 1
        assert sorted(self.folder.rglob("*")) == before
        return str(done.stderr)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    monkeypatch.chdir(tmp_path)
    for name in ("RAYSEARCH_EMAIL", "RAYSEARCH_NCBI", "NCBI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Here(tmp_path, capsys)


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """One paper with tissue, a plot and a grey photo; another with the same tissue once more."""
    folder = tmp_path / "papers"
    (folder / "more").mkdir(parents=True)
    figures = [image(tissue(1)), image(plot(1))], [image(photo(1)), image(tissue(2, 6, 5))]
    (folder / "a.pdf").write_bytes(pdf(*figures))
    (folder / "more" / "b.pdf").write_bytes(pdf([image(tissue(1))], [image(tissue(3, 1, 1))]))
    return folder


@pytest.fixture
def ncbi(run: Here, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ncbi]:
    """NCBI with two open papers and one that is closed; nobody waits for anything."""
    played = Ncbi()
    played.pdfs = {"11": pdf([image(tissue(1))]), "12": None, "13": pdf([image(tissue(2))])}
    monkeypatch.setattr("raysearch.data.harvest.http.WAITS_S", (0.0,) * 4)
    monkeypatch.setattr(Contact, "gap_s", 0.0)
    with serve(played):
        monkeypatch.setenv("RAYSEARCH_NCBI", played.address)
        monkeypatch.setenv("RAYSEARCH_EMAIL", "me@uni.edu")
        (run.folder / "ids.txt").write_text("11  # breast\n\n12\n13\n14\n11\n")
        yield played


def rows(out: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = pq.read_table(out / "images.parquet").to_pylist()
    return listed


def rejections(out: Path) -> dict[str, str]:
    with (out / "rejected.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def tile_names(out: Path) -> list[str]:
    return sorted(
        path.relative_to(out / "tiles").as_posix() for path in out.rglob("tiles/**/*.png")
    )


@pytest.mark.usefixtures("papers")
def test_tissue_is_kept_and_cut_and_every_image_has_its_row(run: Here) -> None:
    counts = run.counts("papers", "out")
    out = run.folder / "out"
    assert (counts["papers"], counts["rejected"], counts["images"]) == (2, 0, 6)
    assert (counts["kept"], counts["duplicates"], counts["tiles"]) == (2, 1, 4 + 6)
    found = {(row["pmid"], row["page"], row["index"]): row for row in rows(out)}
    places = [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert list(found) == [*(("a", *one) for one in places), ("more/b", 1, 1), ("more/b", 2, 1)]
    large = found["a", 2, 2]
    assert large["file"] == "a.pdf"
    assert (large["width"], large["height"], large["kept"]) == (250, 300, True)
    assert large["sha256"] == hashlib.sha256(tissue(2, 6, 5).tobytes()).hexdigest()
    assert large["purple_fraction"] > 0.9
    assert large["reason"] == ""
    assert "purple, less than 20%" in found["a", 1, 2]["reason"]
    assert "purple, less than 20%" in found["a", 2, 1]["reason"]
    assert found["more/b", 1, 1]["reason"] == "duplicate of a page 1 index 1"
    assert found["more/b", 2, 1]["reason"] == "50x50, smaller than a tile of 96x96"


@pytest.mark.usefixtures("papers")
def test_a_tile_is_the_piece_of_the_image_that_its_name_says(run: Here) -> None:
    run("papers", "out")
    out = run.folder / "out"
    corners = [(x, y) for x in (1, 97) for y in (1, 97, 193)]
    named = {f"a/p2_i2_x{x}_y{y}.png" for x, y in corners}
    assert {name for name in tile_names(out) if "p2_i2" in name} == named
    for x, y in corners:
        tile = np.asarray(Image.open(out / "tiles" / "a" / f"p2_i2_x{x}_y{y}.png"))
        assert (tile == tissue(2, 6, 5)[y - 1 : y + 95, x - 1 : x + 95]).all()
    assert not [name for name in tile_names(out) if name.startswith("more")]


@pytest.mark.usefixtures("papers")
def test_the_csv_says_what_the_parquet_says(run: Here) -> None:
    run("papers", "out")
    with (run.folder / "out" / "images.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert told == [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in rows(run.folder / "out")
    ]


def test_a_tile_of_background_is_left_out(run: Here, tmp_path: Path) -> None:
    half = np.full((200, 200, 3), 255, np.uint8)
    half[:, :100] = tissue(1)[:, :100]
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(pdf([image(half)]))
    run("papers", "out", "--size", 50)
    assert tile_names(run.folder / "out") == sorted(
        f"a/p1_i1_x{x}_y{y}.png" for x in (1, 51) for y in (1, 51, 101, 151)
    )


def test_a_bad_pdf_costs_one_row_and_nothing_else(run: Here, papers: Path, tmp_path: Path) -> None:
    good = (papers / "a.pdf").read_bytes()
    bad = {
        "bomb.pdf": flood(b" ", 3 * 10**9),
        "cut.pdf": good[: len(good) // 2],
        "empty.pdf": b"",
        "locked.pdf": encrypted(),
        "page.pdf": b"<html>%PDF</html>",
        "shell.pdf": b"%PDF-1.7\nnothing at all\n%%EOF\n",
        "long.pdf": pdf(*[[]] * 8),
    }
    for name, content in bad.items():
        (papers / name).write_bytes(content)
    (tmp_path / "small.yaml").write_text("limits: {memory_mb: 512, pages: 7}\n")
    counts = run.counts("papers", "out", "--config", "small.yaml")
    assert (counts["papers"], counts["images"], counts["kept"]) == (9, 6, 2)
    told = rejections(run.folder / "out")
    assert set(told) == set(bad)
    assert "memory" in told["bomb.pdf"]
    assert told["cut.pdf"] == "truncated"
    assert told["empty.pdf"] == "empty file"
    assert told["locked.pdf"] == "encrypted, and wants a password"
    assert told["page.pdf"] == "not a PDF"
    assert told["shell.pdf"] == "damaged"
    assert told["long.pdf"] == "8 pages, more than 7"


def test_an_image_that_is_a_bomb_has_a_row_and_its_neighbours_are_kept(
    run: Here, tmp_path: Path
) -> None:
    (tmp_path / "papers").mkdir()
    huge = image(plot(1), said=(60_000, 60_000))
    (tmp_path / "papers" / "a.pdf").write_bytes(pdf([huge, image(tissue(1))]))
    assert run.counts("papers", "out")["kept"] == 1
    first, second = rows(run.folder / "out")
    assert first["reason"] == "more than 50,000,000 pixels"
    assert (first["width"], first["sha256"], first["purple_fraction"]) == (60_000, None, None)
    assert second["kept"]


def test_a_paper_that_is_rejected_half_way_leaves_no_tile(run: Here, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    pages = [[image(tissue(1))], [image(tissue(2))]]
    (tmp_path / "papers" / "a.pdf").write_bytes(pdf(*pages))
    (tmp_path / "papers" / "b.pdf").write_bytes(pdf(pages[0]))
    (tmp_path / "one.yaml").write_text("limits: {images: 1}\n")
    counts = run.counts("papers", "out", "--config", "one.yaml")
    assert (counts["images"], counts["tiles"]) == (1, 4)
    assert rejections(run.folder / "out") == {"a.pdf": "more than 1 images"}
    # What the rejected paper had is no duplicate elsewhere.
    assert rows(run.folder / "out")[0]["kept"]
    assert {name.split("/")[0] for name in tile_names(run.folder / "out")} == {"b"}


def test_a_file_that_is_no_pdf_of_the_folder_is_rejected_by_name(
    run: Here, papers: Path, tmp_path: Path
) -> None:
    good = (papers / "a.pdf").read_bytes()
    (tmp_path / "outside.pdf").write_bytes(good)
    (tmp_path / "elsewhere").mkdir()
    (papers / "out.pdf").symlink_to(tmp_path / "outside.pdf")
    (papers / "gone.pdf").symlink_to(papers / "nowhere.pdf")
    (papers / "round.pdf").symlink_to(papers / "round.pdf")
    (papers / "inside.pdf").symlink_to(papers / "a.pdf")
    (papers / "deep").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(papers / "pipe.pdf")
    (papers / "notes.txt").write_text("x")
    (papers / "...pdf").write_bytes(good)
    (papers / "a.PDF").write_bytes(good)
    (papers / os.fsdecode(b"\xff.pdf")).write_bytes(good)
    counts = run.counts("papers", "out")
    assert (counts["papers"], counts["rejected"], counts["images"]) == (12, 9, 10)
    content = (run.folder / "out" / "rejected.csv").read_bytes()
    assert b"\xff.pdf,its name is not UTF-8" in content
    listed = csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape")))
    told = {row["file"]: row["reason"] for row in listed}
    assert told["out.pdf"] == "a link that leads out of the folder"
    assert told["gone.pdf"] == "cannot be read: No such file or directory"
    assert told["round.pdf"].startswith("cannot be read: ")
    assert told["deep"] == "a link to a folder, which is not followed"
    assert told["pipe.pdf"] == "not a file"
    assert told["notes.txt"] == "not named .pdf"
    assert told["...pdf"].endswith("starts with a dot")
    assert told["a.pdf"] == "its name without .pdf is that of a.PDF"


@pytest.mark.parametrize(
    ("mode", "most"),
    # PDFium shows CMYK as inks on paper, duller than Pillow does; turned round it would be 100 off.
    [("RGB", 5), ("L", 5), ("P", 0), ("1", 0), ("RGBA", 5), ("CMYK", 40)],
)
def test_images_of_every_kind_come_out_in_their_colours(
    tmp_path: Path, mode: str, most: int
) -> None:
    slope = np.full((64, 64, 3), 60, np.uint8)
    slope[..., 0] = np.linspace(90, 220, 64)[None]
    slope[..., 2] = np.linspace(200, 120, 64)[:, None]
    drawn = Image.fromarray(slope).convert(mode)
    drawn.save(tmp_path / "a.pdf", "PDF")
    (raster,) = rasters(tmp_path / "a.pdf", Limits())
    assert raster.pixels is not None
    assert raster.pixels.shape == (64, 64, 3)
    assert np.abs(raster.pixels.astype(int) - np.asarray(drawn.convert("RGB"))).mean() <= most


def test_the_reader_gets_no_key(monkeypatch: pytest.MonkeyPatch, papers: Path) -> None:
    monkeypatch.setenv("NCBI_API_KEY", KEY)
    found = rasters(papers / "a.pdf", Limits())
    next(found)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    told = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in children}
    readers = [
        pid for pid in told if b"harvest.reader" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(readers) == 1
    assert KEY.encode() not in told[readers[0]]
    found.close()  # type: ignore[attr-defined]
    assert not Path(f"/proc/{readers[0]}").exists()


def test_papers_of_a_list_are_fetched_and_the_others_are_named(run: Here, ncbi: Ncbi) -> None:
    counts = run.counts("ids.txt", "out")
    assert (counts["papers"], counts["rejected"], counts["kept"]) == (4, 2, 2)
    assert rejections(run.folder / "out") == {
        "12": "not open access",
        "14": "not in PubMed Central",
    }
    assert {row["pmid"] for row in rows(run.folder / "out")} == {"11", "13"}
    assert rows(run.folder / "out")[0]["file"] == "pdf/11.pdf"
    assert (run.folder / "out" / "pdf" / "11.pdf").read_bytes() == ncbi.pdfs["11"]
    (converted,) = [words for path, words in ncbi.asked if "idconv" in path]
    assert converted["ids"] == "11,12,13,14"
    assert (converted["tool"], converted["email"]) == ("raysearch", "me@uni.edu")


def test_a_second_run_asks_for_nothing(run: Here, ncbi: Ncbi) -> None:
    first = run.counts("ids.txt", "out")
    table = (run.folder / "out" / "images.csv").read_bytes()
    ncbi.asked.clear()
    assert run.counts("ids.txt", "out") == first
    assert ncbi.asked == []
    assert (run.folder / "out" / "images.csv").read_bytes() == table
    ncbi.pdfs["15"] = pdf([image(tissue(5))])
    (run.folder / "ids.txt").write_text("11\n15\n")
    assert run.counts("ids.txt", "out")["kept"] == 2
    assert [path for path in ncbi.places if path.endswith(".pdf")] == ["/PMC915.10/PMC915.10.pdf"]
    assert {name.split("/")[0] for name in tile_names(run.folder / "out")} == {"11", "15"}


def test_a_query_is_asked_once_and_the_key_stays_where_it_is(
    run: Here, ncbi: Ncbi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCBI_API_KEY", KEY)
    ncbi.found = ["13", "11", "12"]
    words = ("breast histology", "out", "--query", "--limit", 2)
    done = run(*words)
    assert [path for path, asked in ncbi.asked if "api_key" in asked] == [
        "/entrez/eutils/esearch.fcgi"
    ]
    assert ncbi.asked[0][1]["api_key"] == KEY
    assert ncbi.asked[0][1]["term"] == "breast histology"
    assert [row["pmid"] for row in rows(run.folder / "out")] == ["13", "11"]
    assert KEY not in done.stdout + done.stderr
    for path in (run.folder / "out").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    ncbi.asked.clear()
    run(*words)
    assert ncbi.asked == []


def test_the_key_is_in_no_error(run: Here, ncbi: Ncbi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBI_API_KEY", KEY)
    ncbi.failures = [(400, None)]
    said = run.rejection("breast", "out", "--query")
    assert "HTTP 400" in said
    assert "NCBI_API_KEY" in said
    assert KEY not in said


def test_a_fetched_file_that_is_not_what_was_told_is_rejected(run: Here, ncbi: Ncbi) -> None:
    ncbi.pdfs["13"] = b"<html>please wait</html>"
    run("ids.txt", "out")
    assert rejections(run.folder / "out")["13"] == "what PubMed Central gives is not a PDF"
    assert not (run.folder / "out" / "pdf" / "13.pdf").exists()
    (run.folder / "small.yaml").write_text("limits: {file_mb: 1}\n")
    ncbi.pdfs["16"] = b"%PDF-" + bytes(1_000_001)
    (run.folder / "ids.txt").write_text("16\n")
    run("ids.txt", "out", "--config", "small.yaml")
    assert rejections(run.folder / "out") == {"16": "larger than 1 MB"}


def test_a_network_that_goes_keeps_what_was_there(run: Here, ncbi: Ncbi) -> None:
    run("ids.txt", "out")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    (run.folder / "more.txt").write_text("15\n")
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{idle.getsockname()[1]}"
        said = run.rejection("more.txt", "new", "--ncbi", nobody)
    assert "does not answer (Connection rejected)" in said
    ncbi.pdfs["15"] = pdf([image(tissue(5))])
    (run.folder / "ids.txt").write_text("11\n15\n")
    ncbi.failures = [(200, None), (200, None), (503, "999")]
    assert "asks to wait 999 s" in run("ids.txt", "out", code=2).stderr
    for path, content in before.items():
        assert path.name == "ids.txt" or path.read_bytes() == content
    assert not list((run.folder / "out").glob(".*"))


class Time:
    """A clock that nothing but a pause moves on."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def served() -> Iterator[Ncbi]:
    played = Ncbi()
    played.pdfs = {"11": b"%PDF-" + bytes(5_000)}
    with serve(played):
        yield played


def place(served: Ncbi) -> str:
    return f"{served.address}/PMC911.10/PMC911.10.pdf"


def web(hours: Time, gap_s: float = 0.0) -> Web:
    return Web(gap_s, hours.clock, hours.pause)


def test_requests_keep_their_distance(served: Ncbi) -> None:
    hours = Time()
    slow = web(hours, gap_s=1 / 3)
    for _ in range(3):
        slow.get(place(served), 10_000)
    assert hours.pauses_s == pytest.approx([1 / 3, 1 / 3])
    hours.now_s += 10.0
    slow.get(place(served), 10_000)
    assert len(hours.pauses_s) == 2


def test_a_key_allows_ten_requests_a_second_and_is_not_shown() -> None:
    assert contact_of("me@uni.edu", "").gap_s == pytest.approx(1 / 3)
    assert contact_of("me@uni.edu", KEY).gap_s == pytest.approx(1 / 10)
    assert KEY not in repr(contact_of("me@uni.edu", KEY))


def test_a_busy_server_is_asked_again_later_and_later(served: Ncbi) -> None:
    hours = Time()
    served.failures = [(429, None), (503, None), (500, "7"), (502, "soon")]
    assert web(hours).get(place(served), 10_000) == served.pdfs["11"]
    assert hours.pauses_s == [1.0, 2.0, 7.0, 8.0]
    served.failures = [(503, None)] * 5
    with pytest.raises(AnswerError, match=r"HTTP 503 from .*pdf, 5 times") as told:
        web(hours).get(place(served), 10_000)
    assert not told.value.lasting
    assert served.failures == []


def test_what_is_not_there_is_not_asked_for_again(served: Ncbi) -> None:
    hours = Time()
    with pytest.raises(AnswerError, match="HTTP 404") as told:
        web(hours).get(f"{served.address}/nothing?api_key={KEY}", 10_000)
    assert told.value.lasting
    assert KEY not in str(told.value)
    assert len(served.asked) == 1
    assert hours.pauses_s == []


def test_a_download_that_breaks_off_is_begun_again(served: Ncbi) -> None:
    served.short_by = 1_000
    assert web(Time()).get(place(served), 10_000) == served.pdfs["11"]
    assert len(served.asked) == 2


def test_no_more_is_read_than_was_agreed(served: Ncbi) -> None:
    with pytest.raises(AnswerError, match="larger than"):
        web(Time()).get(place(served), 5_004)
    assert len(web(Time()).get(place(served), 5_005)) == 5_005


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/a.pdf"])
def test_nothing_but_http_is_read(address: str) -> None:
    with pytest.raises(AnswerError, match="neither http nor https"):
        web(Time()).get(address, 10_000)


def test_a_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
    assert _retry_after("20", now) == 20.0
    assert _retry_after("Fri, 20 Nov 2026 12:01:30 GMT", now) == 90.0
    assert _retry_after("Fri, 20 Nov 2026 11:00:00 GMT", now) == 0.0
    assert _retry_after("soon", now) == _retry_after(None, now) == 0.0


@pytest.mark.usefixtures("ncbi")
def test_mistakes_are_told_in_one_line(run: Here, papers: Path) -> None:
    (run.folder / "words.txt").write_text("11\ntwelve\n")
    (run.folder / "none.txt").write_text("# nothing\n")
    (run.folder / "void").mkdir()
    (run.folder / "mine").mkdir()
    (run.folder / "mine" / "x").write_text("x")
    paper = papers / "a.pdf"
    told = {
        "no such file or folder": ("nowhere", "out"),
        "void: no files in it": ("void", "out"),
        "line 2: 'twelve' is no PubMed id": ("words.txt", "out"),
        "no PubMed id in it": ("none.txt", "out"),
        "not a text": (paper, "out"),
        "mine: is there already": ("papers", "mine"),
        "ids.txt: is there already": ("papers", "ids.txt"),
        "lies in the folder that is read": ("papers", "papers/out"),
        "--size 7: not a side of a tile": ("papers", "out", "--size", 7),
        "none.yaml: no such file": ("papers", "out", "--config", "none.yaml"),
        "give --email, or set RAYSEARCH_EMAIL": ("ids.txt", "out", "--email", ""),
        "'me' is not an e-mail address": ("ids.txt", "out", "--email", "me"),
        "'uni.edu' is no address": ("ids.txt", "out", "--ncbi", "uni.edu"),
        "'http://h:x' is no address": ("ids.txt", "out", "--ncbi", "http://h:x"),
        "holds a password": ("ids.txt", "out", "--ncbi", "http://me:word@h"),
        "--limit 0: PubMed gives 1 to 9,999": ("x", "out", "--query", "--limit", 0),
        "finds nothing for 'x'": ("x", "out", "--query"),
        "rejects the query (Invalid query)": ("((", "out", "--query"),
    }
    for said, words in told.items():
        assert said in run.rejection(*words), words


def test_the_folder_of_another_harvest_is_left_alone(run: Here, papers: Path) -> None:
    run("papers", "out")
    shutil.copytree(papers, run.folder / "others")
    assert "out: holds the harvest of" in run.rejection("others", "out")


@pytest.mark.usefixtures("papers")
def test_all_errors_of_a_settings_file_are_told_at_once(run: Here) -> None:
    text = (
        "purple: {hue: 3, hue_deg: [350, 20], least_share: 2}\nlimits: {pages: 1.5}\ncolour: {}\n"
    )
    (run.folder / "bad.yaml").write_text(text)
    said = run.rejection("papers", "out", "--config", "bad.yaml")
    for error in (
        "5 errors",
        "colour: no such section; the sections are purple, limits",
        "purple.hue: no such setting; purple holds hue_deg, saturation",
        "purple.hue_deg: [350, 20] is not [low, high] within 0 to 360",
        "purple.least_share: 2 is not a number from 0 to 1",
        "limits.pages: 1.5 is not a whole number from 1 to 100000",
    ):
        assert error in said
    for text in ("[1]", "{", "purple: 3", "!!timestamp x"):
        (run.folder / "bad.yaml").write_text(text)
        assert "bad.yaml: " in run.rejection("papers", "out", "--config", "bad.yaml")


@pytest.mark.usefixtures("papers")
def test_a_settings_file_decides_what_is_purple(run: Here) -> None:
    (run.folder / "blue.yaml").write_text(
        "purple: {hue_deg: [190, 220], saturation: [0.1, 1], least_share: 0.05}\n"
    )
    run("papers", "out", "--config", "blue.yaml")
    assert [row["index"] for row in rows(run.folder / "out") if row["kept"]] == [2]
    stored = json.loads((run.folder / "out" / "harvest.json").read_text())
    assert stored["purple"]["hue_deg"] == [190, 220]


def test_contact_sheets_show_what_was_kept_above_what_was_not(run: Here, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    kept = [[image(tissue(number, 2, 2))] for number in range(61)]
    (tmp_path / "papers" / "a.pdf").write_bytes(pdf(*kept, [image(plot(1))]))
    counts = run.counts("papers", "out")
    out = run.folder / "out"
    assert [Path(name).name for name in counts["sheets"]] == ["contact.png", "contact-2.png"]
    first, second = (np.asarray(Image.open(out / name)) for name in counts["sheets"])
    assert first.shape[0] > second.shape[0]
    # Tissue has no blue bar, and the plot has.
    blue = (first == (31, 119, 180)).all(2)
    assert blue.any()
    assert purple_mask(np.ascontiguousarray(first), Purple())[: blue.any(1).argmax()].mean() > 0.2
    assert not (second == (31, 119, 180)).all(2).any()
    (tmp_path / "papers" / "a.pdf").write_bytes(pdf([image(tissue(1))]))
    run("papers", "out")
    assert not (out / "contact-2.png").exists()


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(0, 2**32),
    st.floats(0, 1),
)
def test_tiles_lie_side_by_side_and_are_purple(
    height: int, width: int, size: int, seed: int, least: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < least
    every = list(tile_corners(height, width, size))
    assert len(every) == (height // size) * (width // size)
    covered = np.zeros((height, width), int)
    for x, y in every:
        covered[y : y + size, x : x + size] += 1
    assert covered.max(initial=0) <= 1
    assert covered.sum() == len(every) * size * size
    kept = list(purple_tiles(mask, size, least))
    assert set(kept) <= set(every)
    for x, y in every:
        enough = mask[y : y + size, x : x + size].sum() >= least * size * size
        assert ((x, y) in kept) == enough


@given(arrays.arrays(np.uint8, (6, 9, 3)))
def test_purple_is_a_matter_of_each_pixel(pixels: Pixels) -> None:
    mask = purple_mask(pixels, Purple())
    turned = purple_mask(np.ascontiguousarray(pixels[::-1, ::-1]), Purple())
    assert (turned[::-1, ::-1] == mask).all()
    for (y, x), purple in np.ndenumerate(mask):
        assert purple_mask(pixels[y : y + 1, x : x + 1].copy(), Purple())[0, 0] == purple


@pytest.mark.parametrize(
    ("colour", "purple"),
    [
        ((150, 90, 160), True),  # haematoxylin
        ((225, 150, 195), True),  # eosin
        ((245, 240, 245), False),  # glass
        ((130, 130, 130), False),
        ((20, 8, 20), False),  # a fold, a pen
        ((31, 119, 180), False),
        ((150, 100, 60), False),  # DAB
        ((200, 0, 200), False),  # fluorescence
    ],
)
def test_the_colours_of_the_stain_are_purple(colour: tuple[int, int, int], purple: bool) -> None:
    pixels = np.full((2, 2, 3), colour, np.uint8)
    assert (purple_mask(pixels, Purple()) == purple).all()


def test_what_an_image_lacks_is_said() -> None:
    purple = Purple(min_pixels=20_000, min_purple_pixels=5_000)
    assert shortcoming((200, 200, 3), 40_000, 96, purple) == ""
    assert shortcoming((100, 100), 10_000, 96, purple) == "10,000 pixels, fewer than 20,000"
    assert shortcoming((200, 200), 7_999, 96, purple) == "20.0% purple, less than 20%"
    assert shortcoming((150, 150), 4_600, 96, purple) == "4,600 purple pixels, fewer than 5,000"
    assert shortcoming((300, 90), 27_000, 96, purple) == "90x300, smaller than a tile of 96x96"


def test_a_reader_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(flood(b"q Q\n", 60_000_000))
    with pytest.raises(RejectedPdfError, match="takes longer than 1 s"):
        list(rasters(tmp_path / "a.pdf", Limits(timeout_s=1)))


@pytest.mark.slow
def test_real_patches_are_kept(shared: Path, run: Here, tmp_path: Path) -> None:
    pages = []
    with tarfile.open(shared / "data" / "pcam.tar") as archive:
        for member in archive.getmembers()[::25]:
            file = archive.extractfile(member) if member.isfile() else None
            if file:
                pages.append([image(np.asarray(Image.open(file).convert("RGB")))])
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(pdf(*pages))
    counts = run.counts("papers", "out")
    assert counts["images"] == len(pages) > 150
    assert counts["kept"] + counts["duplicates"] > 0.9 * len(pages)
    assert counts["tiles"] == counts["kept"]
