"""Papers come from a folder or from PubMed Central, where each is downloaded once."""

import csv
import io
import os
import socket
from pathlib import Path

import pytest

from support.harvest_services import (
    API_KEY,
    FakeNcbi,
    HarvestCommand,
    build_pdf,
    image_object,
    image_rows,
    rejected_files,
    tile_names,
    tissue_image,
)


def test_a_file_of_the_folder_that_is_no_pdf_is_rejected_by_name(
    harvest: HarvestCommand, papers: Path, tmp_path: Path
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
    summary = harvest.summary("papers", "out")
    assert (summary["num_papers"], summary["num_rejected"], summary["num_images"]) == (12, 9, 10)
    content = (harvest.folder / "out" / "rejected.csv").read_bytes()
    assert b"\xff.pdf,its name is not UTF-8" in content
    rows = csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape")))
    reasons = {row["file"]: row["reason"] for row in rows}
    assert reasons["out.pdf"] == "a link to a file outside the folder"
    assert reasons["gone.pdf"] == "cannot be read: No such file or directory"
    assert reasons["round.pdf"].startswith("cannot be read: ")
    assert reasons["deep"] == "a link to a folder, which is not followed"
    assert reasons["pipe.pdf"] == "not a regular file"
    assert reasons["notes.txt"] == "not named .pdf"
    assert reasons["...pdf"].endswith("starts with a dot")
    assert reasons["a.pdf"] == "its name without .pdf is that of a.PDF"


def test_papers_of_a_list_are_downloaded_and_unavailable_ones_are_rejected(
    harvest: HarvestCommand, ncbi: FakeNcbi
) -> None:
    out = harvest.folder / "out"
    summary = harvest.summary("ids.txt", "out")
    assert (summary["num_papers"], summary["num_rejected"], summary["num_selected"]) == (4, 2, 2)
    assert rejected_files(out) == {"12": "not open access", "14": "not in PubMed Central"}
    assert {row["pmid"] for row in image_rows(out)} == {"11", "13"}
    assert image_rows(out)[0]["file"] == "pdf/11.pdf"
    assert (out / "pdf" / "11.pdf").read_bytes() == ncbi.pdfs["11"]
    (converter_request,) = [request for request in ncbi.requests if "idconv" in request.path]
    parameters = converter_request.parameters
    assert parameters["ids"] == "11,12,13,14"
    assert (parameters["tool"], parameters["email"]) == ("raysearch", "me@uni.edu")


def test_a_second_run_sends_no_request(harvest: HarvestCommand, ncbi: FakeNcbi) -> None:
    out = harvest.folder / "out"
    first = harvest.summary("ids.txt", "out")
    table = (out / "images.csv").read_bytes()
    ncbi.requests.clear()
    assert harvest.summary("ids.txt", "out") == first
    assert ncbi.requests == []
    assert (out / "images.csv").read_bytes() == table
    ncbi.pdfs["15"] = build_pdf([image_object(tissue_image(5))])
    (harvest.folder / "ids.txt").write_text("11\n15\n")
    assert harvest.summary("ids.txt", "out")["num_selected"] == 2
    pdf_paths = [path for path in ncbi.requested_paths if path.endswith(".pdf")]
    assert pdf_paths == ["/PMC915.10/PMC915.10.pdf"]
    assert {name.split("/")[0] for name in tile_names(out)} == {"11", "15"}


def test_a_query_is_sent_once_and_its_key_does_not_leak(
    harvest: HarvestCommand, ncbi: FakeNcbi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCBI_API_KEY", API_KEY)
    ncbi.search_results = ["13", "11", "12"]
    arguments = ("breast histology", "out", "--query", "--limit", 2)
    output = harvest(*arguments)
    keyed = [request.path for request in ncbi.requests if "api_key" in request.parameters]
    assert keyed == ["/entrez/eutils/esearch.fcgi"]
    assert ncbi.requests[0].parameters["api_key"] == API_KEY
    assert ncbi.requests[0].parameters["term"] == "breast histology"
    assert [row["pmid"] for row in image_rows(harvest.folder / "out")] == ["13", "11"]
    assert API_KEY not in output.stdout + output.stderr
    for path in (harvest.folder / "out").rglob("*"):
        assert path.is_dir() or API_KEY.encode() not in path.read_bytes(), path
    ncbi.requests.clear()
    harvest(*arguments)
    assert ncbi.requests == []


def test_no_error_contains_the_key(
    harvest: HarvestCommand, ncbi: FakeNcbi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCBI_API_KEY", API_KEY)
    ncbi.failures = [(400, None)]
    message = harvest.one_line_error("breast", "out", "--query")
    assert "HTTP 400" in message
    assert "NCBI_API_KEY" in message
    assert API_KEY not in message


def test_a_download_that_is_not_a_pdf_is_rejected(harvest: HarvestCommand, ncbi: FakeNcbi) -> None:
    out = harvest.folder / "out"
    ncbi.pdfs["13"] = b"<html>please wait</html>"
    harvest("ids.txt", "out")
    assert rejected_files(out)["13"] == "the file in PubMed Central is not a PDF"
    assert not (out / "pdf" / "13.pdf").exists()
    (harvest.folder / "small.yaml").write_text("limits: {file_mb: 1}\n")
    ncbi.pdfs["16"] = b"%PDF-" + bytes(1_000_001)
    (harvest.folder / "ids.txt").write_text("16\n")
    harvest("ids.txt", "out", "--config", "small.yaml")
    assert rejected_files(out) == {"16": "larger than 1 MB"}


def test_a_network_failure_keeps_earlier_results(harvest: HarvestCommand, ncbi: FakeNcbi) -> None:
    harvest("ids.txt", "out")
    before = {path: path.read_bytes() for path in harvest.folder.rglob("*") if path.is_file()}
    (harvest.folder / "more.txt").write_text("15\n")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        message = harvest.one_line_error("more.txt", "new", "--ncbi", closed_url)
    assert "does not answer (Connection refused)" in message
    ncbi.pdfs["15"] = build_pdf([image_object(tissue_image(5))])
    (harvest.folder / "ids.txt").write_text("11\n15\n")
    ncbi.failures = [(200, None), (200, None), (503, "999")]
    assert "asks to wait 999 s" in harvest("ids.txt", "out", code=2).stderr
    for path, content in before.items():
        assert path.name == "ids.txt" or path.read_bytes() == content
    assert not list((harvest.folder / "out").glob(".*"))
