"""Fixtures of the harvest's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.data.harvest.ncbi import Contact
from support.harvest_services import (
    FakeNcbi,
    HarvestCommand,
    build_pdf,
    gray_photo,
    image_object,
    plot_image,
    serve,
    tissue_image,
)


@pytest.fixture
def harvest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HarvestCommand:
    """The command, in an empty working directory and without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAYSEARCH_EMAIL", "RAYSEARCH_NCBI", "NCBI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return HarvestCommand(tmp_path, capsys)


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """A paper with tissue, a plot and a gray photo, and one that repeats an image of the first."""
    folder = tmp_path / "papers"
    (folder / "more").mkdir(parents=True)
    first_page = [image_object(tissue_image(1)), image_object(plot_image(1))]
    second_page = [image_object(gray_photo(1)), image_object(tissue_image(2, 6, 5))]
    (folder / "a.pdf").write_bytes(build_pdf(first_page, second_page))
    pages = [image_object(tissue_image(1))], [image_object(tissue_image(3, 1, 1))]
    (folder / "more" / "b.pdf").write_bytes(build_pdf(*pages))
    return folder


@pytest.fixture
def ncbi(harvest: HarvestCommand, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNcbi]:
    """A server with two open-access papers and one without open access; no request waits."""
    server = FakeNcbi()
    server.pdfs = {
        "11": build_pdf([image_object(tissue_image(1))]),
        "12": None,
        "13": build_pdf([image_object(tissue_image(2))]),
    }
    monkeypatch.setattr("raysearch.data.harvest.http_client.RETRY_DELAYS_S", (0.0,) * 4)
    monkeypatch.setattr(Contact, "min_interval_s", 0.0)
    with serve(server):
        monkeypatch.setenv("RAYSEARCH_NCBI", server.url)
        monkeypatch.setenv("RAYSEARCH_EMAIL", "me@uni.edu")
        (harvest.folder / "ids.txt").write_text("11  # breast\n\n12\n13\n14\n11\n")
        yield server
