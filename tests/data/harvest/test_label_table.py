"""The tiles of a harvest are labeled in a table, which a later harvest keeps."""

import csv
import json
from pathlib import Path

import pytest

from raysearch.data.harvest.harvest_output import output_folder
from raysearch.data.harvest.harvest_settings import HarvestSettings
from raysearch.data.harvest.papers import papers_in_folder
from raysearch.data.harvest.pipeline import run_harvest
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.sharding import write_shards
from support.harvest_services import (
    HarvestCommand,
    build_pdf,
    image_object,
    image_rows,
    plot_image,
    tile_names,
    tissue_image,
)

TABLE = "labels.csv"


def read_table(out: Path) -> list[dict[str, str]]:
    with (out / TABLE).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write_table(out: Path, rows: list[dict[str, str]]) -> None:
    """Write a table as a spreadsheet does, with a byte order mark."""
    with (out / TABLE).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.usefixtures("papers")
def test_each_tile_has_a_row_with_its_paper_page_and_figure_and_no_label(
    harvest: HarvestCommand,
) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows = read_table(out)
    assert sorted(row["path"] for row in rows) == [f"tiles/{name}" for name in tile_names(out)]
    row = next(row for row in rows if row["path"] == "tiles/a/p2_i2_x97_y193.png")
    (sha256,) = (
        image["sha256"]
        for image in image_rows(out)
        if (image["pmid"], image["page"], image["index"]) == ("a", 2, 2)
    )
    assert row == {
        "path": "tiles/a/p2_i2_x97_y193.png",
        "label": "",
        "patient": "a",
        "slide": "a/p2_i2",
        "x": "97",
        "y": "193",
        "page": "2",
        "figure": "2",
        "size": "96",
        "sha256": sha256,
    }


@pytest.mark.usefixtures("papers")
def test_a_labeled_table_is_a_source_of_shards_with_papers_as_patients(
    harvest: HarvestCommand,
) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows = read_table(out)
    for number, row in enumerate(rows[:6]):
        row["label"] = ("negative", "positive")[number % 2]
    write_table(out, rows)
    manifest = write_shards(str(out / TABLE), out / "test", None, workers=1)
    assert (manifest.format, manifest.rows, manifest.rejected) == ("csv", len(rows), 0)
    assert manifest.class_names == ("negative", "positive")
    assert (manifest.shape, manifest.class_counts) == ((96, 96, 3), (3, 3))
    labeled = load_rows(str(out / "test"))
    assert len(labeled.labels) == 6
    assert set(labeled.patients.tolist()) == {"a"}
    assert set(labeled.slides.tolist()) == {"a/p1_i1", "a/p2_i2"}


@pytest.mark.usefixtures("papers")
def test_labels_are_kept_when_the_harvest_runs_again(harvest: HarvestCommand) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows = read_table(out)
    rows[3]["label"] = "positive"
    write_table(out, rows)
    harvest("papers", "out")
    assert read_table(out) == rows


@pytest.mark.usefixtures("papers")
def test_a_harvest_that_would_lose_a_label_changes_nothing(harvest: HarvestCommand) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows = read_table(out)
    rows[-1]["label"] = "positive"
    write_table(out, rows)
    tiles = tile_names(out)
    error = harvest.one_line_error("papers", "out", "--size", 64)
    assert "labels.csv: 1 of its labels are of tiles that this harvest does not write" in error
    assert (read_table(out), tile_names(out)) == (rows, tiles)
    assert json.loads((out / "harvest.json").read_text())["size"] == 96
    (out / TABLE).write_text("path;label\n")
    assert "labels.csv: no column 'path'" in harvest.one_line_error("papers", "out")
    assert tile_names(out) == tiles


@pytest.mark.usefixtures("papers")
def test_labels_are_not_passed_to_tiles_of_another_size_at_the_same_position(
    harvest: HarvestCommand,
) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows, tiles = read_table(out), tile_names(out)
    row = next(row for row in rows if row["path"] == "tiles/a/p1_i1_x97_y97.png")
    row["label"] = "positive"
    write_table(out, rows)
    error = harvest.one_line_error("papers", "out", "--size", 48)
    assert "labels.csv: 1 of its labels are of tiles of another size or of another image" in error
    assert (read_table(out), tile_names(out)) == (rows, tiles)
    assert json.loads((out / "harvest.json").read_text())["size"] == 96


def test_labels_are_not_passed_to_the_tiles_of_a_replaced_paper(
    harvest: HarvestCommand, papers: Path
) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows, tiles = read_table(out), tile_names(out)
    row = next(row for row in rows if row["path"] == "tiles/a/p1_i1_x1_y1.png")
    row["label"] = "positive"
    write_table(out, rows)
    pages = [image_object(tissue_image(7)), image_object(plot_image(1))]
    (papers / "a.pdf").write_bytes(build_pdf(pages))
    error = harvest.one_line_error("papers", "out")
    assert "of another size or of another image, such as tiles/a/p1_i1_x1_y1.png" in error
    assert (read_table(out), tile_names(out)) == (rows, tiles)


@pytest.mark.usefixtures("papers")
def test_labels_that_are_saved_while_a_harvest_runs_and_added_columns_are_kept(
    harvest: HarvestCommand,
) -> None:
    harvest("papers", "out")
    out = harvest.folder / "out"
    rows = [{**row, "site": ""} for row in read_table(out)]
    rows[2]["site"] = "north"
    rows[3]["label"] = "positive"

    def save_labels(_num_done: int, _num_papers: int) -> None:
        write_table(out, rows)

    settings = HarvestSettings(size=96)
    source = str((harvest.folder / "papers").resolve())
    with output_folder(out, source, settings) as folder:
        papers = papers_in_folder(harvest.folder / "papers")
        run_harvest(papers, folder, settings, save_labels)
    assert read_table(out) == rows
