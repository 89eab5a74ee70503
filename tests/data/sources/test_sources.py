"""Every source in the layout that its authors distribute, read back pixel by pixel."""

import csv
import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.patches import load_patches, load_rows
from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources import detect
from raysearch.data.sources.breakhis import NAME
from raysearch.data.sources.breakhis import item_of as breakhis_item
from raysearch.data.sources.csv_table import csv_source
from raysearch.data.sources.idc import item_of as idc_item
from raysearch.data.sources.listing import Ask, Item, Rejected
from raysearch.data.sources.pcam import part_of, site_of
from raysearch.data.synthetic import draw_patches
from raysearch.data.view import View
from raysearch.errors import DataError

STEM = "camelyonpatch_level_2_split_"
WSIS = {
    "train": ["camelyon16_train_normal_007", "camelyon16_train_tumor_071"],
    "valid": ["camelyon16_train_normal_101", "camelyon16_train_tumor_070"],
    "test": ["camelyon16_test_001", "camelyon16_test_108"],
}


def patches(count: int, side: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    """`count` H&E-like patches."""
    numbers = np.arange(count)
    drawn = draw_patches(f"4:{max(8, count)}:{seed}", numbers, numbers % 2, numbers % 4)
    return np.stack([np.array(Image.fromarray(one).resize((side, side))) for one in drawn])


def shard(source: Path, tmp_path: Path, form: str | None = None, **asked: Any) -> Manifest:
    return write_shards(str(source), tmp_path / "out", form, ask=Ask(**asked), workers=1)


def rejections(tmp_path: Path) -> dict[str, str]:
    with (tmp_path / "out" / "rejected.csv").open(newline="", errors="surrogateescape") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def table_of(tmp_path: Path, *columns: str) -> dict[str, list[Any]]:
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet", columns=list(columns))
    return {name: table.column(name).to_pylist() for name in columns}


def write_pcam(
    folder: Path,
    part: str,
    images: NDArray[np.uint8] | None = None,
    meta: bool = True,
    **options: Any,
) -> NDArray[np.uint8]:
    """The files of one part in the official layout; the images."""
    folder.mkdir(exist_ok=True)
    images = patches(6, seed=len(part)) if images is None else images
    count = len(images)
    labels = np.arange(count) % 2
    with h5py.File(folder / f"{STEM}{part}_x.h5", "w") as file:
        file.create_dataset("x", data=images, **options)
    with h5py.File(folder / f"{STEM}{part}_y.h5", "w") as file:
        file.create_dataset("y", data=labels.astype(np.uint8).reshape(-1, 1, 1, 1))
    if meta:
        lines = ["coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"]
        lines += [
            f"{row * 96},{row * 192},True,{bool(labels[row])},{WSIS[part][row % 2]}"
            for row in range(count)
        ]
        (folder / f"{STEM}{part}_meta.csv").write_text("\n".join(lines) + "\n")
    return images


@pytest.mark.parametrize("packed", [False, True])
def test_pcam_in_the_official_layout_comes_back_pixel_by_pixel(
    tmp_path: Path, packed: bool
) -> None:
    source = tmp_path / "pcam"
    images = {part: write_pcam(source, part, chunks=(2, 96, 96, 3)) for part in WSIS}
    if packed:
        for path in list(source.glob("*.h5")):
            with gzip.open(f"{path}.gz", "wb") as out:
                out.write(path.read_bytes())
            path.unlink()
    manifest = shard(source, tmp_path)
    assert (manifest.format, manifest.rows, manifest.rejected) == ("pcam", 18, 0)
    assert manifest.warnings == ()
    found = table_of(tmp_path, "source", "patient", "site", "split", "label", "x", "y", "pixels")
    for number, file in enumerate(found["source"]):
        part = next(part for part in WSIS if part in file)
        row = int(file.rpartition("#")[2])
        assert found["pixels"][number] == images[part][row].tobytes()
        assert found["patient"][number] == WSIS[part][row % 2]
        assert found["split"][number] == part
        assert (found["x"][number], found["y"][number]) == (row * 192, row * 96)
        assert found["label"][number] == row % 2
    sites = dict(zip(found["patient"], found["site"], strict=True))
    assert sites == {
        WSIS["train"][0]: "RUMC",
        WSIS["train"][1]: "UMCU",
        WSIS["valid"][0]: "UMCU",
        WSIS["valid"][1]: "RUMC",
        WSIS["test"][0]: "",
        WSIS["test"][1]: "",
    }
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == []


def test_valid_and_test_that_were_swapped_are_told_apart_by_their_slides(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "valid")
    write_pcam(source, "test")
    for kind in ("x.h5", "y.h5", "meta.csv"):
        one, other = (source / f"{STEM}{part}_{kind}" for part in ("valid", "test"))
        one.rename(source / "aside")
        other.rename(one)
        (source / "aside").rename(other)
    shard(source, tmp_path)
    found = table_of(tmp_path, "patient", "split")
    for patient, part in zip(found["patient"], found["split"], strict=True):
        assert part == ("test" if "_test_" in patient else "valid")
    assert part_of("camelyon16_test_001", "train") == "test"
    assert site_of("camelyon16_train_normal_100") == "RUMC"


def test_pcam_without_meta_warns_that_patients_are_unknown(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train", meta=False)
    manifest = shard(source, tmp_path)
    assert manifest.patients == manifest.rows == 6
    assert "no patient is known" in manifest.warnings[0]
    assert "swapped" in manifest.warnings[1]


def test_pcam_files_of_different_parts_are_rejected(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train")
    lines = (source / f"{STEM}train_meta.csv").read_text().splitlines()
    (source / f"{STEM}train_meta.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="6 in x, 6 in y, 5 in meta"):
        shard(source, tmp_path)
    other = [lines[0], *lines[2:], lines[1]]
    (source / f"{STEM}train_meta.csv").write_text("\n".join(other))
    with pytest.raises(DataError, match="row 0 is 0 in y, 1 in meta"):
        shard(source, tmp_path)
    assert not (tmp_path / "out").exists()


def spoil(path: Path, how: str) -> None:
    images = patches(6)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
        return
    path.unlink()
    with h5py.File(path, "w") as file:
        if how == "no dataset":
            file.create_dataset("z", data=images)
        elif how == "link":
            file["x"] = h5py.ExternalLink("/etc/passwd", "x")
        elif how == "external":
            file.create_dataset("x", (6, 96, 96, 3), np.uint8, external="/etc/passwd")
        elif how == "floats":
            file.create_dataset("x", data=images.astype(np.float32))
        elif how == "not all":
            file.create_dataset("x", (6, 96, 96, 3), np.uint8, chunks=(1, 96, 96, 3))[:3] = 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", "truncated"),
        ("no dataset", "no dataset x"),
        ("link", "a link elsewhere"),
        ("external", "in other files"),
        ("floats", "not uint8"),
        ("not all", "not all there"),
    ],
)
def test_a_bad_hdf5_file_is_rejected_by_name(tmp_path: Path, how: str, reason: str) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train")
    write_pcam(source, "valid")
    spoil(source / f"{STEM}train_x.h5", how)
    manifest = shard(source, tmp_path)
    assert manifest.rows == 6
    (told,) = rejections(tmp_path).items()
    assert told[0] == f"{STEM}train"
    assert reason in told[1]


def write_kaggle(source: Path, images: NDArray[np.uint8]) -> list[str]:
    """`images` as Kaggle's competition has them; their names there."""
    (source / "train").mkdir(parents=True)
    lines = ["id,label"]
    names = [hashlib.sha1(one.tobytes()).hexdigest() for one in images]
    for number, (name, image) in enumerate(zip(names, images, strict=True)):
        Image.fromarray(image).save(source / "train" / f"{name}.tif")
        lines.append(f"{name},{number % 2}")
    (source / "train_labels.csv").write_text("\n".join(lines) + "\n")
    return names


def test_real_patches_come_back_from_both_layouts_of_pcam_with_their_slides(
    shared: Path, tmp_path: Path
) -> None:
    with tarfile.open(shared / "data" / "pcam.tar") as archive:
        files = [one for one in archive.getmembers() if "/train/" in one.name and one.isfile()]
        images = {}
        for file in files[:: len(files) // 400]:
            content = archive.extractfile(file)
            assert content is not None
            image = np.asarray(Image.open(content))
            images[image.tobytes()] = image  # Kaggle left the duplicates out
    pixels = np.stack(list(images.values()))
    assert len(pixels) > 380
    write_pcam(tmp_path / "official", "train", pixels, chunks=(8, 96, 96, 3), compression="gzip")
    names = write_kaggle(tmp_path / "kaggle", pixels)
    official = write_shards(str(tmp_path / "official"), tmp_path / "one", None)
    joined = write_shards(
        str(tmp_path / "kaggle"),
        tmp_path / "out",
        None,
        ask=Ask(official=str(tmp_path / "official")),
    )
    assert (official.format, official.rows) == ("pcam", len(pixels))
    assert (joined.format, joined.rows) == ("pcam-kaggle", len(pixels))
    for out in ("one", "out"):
        found = pq.read_table(tmp_path / out / "part-00000.parquet").to_pydict()
        rows = [
            int(file.rpartition("#")[2]) if out == "one" else names.index(Path(file).stem)
            for file in found["source"]
        ]
        assert sorted(rows) == list(range(len(pixels)))
        assert found["pixels"] == [pixels[row].tobytes() for row in rows]
        assert found["slide"] == [WSIS["train"][row % 2] for row in rows]
        assert found["label"] == [row % 2 for row in rows]


def test_kaggles_pcam_is_joined_with_the_slides_by_its_pixels(tmp_path: Path) -> None:
    official, source = tmp_path / "official", tmp_path / "kaggle"
    images = write_pcam(official, "train")
    names = write_kaggle(source, images)
    (source / "train" / "notes.tif").write_bytes(b"")
    with (source / "train_labels.csv").open("a") as file:
        file.write(f"{'0' * 40},1\n")
    alone = write_shards(str(source), tmp_path / "alone", None, workers=1)
    assert (alone.format, alone.patients) == ("pcam-kaggle", 6)
    assert "--official" in alone.warnings[0]
    manifest = shard(source, tmp_path, official=str(official))
    assert (manifest.rows, manifest.patients, manifest.rejected) == (6, 2, 2)
    found = table_of(tmp_path, "source", "slide", "site", "pixels", "label")
    for number, file in enumerate(found["source"]):
        row = names.index(Path(file).stem)
        assert found["slide"][number] == WSIS["train"][row % 2]
        assert found["pixels"][number] == images[row].tobytes()
        assert found["label"][number] == row % 2
    assert rejections(tmp_path) == {
        "train/notes.tif": "not named ID.tif",
        f"train/{'0' * 40}.tif": "in train_labels.csv, and not there",
    }


TYPES = {"adenosis": "B_A", "fibroadenoma": "B_F", "ductal_carcinoma": "M_DC"}


def write_breakhis(folder: Path) -> None:
    for subtype, code in TYPES.items():
        kind = "benign" if code[0] == "B" else "malignant"
        for number, letters in ((1, "AB"), (1, "CD"), (2, "")):
            for magnification in (40, 400):
                slide = f"SOB_{code}-14-{len(subtype)}{number}{letters}"
                place = folder / kind / "SOB" / subtype / slide / f"{magnification}X"
                place.mkdir(parents=True)
                image = Image.fromarray(patches(1, 32)[0])
                image.save(place / f"{slide}-{magnification}-001.png")


def test_breakhis_groups_by_the_number_without_letters_and_has_five_tasks(tmp_path: Path) -> None:
    source = tmp_path / "BreaKHis_v1" / "histology_slides" / "breast"
    write_breakhis(source)
    assert detect(str(tmp_path / "BreaKHis_v1"), "x") == detect(str(source), "x") == "breakhis"
    manifest = write_shards(
        str(tmp_path / "BreaKHis_v1"), tmp_path / "out", None, size=(32, 32), workers=1
    )
    assert (manifest.format, manifest.rows, manifest.patients) == ("breakhis", 18, 6)
    assert manifest.class_counts == (12, 6)
    out = str(tmp_path / "out")
    counts = {
        task: np.bincount(load_rows(out, View(task)).labels).tolist()
        for task in manifest.task_names
    }
    assert counts == {
        "label": [12, 6],
        "benign_subtype": [6, 6],
        "malignant_subtype": [6],
        "subtype": [6, 6, 0, 0, 6],
        "magnification": [9, 0, 0, 9],
    }
    seen = load_patches(out, tmp_path / "cache", View("malignant_subtype"))
    assert seen.class_names[0] == "ductal_carcinoma"
    assert len(seen.pixels) == 6
    with pytest.raises(DataError, match="these shards have label, benign_subtype"):
        load_rows(out, View("colour"))
    half = write_shards(
        str(source),
        tmp_path / "half",
        None,
        size=(32, 32),
        ask=Ask(magnifications=(40,)),
        workers=1,
    )
    assert half.rows == half.files == 9


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("malignant/SOB_B_A-14-22549AB-40-001.png", "benign in its name, folder malignant"),
        ("fibroadenoma/SOB_B_A-14-22549AB-40-001.png", "adenosis in its name"),
        ("100X/SOB_B_A-14-22549AB-40-001.png", "magnification 40 in its name"),
        ("SOB_M_A-14-22549AB-40-001.png", "type A is not malignant"),
        ("SOB_B_A_14-22549AB-40-001.png", "not named"),
    ],
)
def test_a_breakhis_name_against_its_folder_is_rejected(path: str, reason: str) -> None:
    found = breakhis_item(path)
    assert isinstance(found, Rejected)
    assert reason in found.reason


@given(
    st.sampled_from(["B_A", "B_F", "B_PT", "B_TA", "M_DC", "M_LC", "M_MC", "M_PC"]),
    st.integers(0, 99),
    st.integers(0, 10**6),
    st.text("ABCDEFG", max_size=3),
    st.sampled_from([40, 100, 200, 400]),
    st.integers(0, 999),
)
def test_every_official_name_is_read(
    code: str, year: int, number: int, letters: str, magnification: int, sequence: int
) -> None:
    name = f"SOB_{code}-{year:02d}-{number}{letters}-{magnification}-{sequence:03d}.png"
    assert NAME.fullmatch(name)
    found = breakhis_item(name)
    assert isinstance(found, Item)
    assert (found.patient, found.magnification) == (str(number), magnification)


@given(st.text(max_size=60))
def test_any_other_name_is_rejected_and_nothing_is_raised(name: str) -> None:
    found = breakhis_item(name)
    assert isinstance(found, Item) == (NAME.fullmatch(name.rpartition("/")[2]) is not None)


def write_csv(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(patches(6, 20)):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


def test_a_csv_brings_columns_and_further_tasks(tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "secm",
        "path,label,patient,slide,site,x,y,magnification,split,label_review\n"
        "0.png,adipose,p1,s1,A,1,2,40,train,yes\n"
        "1.png,fibrous,p1,s1,A,51,2,40,train,\n"
        "2.png,other,p2,s2,B,,,,test,no\n"
        "3.png,,p3,,,,,,,no\n",
    )
    manifest = shard(source, tmp_path)
    assert (manifest.format, manifest.rows) == ("csv", 4)
    assert manifest.class_names == ("adipose", "fibrous", "other")
    assert manifest.tasks[0].class_names == ("no", "yes")
    rows = load_rows(str(tmp_path / "out"))
    assert rows.labels.tolist() == [0, 1, 2]
    assert rows.sites.tolist() == ["A", "A", "B"]
    assert rows.xs.tolist()[:2] == [1.0, 51.0]
    assert np.isnan(rows.xs[2])
    review = load_rows(str(tmp_path / "out"), View("review"))
    assert review.patients.tolist() == ["p1", "p2", "p3"]
    assert review.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("path,label\n0.png,a\n", "no column 'patient'"),
        ("path,label,patient,colour\n0.png,a,p,red\n", "column 'colour' is unknown"),
        ("path,label,patient,label\n0.png,a,p,b\n", "column 'label' twice"),
        ("path,label,patient\n0.png,a\n", "line 2 has not as many fields"),
        ('path,label,patient\n0.png,"a,p\n', "unexpected end"),
    ],
)
def test_a_csv_that_cannot_be_used_is_rejected(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        shard(write_csv(tmp_path / "secm", text), tmp_path)
    assert not (tmp_path / "out").exists()


def test_rows_of_a_csv_that_cannot_be_used_are_rejected_by_path(tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "secm",
        "path,label,patient,x\n"
        "0.png,a,p1,\n1.png,b,p2,\n2.png,c,p2,\n3.png,a,,\n4.png,a,p3,near\n"
        "../out.png,a,p1,\n/etc/passwd,a,p1,\n5.png,a,p1,\n5.png,b,p1,\nnone.png,a,p1,\n",
    )
    manifest = shard(source, tmp_path, classes=("b", "a"))
    assert manifest.class_counts == (1, 1)
    told = rejections(tmp_path)
    assert told["2.png"] == "label 'c' is none of b, a"
    assert told["3.png"] == "no patient"
    assert told["4.png"] == "x 'near' is not a whole number"
    assert told["../out.png"] == told["/etc/passwd"]
    assert told["5.png"] == "named in lines 9, 10"
    assert "cannot be read" in told["none.png"]


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12),
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**9 - 1),
    st.sampled_from("01"),
    st.sampled_from("01"),
)
def test_every_name_of_idc_is_read_and_one_against_its_folder_is_rejected(
    patient: str, x: int, y: int, folder: str, label: str
) -> None:
    found = idc_item(f"{patient}/{folder}/{patient}_idx5_x{x}_y{y}_class{label}.png")
    if "\n" in patient:
        assert isinstance(found, Rejected)
    elif folder == label:
        assert isinstance(found, Item)
        assert (found.patient, found.x, found.y, found.label) == (patient, x, y, int(label))
    else:
        assert isinstance(found, Rejected)
        assert f"class {label} in its name, folder {folder}" in found.reason


