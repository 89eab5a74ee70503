"""Slides become shards of tiles: with their labels, all or none of a slide's tiles."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from raysearch.data.atomic_directory import unfinished_path
from raysearch.data.files import Folder
from raysearch.data.images.chunk_decoding import Chunk
from raysearch.data.pseudonyms import PseudonymKey
from raysearch.data.shards import sharding
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_manifest import Manifest, TileSettings, read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.sources import slide_files
from raysearch.data.sources.listing import Exclusion, SourceOptions
from raysearch.errors import DataError
from support.crashing_slides import exit_on_case1
from support.scanned_slides import paint, write_polygons, write_tiff
from support.slide_cohort import SIZE, TISSUE, Cohort, tumor_of, write_cohort

OPTIONS = SlideOptions(mpp=0.5, size=(48, 48))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


def shard(
    cohort: Cohort,
    out: Path,
    options: SlideOptions = OPTIONS,
    names: SourceNames = SourceNames(),  # noqa: B008
) -> Manifest:
    options = replace(options, labels=options.labels or str(cohort.labels))
    source_options = SourceOptions(slides=options)
    return write_shards(
        str(cohort.slides), out, "slides", options=source_options, names=names, workers=1
    )


def read_table(out: Path) -> pa.Table:
    manifest = read_manifest(Folder(out))
    return pa.concat_tables([pq.read_table(out / shard.name) for shard in manifest.shards])


def expected_class(x: int, y: int, side: float, number: int) -> str | None:
    """Return the class by the drawn truth: tumor was drawn on stroma."""
    tile, tumor = shapely.box(x, y, x + side, y + side), shapely.Polygon(tumor_of(number))
    stroma = shapely.Polygon(TISSUE) - tumor
    fractions = {
        "Stroma": (stroma & tile).area / tile.area,
        "Tumor": (tumor & tile).area / tile.area,
    }
    best = max(fractions, key=lambda name: fractions[name])
    return best if fractions[best] >= 0.5 else None


def test_every_tile_has_the_class_of_the_drawn_truth(cohort: Cohort, tmp_path: Path) -> None:
    options = replace(OPTIONS, annotations=str(cohort.annotations))
    manifest = shard(cohort, tmp_path / "out", options)
    assert manifest.class_names == ("Stroma", "Tumor")
    assert manifest.rejected == 0
    assert manifest.patients == 3
    assert len(manifest.shards) == 3
    assert manifest.tile_settings == TileSettings(0.5, 0, 0.5)
    table = read_table(tmp_path / "out").to_pylist()
    tiles = {(row["slide"], row["x"], row["y"]): row for row in table}
    assert len(tiles) == len(table) == manifest.rows
    for (slide, x, y), row in tiles.items():
        number = int(slide.removeprefix("case"))
        assert manifest.class_names[row["label"]] == expected_class(x, y, 96, number)
        assert (row["patient"], row["site"]) == (f"patient{number}", f"site{number % 2}")
        assert (row["mpp"], row["magnification"], row["resize_mode"]) == (0.5, 20, "as is")
        assert row["downsample"] == 2
        assert row["source"].partition("#")[2] == f"x={x},y={y},w=96,h=96"
        assert row["scanner"] == {0: "SS1234", 1: "Lab 7", 2: ""}[number]
        assert row["tissue"] >= 0.5
    # No tile is missing: those of the grid with a class and half of their area in tissue.
    tissue = shapely.Polygon(TISSUE)
    for number in range(3):
        for x in range(0, SIZE[0] - 95, 96):
            for y in range(0, SIZE[1] - 95, 96):
                fraction = (tissue & shapely.box(x, y, x + 96, y + 96)).area / 96**2
                if fraction > 0.6 and expected_class(x, y, 96, number):
                    assert (f"case{number}", x, y) in tiles
    sheets = sorted(path.name for path in (tmp_path / "out" / "contact_sheets").iterdir())
    assert sheets == ["case0.png", "case1.png", "case2.png"]
    assert not unfinished_path(tmp_path / "out").exists()


def test_the_pixels_are_those_of_the_slide(cohort: Cohort, tmp_path: Path) -> None:
    manifest = shard(cohort, tmp_path / "out", replace(OPTIONS, mpp=0.25))
    pixels = paint(SIZE, [TISSUE], [tumor_of(0)], 0)
    rows = [row for row in read_table(tmp_path / "out").to_pylist() if row["slide"] == "case0"]
    assert len(rows) > 100
    assert manifest.class_names == ()
    for row in rows:
        x, y = row["x"], row["y"]
        tile = np.frombuffer(row["pixels"], np.uint8).reshape(48, 48, 3)
        assert (tile == pixels[y : y + 48, x : x + 48]).all()


def test_rows_are_read_with_the_scanner_and_patches_are_unpacked(
    cohort: Cohort, tmp_path: Path
) -> None:
    options = replace(OPTIONS, annotations=str(cohort.annotations), background="Glass")
    manifest = shard(cohort, tmp_path / "out", options)
    rows = load_rows(str(tmp_path / "out"))
    assert set(rows.groups("site")) == {"site0", "site1"}
    assert set(rows.column("scanner")) == {"SS1234", "Lab 7", ""}
    with pytest.raises(DataError, match=r"--by scanner: .* rows have none"):
        rows.groups("scanner")
    patches = load_patches(str(tmp_path / "out"), tmp_path / "cache")
    assert len(patches.pixels) == manifest.rows


def test_a_center_labels_as_in_patch_camelyon(cohort: Cohort, tmp_path: Path) -> None:
    options = replace(OPTIONS, annotations=str(cohort.annotations))
    manifest = write_shards(
        str(cohort.slides),
        tmp_path / "out",
        "slides",
        options=SourceOptions(slides=options, center=16, classes=("Stroma", "Tumor")),
        workers=1,
    )
    assert manifest.center == 16
    for row in read_table(tmp_path / "out").to_pylist():
        center = shapely.box(row["x"] + 32, row["y"] + 32, row["x"] + 64, row["y"] + 64)
        tumor = shapely.Polygon(tumor_of(int(row["slide"][-1])))
        tumor_area, stroma_area = (
            (tumor & center).area,
            (shapely.Polygon(TISSUE) - tumor & center).area,
        )
        if abs(tumor_area - stroma_area) > 1e-6:
            assert row["label"] == int(tumor_area > stroma_area)


def test_slides_of_a_table_have_its_labels(cohort: Cohort, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,label\ncase0,benign\ncase1,malignant\n")
    manifest = shard(cohort, tmp_path / "out", replace(OPTIONS, labels=str(labels)))
    table = read_table(tmp_path / "out").to_pylist()
    classes = {row["slide"]: manifest.class_names[row["label"]] for row in table}
    assert classes == {"case0": "benign", "case1": "malignant"}
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    assert "case2.ome.tif,not in the table of --labels" in rejected
    assert any("each slide counts as its own patient" in text for text in manifest.warnings)


def test_slides_without_annotations_have_the_label_of_the_table(
    cohort: Cohort, tmp_path: Path
) -> None:
    annotations, labels = tmp_path / "annotations", tmp_path / "labels.csv"
    write_polygons(annotations / "case0.geojson", [("Tumor", tumor_of(0))])
    write_polygons(annotations / "stray.geojson", [("Tumor", tumor_of(0))])
    labels.write_text("slide,label,patient\ncase0,,a\ncase1,Normal,b\ncase2,,c\n")
    options = replace(OPTIONS, annotations=str(annotations), labels=str(labels))
    manifest = shard(cohort, tmp_path / "out", options)
    table = read_table(tmp_path / "out").to_pylist()
    classes = Counter((row["slide"], manifest.class_names[row["label"]]) for row in table)
    assert set(classes) == {("case0", "Tumor"), ("case1", "Normal")}
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    assert 'case2.ome.tif,"no annotations, and no label in --labels"' in rejected
    assert any(
        "1 file of --annotations of no slide, such as 'stray" in w for w in manifest.warnings
    )


def test_pseudonyms_hide_the_slides(cohort: Cohort, tmp_path: Path) -> None:
    key = PseudonymKey(b"k" * 32)
    manifest = shard(cohort, tmp_path / "out", names=SourceNames(key))
    table = read_table(tmp_path / "out")
    content = json.dumps(table.drop_columns(["pixels", "sha256"]).to_pylist())
    names = " ".join(str(path) for path in (tmp_path / "out").rglob("*"))
    assert "case" not in content + names.replace(str(tmp_path), "")
    assert "patient0" not in content
    assert len(manifest.shards) == 3
    assert len({row["slide"] for row in table.to_pylist()}) == 3


def damage(path: Path) -> None:
    """Overwrite the middle of a file, which has the pixels of its first level."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 600_000] = b"\xff" * 600_000
    path.write_bytes(content)


