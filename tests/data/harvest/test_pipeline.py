"""A harvest selects tissue, cuts it into tiles, and records every image and every rejected file."""

import csv
import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.harvest_services import (
    HarvestCommand,
    build_pdf,
    encrypted_pdf,
    image_object,
    image_rows,
    pdf_bomb,
    plot_image,
    rejected_files,
    tile_names,
    tissue_image,
)


@pytest.mark.usefixtures("papers")
def test_tissue_is_selected_and_every_image_has_a_row(harvest: HarvestCommand) -> None:
    summary = harvest.summary("papers", "out")
    out = harvest.folder / "out"
    assert (summary["num_papers"], summary["num_rejected"], summary["num_images"]) == (2, 0, 6)
    assert (summary["num_selected"], summary["num_duplicates"]) == (2, 1)
    assert summary["num_tiles"] == 4 + 6
    rows = {(row["pmid"], row["page"], row["index"]): row for row in image_rows(out)}
    locations = [(1, 1), (1, 2), (2, 1), (2, 2)]
    expected = [*(("a", *location) for location in locations), ("more/b", 1, 1), ("more/b", 2, 1)]
    assert list(rows) == expected
    large = rows["a", 2, 2]
    assert large["file"] == "a.pdf"
    assert (large["width"], large["height"], large["selected"]) == (250, 300, True)
    assert large["sha256"] == hashlib.sha256(tissue_image(2, 6, 5).tobytes()).hexdigest()
    assert large["purple_fraction"] > 0.9
    assert large["reason"] == ""
    assert "purple, less than 20%" in rows["a", 1, 2]["reason"]
    assert "purple, less than 20%" in rows["a", 2, 1]["reason"]
    assert rows["more/b", 1, 1]["reason"] == "duplicate of a page 1 index 1"
    assert rows["more/b", 2, 1]["reason"] == "50x50, smaller than a tile of 96x96"


@pytest.mark.usefixtures("papers")
def test_the_name_of_a_tile_is_its_position_in_the_image(harvest: HarvestCommand) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    corners = [(x, y) for x in (1, 97) for y in (1, 97, 193)]
    expected = {f"a/p2_i2_x{x}_y{y}.png" for x, y in corners}
    assert {name for name in tile_names(out) if "p2_i2" in name} == expected
    for x, y in corners:
        tile = np.asarray(Image.open(out / "tiles" / "a" / f"p2_i2_x{x}_y{y}.png"))
        assert (tile == tissue_image(2, 6, 5)[y - 1 : y + 95, x - 1 : x + 95]).all()
    assert not [name for name in tile_names(out) if name.startswith("more")]


@pytest.mark.usefixtures("papers")
def test_the_csv_table_equals_the_parquet_table(harvest: HarvestCommand) -> None:
    harvest("papers", "out")
    with (harvest.folder / "out" / "images.csv").open(newline="") as file:
        csv_rows = list(csv.DictReader(file))
    assert csv_rows == [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in image_rows(harvest.folder / "out")
    ]


def test_tiles_of_background_are_not_written(harvest: HarvestCommand, tmp_path: Path) -> None:
    half = np.full((200, 200, 3), 255, np.uint8)
    half[:, :100] = tissue_image(1)[:, :100]
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(build_pdf([image_object(half)]))
    harvest("papers", "out", "--size", 50)
    assert tile_names(harvest.folder / "out") == sorted(
        f"a/p1_i1_x{x}_y{y}.png" for x in (1, 51) for y in (1, 51, 101, 151)
    )


def test_a_bad_pdf_is_rejected_and_the_others_are_read(
    harvest: HarvestCommand, papers: Path, tmp_path: Path
) -> None:
    good = (papers / "a.pdf").read_bytes()
    bad = {
        "bomb.pdf": pdf_bomb(b" ", 3 * 10**9),
        "cut.pdf": good[: len(good) // 2],
        "empty.pdf": b"",
        "locked.pdf": encrypted_pdf(),
        "page.pdf": b"<html>%PDF</html>",
        "shell.pdf": b"%PDF-1.7\nnothing at all\n%%EOF\n",
        "long.pdf": build_pdf(*[[]] * 8),
    }
    for name, content in bad.items():
        (papers / name).write_bytes(content)
    (tmp_path / "small.yaml").write_text("limits: {memory_mb: 512, pages: 7}\n")
    summary = harvest.summary("papers", "out", "--config", "small.yaml")
    assert (summary["num_papers"], summary["num_images"], summary["num_selected"]) == (9, 6, 2)
    reasons = rejected_files(harvest.folder / "out")
    assert set(reasons) == set(bad)
    assert "memory" in reasons["bomb.pdf"]
    assert reasons["cut.pdf"] == "truncated"
    assert reasons["empty.pdf"] == "empty file"
    assert reasons["locked.pdf"] == "encrypted with a password"
    assert reasons["page.pdf"] == "not a PDF"
    assert reasons["shell.pdf"] == "damaged"
    assert reasons["long.pdf"] == "8 pages, more than 7"


def test_an_image_bomb_has_a_row_and_the_other_images_are_read(
    harvest: HarvestCommand, tmp_path: Path
) -> None:
    (tmp_path / "papers").mkdir()
    huge = image_object(plot_image(1), declared_size=(60_000, 60_000))
    content = build_pdf([huge, image_object(tissue_image(1))])
    (tmp_path / "papers" / "a.pdf").write_bytes(content)
    assert harvest.summary("papers", "out")["num_selected"] == 1
    first, second = image_rows(harvest.folder / "out")
    assert first["reason"] == "more than 50,000,000 pixels"
    assert (first["width"], first["sha256"], first["purple_fraction"]) == (60_000, None, None)
    assert second["selected"]


def test_a_paper_that_is_rejected_after_some_images_leaves_no_tile(
    harvest: HarvestCommand, tmp_path: Path
) -> None:
    (tmp_path / "papers").mkdir()
    pages = [[image_object(tissue_image(1))], [image_object(tissue_image(2))]]
    (tmp_path / "papers" / "a.pdf").write_bytes(build_pdf(*pages))
    (tmp_path / "papers" / "b.pdf").write_bytes(build_pdf(pages[0]))
    (tmp_path / "one.yaml").write_text("limits: {images: 1}\n")
    summary = harvest.summary("papers", "out", "--config", "one.yaml")
    assert (summary["num_images"], summary["num_tiles"]) == (1, 4)
    assert rejected_files(harvest.folder / "out") == {"a.pdf": "more than 1 images"}
    # An image of the rejected paper does not make the same image of another paper a duplicate.
    assert image_rows(harvest.folder / "out")[0]["selected"]
    assert {name.split("/")[0] for name in tile_names(harvest.folder / "out")} == {"b"}


@pytest.mark.slow
def test_real_patches_are_selected(shared: Path, harvest: HarvestCommand, tmp_path: Path) -> None:
    pages = []
    with tarfile.open(shared / "data" / "pcam.tar") as archive:
        for member in archive.getmembers()[::25]:
            file = archive.extractfile(member) if member.isfile() else None
            if file:
                pages.append([image_object(np.asarray(Image.open(file).convert("RGB")))])
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(build_pdf(*pages))
    summary = harvest.summary("papers", "out")
    assert summary["num_images"] == len(pages) > 150
    assert summary["num_selected"] + summary["num_duplicates"] > 0.9 * len(pages)
    assert summary["num_tiles"] == summary["num_selected"]
