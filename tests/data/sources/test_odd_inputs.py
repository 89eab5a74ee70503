"""Layouts and tables as users have them: they are listed as they are meant, or rejected."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest

from raysearch.data.sources import UNLABELED, list_source
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from support.pcam_files import PREFIX, write_pcam, write_pcam_kaggle
from support.source_images import shard_source, write_csv_source
from support.source_listings import (
    items_by_file,
    labels_by_file,
    list_images,
    reasons,
    write_files,
    write_zip,
)

CLASSES = ("benign", "malignant")


def class_files(*folders: str) -> list[str]:
    """Return two files in each of two class folders in `folders`."""
    return [
        f"{folder}{name}/{number}.png"
        for folder in folders or ("",)
        for name in CLASSES
        for number in range(2)
    ]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("TRAIN", "test"),
        ("training_set", "Testing Set"),
        ("train", "Validation"),
    ],
)
def test_split_folders_are_recognized_in_any_case(tmp_path: Path, train: str, test: str) -> None:
    source = write_files(tmp_path / "set", *class_files(f"{train}/", f"{test}/"))
    listing = list_images(source, tmp_path, "folder")
    assert listing.class_names == CLASSES
    second = "valid" if test == "Validation" else "test"
    assert Counter(item.split for item in listing.items) == {"train": 4, second: 4}


@pytest.mark.parametrize(
    "hidden",
    [
        ".cache/hub/CACHEDIR.TAG",
        ".ipynb_checkpoints/1-checkpoint.png",
        "__MACOSX/train/benign/._0.png",
        "train/benign/.ipynb_checkpoints/0-checkpoint.png",
        ".DS_Store",
        "train/Thumbs.db",
    ],
)
def test_hidden_files_are_ignored(tmp_path: Path, hidden: str) -> None:
    source = write_files(tmp_path / "set", *class_files("train/", "test/"), hidden)
    listing = list_images(source, tmp_path, "folder")
    assert listing.class_names == CLASSES
    assert len(listing.items) == 8
    assert listing.rejected == []


def test_a_hidden_folder_can_be_the_source(tmp_path: Path) -> None:
    source = write_files(tmp_path / ".cache" / "set", *class_files())
    assert len(list_images(source, tmp_path, "folder").items) == 4


def test_a_folder_without_images_is_no_class_and_no_part_of_a_split(tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", *class_files("train/", "test/"), "docs/README.txt")
    listing = list_images(source, tmp_path, "folder")
    assert listing.class_names == CLASSES
    assert list(reasons(listing)) == ["docs/README.txt"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [*class_files("train/", "test/"), "masks/0.png"],
            "test, train would be parts of a split, and masks would not; move those out of it, or"
            " name the classes in order with --classes",
        ),
        (["control/0.png", "test/0.png"], "test would be parts of a split, and control would not"),
        (
            class_files("tissue/"),
            "all its images are in one folder, tissue, which contains benign, malignant; give that"
            " folder if those are the classes",
        ),
        (
            class_files("data/train/", "data/test/"),
            "in one folder, data, which contains test, train",
        ),
        (
            class_files("fold1/", "fold2/", "fold3/"),
            "each of its folders fold1, fold2, fold3 contains benign, malignant; name those that"
            " are the classes, in order, with --classes",
        ),
        (
            ["train/Benign/0.png", "test/benign/0.png"],
            "the classes 'Benign' and 'benign' of label differ only in upper and lower case",
        ),
    ],
)
def test_if_the_classes_are_in_doubt_the_message_names_what_was_found(
    tmp_path: Path, files: list[str], message: str
) -> None:
    source = write_files(tmp_path / "set", *files)
    with pytest.raises(DataError) as error:
        list_images(source, tmp_path, "folder")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_option_classes_decides_which_folders_are_the_classes(tmp_path: Path) -> None:
    groups = write_files(tmp_path / "groups", "control/0.png", "test/0.png")
    listing = list_images(groups, tmp_path, "folder", classes=("control", "test"))
    assert labels_by_file(listing) == {"control/0.png": "control", "test/0.png": "test"}
    assert {item.split for item in listing.items} == {""}
    patients = write_files(tmp_path / "patients", *class_files("p1/", "p2/", "p3/"))
    listing = list_images(
        patients, tmp_path, "folder", classes=("malignant", "benign"), patient="^[^/]+"
    )
    assert listing.class_names == ("malignant", "benign")
    assert Counter(item.patient for item in listing.items) == {"p1": 4, "p2": 4, "p3": 4}
    splits = write_files(tmp_path / "splits", *class_files("train/"), "masks/benign/0.png")
    listing = list_images(splits, tmp_path, "folder", classes=CLASSES)
    assert Counter(item.split for item in listing.items) == {"train": 4}
    assert reasons(listing) == {"masks/benign/0.png": "folder 'masks' is no part of the split"}


def test_folders_of_patients_in_class_folders_are_no_classes(tmp_path: Path) -> None:
    files = [f"{name}/p{number}/0.png" for name in CLASSES for number in range(3)]
    listing = list_images(write_files(tmp_path / "set", *files), tmp_path, "folder")
    assert listing.class_names == CLASSES


def test_names_in_composed_and_decomposed_unicode_are_one(tmp_path: Path) -> None:
    composed, decomposed = (normalize(form, "Gewebe ä") for form in ("NFC", "NFD"))
    files = [f"{name}/{name}_{number}.png" for name in (composed, decomposed) for number in (1, 2)]
    source = write_files(tmp_path / "set", *files, "other/x_1.png")
    listing = list_images(
        source, tmp_path, "folder", patient="/(.+)_", classes=(decomposed, "other")
    )
    assert listing.class_names == (composed, "other")
    assert sorted(item.label or 0 for item in listing.items) == [0, 0, 0, 0, 1]
    assert {item.patient for item in listing.items} == {composed, "x"}
    assert {item.file for item in listing.items} == {*files, "other/x_1.png"}
    rows = [f"{number}.png,{name},{name}" for number, name in enumerate((composed, decomposed))]
    table = write_table(tmp_path / "csv", "path,label,patient", *rows)
    listing = list_images(table, tmp_path)
    assert listing.class_names == (composed,)
    assert {item.patient for item in listing.items} == {composed}


def write_table(folder: Path, *lines: str, encoding: str = "utf-8", name: str = "t.csv") -> Path:
    """Write a CSV file and the images `0.png` to `9.png`."""
    write_files(folder, *(f"{number}.png" for number in range(10)))
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / name


def test_blanks_around_patients_and_labels_do_not_count(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        "path, label ,patient",
        *("0.png,benign,P1", "1.png,benign ,P1 ", "2.png, malignant,\u00a0P1", "3.png,benign,P2"),
    )
    listing = list_images(table, tmp_path)
    assert listing.class_names == CLASSES
    assert Counter(item.patient for item in listing.items) == {"P1": 3, "P2": 1}
    assert listing.warnings == ()


def test_each_image_without_a_patient_is_its_own_patient(tmp_path: Path) -> None:
    table = write_table(
        tmp_path, "path,label,patient", "0.png,a,", "1.png,b, ", "2.png,a,P1", "3.png,a,0.png"
    )
    listing = list_images(table, tmp_path)
    patients = {item.file: item.patient for item in listing.items}
    assert patients == {"1.png": "1.png", "2.png": "P1", "3.png": "0.png"}
    assert reasons(listing) == {"0.png": "no patient, and its path is the name of a patient"}
    assert listing.warnings[0].startswith("1 images have no patient: each counts as its own")


def test_words_for_a_missing_value_are_identifiers_with_a_warning(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        "path,label,patient",
        *("0.png,a,nan", "1.png,b,nan", "2.png,a,None", "3.png,NA,NA", "4.png,b,NaN"),
    )
    listing = list_images(table, tmp_path)
    assert Counter(item.patient for item in listing.items) == {
        "nan": 2,
        "None": 1,
        "NA": 1,
        "NaN": 1,
    }
    assert listing.class_names == ("NA", "a", "b")
    assert [warning.split(";")[0] for warning in listing.warnings] == [
        "1 images have the patient 'NA', and count as one patient",
        "1 images have the patient 'NaN', and count as one patient",
        "1 images have the patient 'None', and count as one patient",
        "2 images have the patient 'nan', and count as one patient",
        "'NA' is a class of label",
    ]


@pytest.mark.parametrize("name", ["t.csv", "M1.CSV"])
def test_a_mark_at_the_start_and_an_upper_case_suffix_are_read(tmp_path: Path, name: str) -> None:
    table = write_table(
        tmp_path,
        "path,label,patient",
        "0.png,a,1e1",
        "1.png,b,010",
        encoding="utf-8-sig",
        name=name,
    )
    listing = list_images(table, tmp_path)
    assert [item.patient for item in listing.items] == ["1e1", "010"]


def test_two_labels_at_one_place_without_slides_advise_a_column_of_slides(tmp_path: Path) -> None:
    rows = ["0.png,a,P1,0,0", "1.png,b,P1,0,0"]
    table = write_table(tmp_path / "one", "path,label,patient,x,y", *rows)
    with pytest.raises(DataError, match="of two slides, add a column `slide`"):
        list_images(table, tmp_path)
    rows = [f"{row},S{number}" for number, row in enumerate(rows)]
    table = write_table(tmp_path / "two", "path,label,patient,x,y,slide", *rows)
    assert len(list_images(table, tmp_path).items) == 2


def test_a_mark_at_the_start_of_pcams_own_tables_is_ignored(tmp_path: Path) -> None:
    official, kaggle = tmp_path / "official", tmp_path / "kaggle"
    ids = write_pcam_kaggle(kaggle, write_pcam(official, "train"))
    for path in (official / f"{PREFIX}train_meta.csv", kaggle / "train_labels.csv"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(list_images(official, tmp_path).items) == 6
    listing = list_images(kaggle, tmp_path, official=str(official))
    assert len(listing.items) == len(ids) == 6
    assert len({item.slide for item in listing.items}) == 2


def idc_file(patient: int, label: int) -> str:
    """Return the path of an image of IDC."""
    return f"{patient}/{label}/{patient}_idx5_x1_y{1 + 50 * label}_class{label}.png"


@pytest.mark.parametrize("other", [".DS_Store", "README.txt", "lists/cases.csv"])
def test_other_files_beside_the_folder_of_idc_do_not_hide_it(tmp_path: Path, other: str) -> None:
    files = [f"IDC_regular_ps50_idx5/{idc_file(patient, 0)}" for patient in (8863, 8864)]
    listing = list_images(write_files(tmp_path / "set", *files, other), tmp_path)
    assert {item.patient for item in listing.items} == {"8863", "8864"}
    assert list(reasons(listing)) == ([] if other.startswith(".") else [other])


def test_the_breakhis_archive_of_kaggle_is_recognized(tmp_path: Path) -> None:
    top = "archive/BreaKHis_v1/BreaKHis_v1/histology_slides/breast"
    names = ["benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png"]
    names += ["malignant/SOB/ductal_carcinoma/SOB_M_DC_14-2523/40X/SOB_M_DC-14-2523-40-001.png"]
    files = [*(f"{top}/{name}" for name in names), "archive/Folds.csv"]
    for source in (write_files(tmp_path / "set", *files), write_zip(tmp_path / "set.zip", files)):
        inner = source / "archive" if source.is_dir() else source
        source_format, listing = list_source(str(inner), None, SourceOptions(scratch=tmp_path))
        assert source_format == "breakhis"
        assert {item.patient for item in listing.items} == {"22549", "2523"}
        assert list(reasons(listing)) == ["Folds.csv"]


def test_tiles_of_qupath_have_a_slide_and_a_position(tmp_path: Path) -> None:
    files = [
        f"{label}/slide 7 [{scale}x={256 * x},y=512,w=256,h=256].png"
        for label, scale in (("stroma", ""), ("tumour", "d=4,"))
        for x in range(3)
    ]
    source = write_files(tmp_path / "set", *files, "tumour/slide 7 [x=0,y=0,w=9,h=9]-labelled.png")
    listing = list_images(source, tmp_path, "folder")
    places = {(item.patient, item.slide, item.x, item.y) for item in listing.items}
    assert places == {("slide 7", "slide 7", 256 * x, 512) for x in range(3)}
    assert len(listing.items) == 6
    assert list(reasons(listing).values()) == ["a label image of QuPath, and no tissue"]
    assert "each slide counts as its own patient" in listing.warnings[0]
    assert "3 images lie at the position of another image" in listing.warnings[1]
    with_patient = list_images(source, tmp_path, "folder", patient=r"/(\w+) ")
    assert {(item.patient, item.slide) for item in with_patient.items} == {("slide", "slide 7")}


def test_patches_in_a_folder_for_each_slide_have_a_slide_and_a_position(tmp_path: Path) -> None:
    files = ["a/S1/1024_512.png", "a/S1/S1_2048_512.png", "b/S2/0_512_256_256.jpg"]
    listing = list_images(write_files(tmp_path / "set", *files), tmp_path, "folder")
    places = {file: item[2:6] for file, item in items_by_file(listing).items()}
    assert places == {
        "a/S1/1024_512.png": ("S1", "S1", 1024, 512),
        "a/S1/S1_2048_512.png": ("S1", "S1", 2048, 512),
        "b/S2/0_512_256_256.jpg": ("S2", "S2", 0, 512),
    }


def test_images_without_labels_are_listed_from_a_folder_and_from_a_zip(tmp_path: Path) -> None:
    files = ["t/S1 [x=0,y=256,w=256,h=256].png", "S2_x1_y51.png", "p9/1024_0.png", "p9/notes.txt"]
    folder = write_files(tmp_path / "set", *files)
    archive = write_zip(tmp_path / "set.zip", [*files, "__MACOSX/p9/._1024_0.png"])
    for source in (folder, archive):
        options = SourceOptions(scratch=tmp_path, patient="^(?:p|.*S)([0-9])")
        source_format, listing = list_source(str(source), None, options, are_labels_required=False)
        assert source_format == UNLABELED
        assert {file: item[2:6] for file, item in items_by_file(listing).items()} == {
            files[0]: ("1", "S1", 0, 256),
            files[1]: ("2", "S2", 1, 51),
            files[2]: ("9", "p9", 1024, 0),
        }
        assert reasons(listing) == {"p9/notes.txt": "no image by its name"}


def test_a_patient_with_blanks_or_without_a_match_is_no_own_patient(tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", "a/P1 _1.png", "a/P1_2.png", "a/_3.png", "b/x.png")
    listing = list_images(source, tmp_path, "folder", patient="/([^_]*)_")
    assert {item.patient for item in listing.items} == {"P1"}
    assert set(reasons(listing)) == {"a/_3.png", "b/x.png"}


def test_a_pattern_that_would_take_forever_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.data.sources.patient_patterns.TIMEOUT_S", 3.0)
    source = write_files(tmp_path / "set", f"a/{'a' * 60}!.png")
    with pytest.raises(DataError, match=r"--patient '\(\(a\+\)\+\)\+\$': cannot be searched in 1"):
        list_images(source, tmp_path, "folder", patient="((a+)+)+$")


@pytest.mark.parametrize("pattern", ["(" * 5000 + ")" * 5000, "a{99999999999999999999}", "["])
def test_a_pattern_that_is_no_regular_expression_is_rejected(tmp_path: Path, pattern: str) -> None:
    source = write_files(tmp_path / "set", "a/1.png")
    with pytest.raises(DataError, match="is no regular expression"):
        list_images(source, tmp_path, "folder", patient=pattern)


def test_folders_that_are_too_deep_are_rejected(tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", "a/1.png", "/".join(["b", *("d" * 60), "1.png"]))
    listing = list_images(source, tmp_path, "folder")
    assert [item.file for item in listing.items] == ["a/1.png"]
    assert list(reasons(listing).values()) == ["more than 50 folders deep"]


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder in which another account than that of the test may read what its mode allows."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        write_files(Path(folder) / "set", "a/1.png", "b/1.png")
        write_zip(Path(folder) / "set.zip", ["a/1.png"])
        write_table(Path(folder), "path,label,patient", "0.png,a,P1")
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
            for path in Path(folder).rglob("*"):
                path.chmod(0o700)


@pytest.mark.parametrize("entry", ["set", "set/b", "set.zip", "t.csv"])
def test_what_the_user_may_not_read_is_named_with_the_reason(locked: Path, entry: str) -> None:
    user, owner = os.geteuid(), locked.stat().st_uid
    os.seteuid(owner)
    (locked / entry).chmod(0)
    os.seteuid(user)
    source = locked / entry.removesuffix("/b")
    with pytest.raises(DataError) as error:
        list_source(str(source), None if "." in entry else "folder", SourceOptions(scratch=locked))
    assert str(error.value).startswith(f"{locked / entry}: cannot be read")
    assert "Permission denied" in str(error.value)


def test_a_file_of_another_kind_is_no_source(tmp_path: Path) -> None:
    source = tmp_path / "set.7z"
    source.write_bytes(b"7z")
    with pytest.raises(DataError, match=r"no archive that can be read \(\.zip, \.tar, "):
        list_images(source, tmp_path)


def test_the_manifest_has_the_warnings_of_the_listing(tmp_path: Path) -> None:
    source = write_csv_source(tmp_path / "set", "path,label,patient\n0.png,a,\n1.png,b,nan\n")
    manifest = shard_source(source, tmp_path)
    assert manifest.patients == 2
    assert len(manifest.warnings) == 2