def test_a_slide_that_breaks_in_the_middle_is_left_out_with_all_of_its_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_cohort(tmp_path)
    options = replace(OPTIONS, mpp=0.25, annotations=str(cohort.annotations))
    intact = shard(cohort, tmp_path / "intact", options)
    damage(cohort.slides / "case0.svs")
    damage(cohort.slides / "case2.ome.tif")
    # The thumbnail is read of a level that is not damaged; a row group has few rows.
    monkeypatch.setattr(sharding, "ROW_GROUP_BYTES", 48 * 48 * 3 * 50)
    monkeypatch.setattr(sharding, "MAX_CHUNK_ROWS", 10)
    manifest = shard(cohort, tmp_path / "out", options)
    table = read_table(tmp_path / "out").to_pylist()
    assert {row["slide"] for row in table} == {"case1"}
    rejected = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
    assert manifest.rows + manifest.rejected == intact.rows == len(table) + len(rejected)
    assert sum(line.startswith('"case0.svs#') and "damaged" in line for line in rejected) > 100
    assert sum(line.startswith('"case2.ome.tif#') for line in rejected) > 100
    assert sum(manifest.rejections.values()) == manifest.rejected
    files = {path.name for path in (tmp_path / "out").glob("*.parquet")}
    assert files == {shard.name for shard in manifest.shards}
    load_patches(str(tmp_path / "out"), tmp_path / "cache")