@given(st.text(st.sampled_from("8863_idx5xyclass01./ \n٣é"), max_size=40))
def test_other_names_of_idc_are_rejected_and_nothing_is_raised(name: str) -> None:
    for file in (name, f"8863/0/{name}", f"8863/1/8863_idx5_x{name}_y1_class1.png"):
        found = idc_item(file)
        assert isinstance(found, Rejected) or found.file == file


FIELDS = st.text(st.sampled_from('ab0.png/\\:, "\r\n;\ufeff'), max_size=8)


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=4), max_size=6), st.booleans())
def test_any_csv_is_listed_or_rejected_and_every_row_is_accounted_for(
    rows: list[list[str]], quoted: bool
) -> None:
    text = io.StringIO(newline="")
    if quoted:
        csv.writer(text).writerows([["path", "label", "patient", "x"], *rows])
    else:
        text.write("\n".join(["path,label,patient,x", *(",".join(row) for row in rows)]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.csv"
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        try:
            found = csv_source(str(path), Ask())
        except DataError:
            return
    kept = [item.file for item in found.items]
    assert len(set(kept)) == len(kept)
    assert all(item.patient for item in found.items)
    assert not any(".." in file.split("/") or file.startswith("/") for file in kept)
    if quoted and all(len(row) == 4 for row in rows):
        assert len(kept) + len(found.rejected) == len(rows)


def test_folders_named_as_parts_of_a_split_have_the_classes_below(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in ("0", "1"):
            place = tmp_path / "pcam" / part / label
            place.mkdir(parents=True)
            Image.fromarray(patches(1, 24)[0]).save(place / f"{part}.png")
    manifest = shard(tmp_path / "pcam", tmp_path, "folder", patient="[a-z]+")
    assert manifest.class_names == ("0", "1")
    assert sorted(table_of(tmp_path, "split")["split"]) == ["train", "train", "valid", "valid"]


def test_links_out_of_the_tree_are_rejected_by_name(tmp_path: Path) -> None:
    inside, outside = tmp_path / "set", tmp_path / "elsewhere"
    for place in (inside / "a", outside):
        place.mkdir(parents=True)
        Image.fromarray(patches(1, 24)[0]).save(place / "1.png")
    (inside / "a" / "out.png").symlink_to(outside / "1.png")
    (inside / "b").symlink_to(outside)
    (inside / "a" / "loop").symlink_to(inside)
    (inside / "a" / "in.png").symlink_to("1.png")
    manifest = shard(inside, tmp_path, "folder")
    assert manifest.rows == 2
    assert rejections(tmp_path) == {
        "a/out.png": "a link out of the folder",
        "b": "a link out of the folder",
        "a/loop": "a link to a folder; what is there is read at its own place",
    }


def packed(tmp_path: Path, kind: str) -> Path:
    image = io.BytesIO()
    Image.fromarray(patches(1, 24)[0]).save(image, "PNG")
    names = ["set/a/1.png", "set/b/2.png", "../climbed.png", "/absolute.png"]
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, image.getvalue())
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(image.getvalue())
            tar.addfile(entry, io.BytesIO(image.getvalue()))
        link = tarfile.TarInfo("set/a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_is_a_source_and_what_climbs_out_of_it_is_rejected(
    tmp_path: Path, kind: str
) -> None:
    manifest = shard(packed(tmp_path, kind), tmp_path, "folder")
    assert manifest.rows == 2
    assert manifest.class_names == ("a", "b")
    told = rejections(tmp_path)
    assert told["../climbed.png"] == "its path climbs out of the archive"
    assert len(told) == (2 if kind == "zip" else 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", f"set.{kind}"]
    assert not (tmp_path / "out" / ".unpacked").exists()


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_truncated_archive_is_rejected_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    path = packed(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(DataError, match=r"set\.\S+: damaged"):
        shard(path, tmp_path, "folder")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.data.sources.archive.FREE_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/a/1.png", bytes(2**26))
    with pytest.raises(DataError, match="unpacks to more than 200 times"):
        shard(tmp_path / "set.zip", tmp_path, "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def spoilt_archives(folder: Path) -> dict[str, bytes]:
    """Archives of twelve images, each spoilt in its middle."""
    for number, image in enumerate(patches(12, 20)):
        place = folder / "set" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    found = {}
    modes: dict[str, Any] = {"": "w:", ".gz": "w:gz", ".xz": "w:xz"}
    for kind, mode in modes.items():
        with tarfile.open(folder / f"x.tar{kind}", mode) as archive:
            archive.add(folder / "set", "set")
        content = bytearray((folder / f"x.tar{kind}").read_bytes())
        if kind:
            middle = len(content) // 2
            content[middle : middle + 200] = bytes(200)
        else:
            header = next(
                place
                for place in range(len(content) // 2 // 512 * 512, len(content), 512)
                if content[place + 257 : place + 262] == b"ustar"
            )
            content[header : header + 512] = b"\xaa" * 512
        found[kind] = bytes(content)
    return found


@pytest.mark.parametrize("kind", ["", ".gz", ".xz"])
def test_an_archive_that_is_spoilt_in_its_middle_is_rejected(tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"spoilt.tar{kind}"
    source.write_bytes(spoilt_archives(tmp_path)[kind])
    with pytest.raises(DataError, match="damaged"):
        shard(source, tmp_path, "folder")
    assert not (tmp_path / "out").exists()


def test_what_is_no_file_is_rejected_by_name(tmp_path: Path) -> None:
    inside = tmp_path / "set" / "a"
    inside.mkdir(parents=True)
    Image.fromarray(patches(1, 24)[0]).save(inside / "1.png")
    os.mkfifo(inside / "pipe.png")
    (inside / "loop.png").symlink_to("loop.png")
    (inside / "nothing.png").symlink_to("none.png")
    (inside / "huge.png").touch()
    os.truncate(inside / "huge.png", 2**33)
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "masks" / "readme.txt").write_text("not a class")
    manifest = shard(tmp_path / "set", tmp_path, "folder")
    assert (manifest.rows, manifest.class_names) == (1, ("a",))
    told = rejections(tmp_path)
    assert {told[f"a/{name}.png"] for name in ("pipe", "loop", "nothing")} == {
        "a pipe, a device or a link to nothing, and no file"
    }
    assert told["a/huge.png"] == "larger than 256 MB"
    assert told["masks/readme.txt"].startswith("not one of .png")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("./0.png,a,p1,", "not a plain one"),
        ("a//0.png,a,p1,", "not a plain one"),
        ("0.png\0,a,p1,", "not a plain one"),
        ("out.png,a,p1,", "a link out of the folder"),
        ("0.png,a,p1,later", "split 'later' is none of train, valid"),
    ],
)
def test_a_row_of_a_csv_that_could_mislead_is_rejected(
    tmp_path: Path, row: str, reason: str
) -> None:
    source = write_csv(
        tmp_path / "set", f"path,label,patient,split\n1.png,a,p1,val\n2.png,b,p2,\n{row}\n"
    )
    Image.fromarray(patches(1, 20)[0]).save(tmp_path / "elsewhere.png")
    (tmp_path / "set" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    manifest = shard(source, tmp_path)
    assert (manifest.rows, manifest.rejected) == (2, 1)
    assert reason in next(iter(rejections(tmp_path).values()))
    assert table_of(tmp_path, "split")["split"] == ["valid", ""]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('"path"x,label,patient\n', "line 1"),
        ("path,label,patient,label_label\n0.png,a,p,b\n", "column 'label_label' is unknown"),
        ("path,label,patient,label_a/b\n0.png,a,p,b\n", "column 'label_a/b' is unknown"),
        (
            "path,label,patient\n" + "".join(f"{n}.png,{n},p\n" for n in range(1001)),
            "1,001 classes in label",
        ),
        (f"path,label,patient\n{'x' * 200_000},a,p\n", "field larger than field limit"),
    ],
)
def test_a_csv_that_would_mislead_is_rejected(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        shard(write_csv(tmp_path / "set", text), tmp_path)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"patient": "("}, "--patient: nothing of format csv reads it, only folder"),
        ({"magnifications": (40,)}, "--magnification: nothing of format csv"),
        ({"official": "x"}, "--official: nothing of format csv"),
        ({"classes": ("a", "a")}, "there twice"),
    ],
)
def test_an_option_that_nothing_reads_is_rejected(
    tmp_path: Path, asked: dict[str, Any], error: str
) -> None:
    source = write_csv(tmp_path / "set", "path,label,patient\n0.png,a,p\n")
    with pytest.raises(DataError, match=error):
        shard(source, tmp_path, **asked)


def test_a_place_that_no_slide_has_is_rejected(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train")
    meta = source / f"{STEM}train_meta.csv"
    meta.write_text(meta.read_text().replace("0,192,", "0,99999999999,"))
    meta.write_text(meta.read_text().replace("96,192,", "96,99999999999,"))
    with pytest.raises(DataError, match="line 3 is not"):
        shard(source, tmp_path)