def test_an_interrupted_command_continues_at_the_next_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_cohort(tmp_path)
    whole = shard(cohort, tmp_path / "whole")
    submitted: list[str] = []
    submit = sharding._submit
    stop_at = "case1"

    def counted(*arguments: object) -> Future[Chunk]:
        items = arguments[-2]
        slide = items[0].slide  # type: ignore[index]
        submitted.append(slide)
        if slide == stop_at:
            raise KeyboardInterrupt
        return submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sharding, "_submit", counted)
    monkeypatch.setattr(sharding, "CHUNKS_PER_WORKER", 1)
    monkeypatch.setattr(sharding, "ADDITIONAL_CHUNKS", 0)
    monkeypatch.setattr(sharding, "MAX_CHUNK_ROWS", 20)
    # The state is kept at the end of a slide, which the next one begins.
    stop_at = "case2"
    with pytest.raises(KeyboardInterrupt):
        shard(cohort, tmp_path / "out")
    stop_at = ""
    submitted.clear()
    continued = shard(cohort, tmp_path / "out")
    assert set(submitted) == {"case1", "case2"} or set(submitted) == {"case2"}
    assert [entry.rows for entry in continued.shards] == [entry.rows for entry in whole.shards]
    assert continued.rows == whole.rows
    assert continued.class_counts == whole.class_counts


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (replace(OPTIONS, mpp=0.01), "--mpp 0.01: give 0.05 to 20 micrometres"),
        (replace(OPTIONS, mpp=float("nan")), "--mpp nan: give 0.05 to 20"),
        (replace(OPTIONS, assumed_mpp=0), "--assume-mpp 0: give 0.05 to 20"),
        (replace(OPTIONS, overlap=48), "--overlap 48: give 0 to 47 pixels"),
        (replace(OPTIONS, overlap=-1), "--overlap -1: give 0 to 47 pixels"),
        (replace(OPTIONS, min_tissue=1.5), "--min-tissue 1.5: give a fraction"),
        (replace(OPTIONS, background="x"), "--background: has no effect without --annotations"),
        (replace(OPTIONS, min_fraction=0.5), "--min-fraction: has no effect without --annot"),
        (replace(OPTIONS, annotations="/nowhere"), "/nowhere: not a folder"),
        (replace(OPTIONS, labels="/nowhere.csv"), "/nowhere.csv: no such file"),
        (
            replace(OPTIONS, annotations="/tmp", background=" "),
            "--background: a blank name",
        ),
        (
            replace(OPTIONS, annotations="/tmp", min_fraction=-0.1),
            "--min-fraction -0.1: give a fraction",
        ),
    ],
)
def test_options_that_cannot_be_are_errors(
    cohort: Cohort, tmp_path: Path, options: SlideOptions, reason: str
) -> None:
    with pytest.raises(DataError) as error:
        shard(cohort, tmp_path / "out", options)
    assert reason in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not unfinished_path(tmp_path / "out").exists()


def test_slides_that_cannot_be_used_are_rejected_by_name(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    pixels = paint(SIZE, [TISSUE], [])
    write_tiff(slides / "good.tiff", pixels, 0.25)
    write_tiff(slides / "blank.tiff", paint(SIZE, [], []), 0.25)
    write_tiff(slides / "no-mpp.tiff", pixels, None)
    write_tiff(slides / "dpi72.tiff", pixels, 352.8)
    write_tiff(slides / "coarse.tiff", pixels, 2.0)
    write_tiff(slides / "small.tiff", pixels[:50, :50], 0.25, levels=1)
    content = (slides / "good.tiff").read_bytes()
    (slides / "truncated.tiff").write_bytes(content[: len(content) // 2])
    (slides / "text.svs").write_bytes(b"text")
    (slides / "notes.txt").write_bytes(b"no slide, and not listed")
    manifest = write_shards(
        str(slides), tmp_path / "out", "slides", options=SourceOptions(slides=OPTIONS), workers=1
    )
    lines = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
    reasons = {line.partition(",")[0]: line.partition(",")[2] for line in lines}
    assert set(reasons) == {
        *("blank.tiff", "no-mpp.tiff", "dpi72.tiff", "coarse.tiff", "small.tiff", "truncated.tiff"),
        "text.svs",
    }
    assert "no tissue: its tiles have at most 0%" in reasons["blank.tiff"]
    assert "does not say the size of its pixels" in reasons["no-mpp.tiff"]
    assert "352.8 micrometres" in reasons["dpi72.tiff"]
    assert "coarser than --mpp 0.5" in reasons["coarse.tiff"]
    assert "50 x 50 pixels, smaller than a tile" in reasons["small.tiff"]
    assert "no slide" in reasons["text.svs"]
    assert reasons["truncated.tiff"]
    assert {row["slide"] for row in read_table(tmp_path / "out").to_pylist()} == {"good"}
    assert manifest.rejected == 7


def test_two_slides_of_one_name_are_an_error(tmp_path: Path) -> None:
    for suffix in ("tiff", "tif"):
        write_tiff(tmp_path / f"a.{suffix}", paint(SIZE, [TISSUE], []), 0.25)
    with pytest.raises(DataError, match=r"a\.tif and a\.tiff are slides of one name; rename one"):
        write_shards(str(tmp_path), tmp_path / "out", "slides", workers=1)


def test_annotations_of_another_slide_are_an_error(cohort: Cohort, tmp_path: Path) -> None:
    far = [(x + 10_000, y) for x, y in TISSUE]
    for number in range(3):
        write_polygons(tmp_path / "a" / f"case{number}.geojson", [("Tumor", far)])
    with pytest.raises(DataError, match="its only region is outside of the slide of 1,600 x 1,200"):
        shard(cohort, tmp_path / "out", replace(OPTIONS, annotations=str(tmp_path / "a")))
    assert not (tmp_path / "out").exists()


def test_a_class_that_no_tile_has_is_an_error(cohort: Cohort, tmp_path: Path) -> None:
    options = SourceOptions(
        slides=replace(OPTIONS, annotations=str(cohort.annotations)), classes=("Tumor", "Fat")
    )
    with pytest.raises(
        DataError, match="--classes: no tile is of class 'Fat'; the tiles are of 'Tumor'"
    ):
        write_shards(str(cohort.slides), tmp_path / "out", "slides", options=options, workers=1)


def test_a_share_that_goes_away_ends_the_command_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_cohort(tmp_path)
    submit = sharding._submit

    def remove_first(*arguments: object) -> Future[Chunk]:
        items = arguments[-2]
        if items[0].slide == "case1":  # type: ignore[index]
            (cohort.slides / "case1.tiff").unlink(missing_ok=True)
        return submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sharding, "_submit", remove_first)
    with pytest.raises(DataError, match=r"case1\.tiff: cannot be read .* run the command again"):
        shard(cohort, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_slides_have_the_options_of_slides(tmp_path: Path) -> None:
    options = SourceOptions(slides=replace(OPTIONS, named=frozenset(("mpp",))))
    with pytest.raises(
        DataError, match="--mpp: has no effect with format synthetic, only with slides"
    ):
        write_shards("2:20:0", tmp_path / "out", "synthetic", options=options, workers=1)


def test_real_slides_are_tiled_or_named_with_the_reason(tmp_path: Path) -> None:
    shared = os.environ.get("RAYSEARCH_SHARED")
    if not shared:
        pytest.skip("RAYSEARCH_SHARED is not set")
    source = Path(shared) / "data" / "slides"
    options = SourceOptions(slides=SlideOptions(min_tissue=0.5))
    began = time.monotonic()
    manifest = write_shards(str(source), tmp_path / "out", "slides", options=options, workers=2)
    assert time.monotonic() - began < 60
    assert manifest.rows == 43
    assert manifest.rejected == 5
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    for name in ("boxes.tiff", "boxes_0.dcm", "small.svs", "unopenable.tiff", "unreadable.svs"):
        assert name in rejected
    # The second file of a DICOM series is not a slide of its own.
    assert "boxes_1.dcm" not in rejected


def test_classes_of_two_slides_that_differ_only_in_case_are_rejected(
    cohort: Cohort, tmp_path: Path
) -> None:
    for number, name in enumerate(("Tumor", "tumor", "Tumor")):
        write_polygons(tmp_path / "a" / f"case{number}.geojson", [(name, tumor_of(number))])
    with pytest.raises(DataError, match="the classes 'Tumor' and 'tumor' of"):
        shard(cohort, tmp_path / "out", replace(OPTIONS, annotations=str(tmp_path / "a")))


STRIPES = [
    (name, [(x, 0), (x + 40, 0), (x + 40, 1200), (x, 1200)])
    for index, x in enumerate(range(0, 1600, 40))
    for name in [("DCIS", "IDC")[index % 2]]
]


@pytest.mark.parametrize("is_merged", [False, True])
def test_merged_classes_are_those_of_one_region(tmp_path: Path, is_merged: bool) -> None:
    (tmp_path / "s").mkdir()
    write_tiff(tmp_path / "s" / "a.tiff", paint(SIZE, [TISSUE], []), 0.25)
    write_polygons(tmp_path / "a" / "a.geojson", STRIPES)
    options = SourceOptions(
        slides=replace(OPTIONS, annotations=str(tmp_path / "a")),
        class_map={"DCIS": "malignant", "IDC": "malignant"} if is_merged else {},
    )
    manifest = write_shards(str(tmp_path / "s"), tmp_path / "out", "slides", options=options)
    assert manifest.class_names == (("malignant",) if is_merged else ("DCIS", "IDC"))
    has_left_out = any("left out" in warning for warning in manifest.warnings)
    has_conflict = any("overlap" in warning for warning in manifest.warnings)
    # Tiles of 96 pixels on stripes of 40: each class alone has at most 80 of 96.
    assert has_left_out is not is_merged
    assert has_conflict is not is_merged


def test_a_class_map_renames_labels_and_the_background(cohort: Cohort, tmp_path: Path) -> None:
    options = SourceOptions(
        slides=replace(OPTIONS, annotations=str(cohort.annotations), background="Glass"),
        class_map={"Tumor": "1", "Stroma": "0", "Glass": "0"},
    )
    manifest = write_shards(str(cohort.slides), tmp_path / "out", "slides", options=options)
    assert set(manifest.class_names) == {"0", "1"}
    options = replace(options, class_map={"Tumour": "1"})
    with pytest.raises(DataError, match=r"--class-map Tumour=...: not a class of .*Stroma, Tumor"):
        write_shards(str(cohort.slides), tmp_path / "o2", "slides", options=options)


def test_pseudonyms_hide_the_slides_in_warnings(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    write_tiff(tmp_path / "s" / "smith_john.tiff", paint(SIZE, [TISSUE], []), 0.25)
    far = [(x + 10_000, y) for x, y in TISSUE]
    write_polygons(tmp_path / "a" / "smith_john.geojson", [("Stroma", TISSUE), ("Tumor", far)])
    write_polygons(tmp_path / "a" / "smith_jane.geojson", [("Stroma", TISSUE)])
    write_shards(
        str(tmp_path / "s"),
        tmp_path / "out",
        "slides",
        options=SourceOptions(slides=replace(OPTIONS, annotations=str(tmp_path / "a"))),
        names=SourceNames(PseudonymKey(b"k" * 32)),
    )
    content = (tmp_path / "out" / "manifest.json").read_text()
    assert "region left out" in content
    assert "of --annotations of no slide" in content
    assert "smith" not in content
    assert str(tmp_path) not in content


def test_a_slide_is_left_out_by_its_name(cohort: Cohort, tmp_path: Path) -> None:
    options = SourceOptions(
        slides=OPTIONS, exclusion=Exclusion("list.txt", {"case1.tiff": "out of focus"})
    )
    manifest = write_shards(str(cohort.slides), tmp_path / "out", "slides", options=options)
    assert {row["slide"] for row in read_table(tmp_path / "out").to_pylist()} == {"case0", "case2"}
    assert set(manifest.excluded.values()) == {"excluded: out of focus"}


def test_the_state_of_another_process_has_the_same_options() -> None:
    code = (
        "from raysearch.data.slides.slide_options import slide_options; print(slide_options("
        "dict(mpp=.5, overlap=1, labels='a', annotations='b', min_tissue=.1)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in range(4)
    }
    assert len(texts) == 1


def test_a_crash_names_the_slide_that_causes_it(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_files, "find_tiles", exit_on_case1)
    with pytest.raises(DataError, match=r"case1\.tiff: cannot be read \(its reader crashed\)"):
        shard(cohort, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "is_folder_of_slides"),
    [(["a.svs"], True), (["a.svs", "b.PNG"], False), (["a.tiff"], False), (["notes.txt"], False)],
)
def test_a_folder_is_one_of_slides_if_it_has_no_images(
    tmp_path: Path, files: list[str], is_folder_of_slides: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert slide_files.is_slides(str(tmp_path)) is is_folder_of_slides
