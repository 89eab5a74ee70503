"""An archive is a source; what leads out of it is rejected, and a damaged archive is an error."""

import gc
import gzip
import io
import itertools
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raysearch.data.images import expansion
from raysearch.data.images.expansion import ExpansionLimit
from raysearch.data.sources.tar_headers import open_tar
from raysearch.errors import DataError
from support.source_images import png_bytes, rejections, shard_source, synthetic_patches
from support.source_listings import labels_by_file, list_images, reasons, write_zip


def write_archive(tmp_path: Path, kind: str) -> Path:
    """Write two images, and two with paths out of the archive; a tar also has a link."""
    content = png_bytes(synthetic_patches(1, 24)[0])
    names = ["set/a/1.png", "set/b/2.png", "../climbed.png", "/absolute.png"]
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("set/a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_is_a_source_and_paths_out_of_it_are_rejected(tmp_path: Path, kind: str) -> None:
    manifest = shard_source(write_archive(tmp_path, kind), tmp_path, "folder")
    assert manifest.rows == 2
    assert manifest.class_names == ("a", "b")
    reasons = rejections(tmp_path)
    assert reasons["../climbed.png"] == "its path leads out of the archive"
    assert len(reasons) == (2 if kind == "zip" else 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", f"set.{kind}"]
    assert not (tmp_path / "out" / ".unpacked").exists()


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_truncated_archive_is_rejected_and_leaves_no_file(tmp_path: Path, kind: str) -> None:
    path = write_archive(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(DataError, match=r"set\.\S+: damaged"):
        shard_source(path, tmp_path, "folder")
    assert list(tmp_path.iterdir()) == [path]


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "IMAGES", ExpansionLimit(200, 2**20))
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/a/1.png", bytes(2**26))
    with pytest.raises(DataError, match="unpacks to more than 200 times"):
        shard_source(tmp_path / "set.zip", tmp_path, "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def damaged_tar(folder: Path, compression: str) -> bytes:
    """Return a tar archive of twelve images that is damaged in its middle."""
    for number, image in enumerate(synthetic_patches(12, 20)):
        directory = folder / "set" / "ab"[number % 2]
        directory.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(directory / f"{number}.png")
    path = folder / "x.tar"
    mode: Any = f"w:{compression}"
    with tarfile.open(path, mode) as archive:
        archive.add(folder / "set", "set")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if compression:
        content[middle : middle + 200] = bytes(200)
        return bytes(content)
    header = next(
        start
        for start in range(middle // 512 * 512, len(content), 512)
        if content[start + 257 : start + 262] == b"ustar"
    )
    content[header : header + 512] = b"\xaa" * 512
    return bytes(content)


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_an_archive_that_is_damaged_in_its_middle_is_rejected(
    tmp_path: Path, compression: str
) -> None:
    source = tmp_path / f"damaged.tar{'.' if compression else ''}{compression}"
    source.write_bytes(damaged_tar(tmp_path, compression))
    with pytest.raises(DataError, match="damaged"):
        shard_source(source, tmp_path, "folder")
    assert not (tmp_path / "out").exists()


def test_of_a_name_that_an_archive_contains_twice_the_first_file_is_used(tmp_path: Path) -> None:
    names = ["a/1.png", "a/1.png", "a/./1.png", "a/2.png", "b/1.png"]
    write_zip(tmp_path / "set.zip", names)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"image"))
    for path in (tmp_path / "set.zip", tmp_path / "set.tar"):
        (tmp_path / path.suffix).mkdir()
        listing = list_images(path, tmp_path / path.suffix, "folder")
        assert [item.file for item in listing.items] == ["a/1.png", "a/2.png", "b/1.png"]
        assert [entry.file for entry in listing.rejected] == ["a/1.png", "a/./1.png"]
        assert "contains this name twice" in listing.rejected[0].reason


def test_a_name_that_is_a_file_and_a_folder_is_rejected(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "set.zip", ["a/1.png", "a/1.png/2.png", "b/1.png", "b"])
    listing = list_images(source, tmp_path, "folder")
    assert [item.file for item in listing.items] == ["a/1.png", "b/1.png"]
    assert set(reasons(listing)) == {"a/1.png/2.png", "b"}


def test_a_zip_with_backslashes_has_the_folders_that_they_separate(tmp_path: Path) -> None:
    names = ["set\\", "set\\a\\1.png", "set\\b\\1.png", "set\\..\\..\\x.png", "C:\\x.png"]
    listing = list_images(write_zip(tmp_path / "set.zip", names), tmp_path, "folder")
    assert labels_by_file(listing) == {"a/1.png": "a", "b/1.png": "b"}
    assert set(reasons(listing).values()) == {"its path leads out of the archive"}
    assert not (tmp_path / "x.png").exists()


def patched_zip(path: Path, flags: int, compression: int) -> Path:
    """Write a zip archive with other flags and another compression in its two kinds of headers."""
    write_zip(path, ["a/1.png", "b/1.png"])
    content = path.read_bytes()
    fields = flags.to_bytes(2, "little") + compression.to_bytes(2, "little")
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(signature)
        content = signature.join(
            [parts[0], *(part[: offset - 4] + fields + part[offset:] for part in parts[1:])]
        )
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("flags", "compression", "reason"),
    [
        (1, 8, "encrypted"),
        (0x20, 8, "compressed as a patch of another file, which cannot be read"),
        (0, 9, "compressed with Deflate64, which cannot be read"),
        (0, 98, "compressed with PPMd, which cannot be read"),
        (0, 77, "compressed with method 77, which cannot be read"),
    ],
)
def test_a_zip_that_cannot_be_unpacked_is_rejected_with_the_reason(
    tmp_path: Path, flags: int, compression: int, reason: str
) -> None:
    source = patched_zip(tmp_path / "set.zip", flags, compression)
    with pytest.raises(DataError) as error:
        list_images(source, tmp_path, "folder")
    assert str(error.value) == (
        f"{source}: none of its 2 files can be unpacked (a/1.png: {reason}); unpack it with another"
        " program, and name the folder"
    )


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
def test_bytes_that_are_no_archive_are_rejected_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=r"set\.\S+: damaged \([^\n]+\); download it again$"):
        list_images(tmp_path / name, tmp_path, "folder")


def test_empty_members_are_rejected_and_not_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("set/a/1.png", b"image")
        for number in range(200):
            archive.writestr(f"set/{number}/0.png", b"")
    listing = list_images(tmp_path / "set.zip", tmp_path, "folder")
    assert len(listing.items) == 1
    assert set(reasons(listing).values()) == {"empty file"}
    assert len(listing.rejected) == 200
    assert len(list((tmp_path / "scratch").rglob("*.png"))) == 1


@pytest.mark.parametrize(("suffix", "limit"), [("zip", 100), ("tar", 100), ("tar", 10)])
def test_an_archive_of_too_many_files_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, limit: int
) -> None:
    monkeypatch.setattr("raysearch.data.sources.archive.MAX_MEMBERS", 20)
    monkeypatch.setattr("raysearch.data.sources.archive.MIN_MEMBER_BYTES", 2**20)
    monkeypatch.setattr("raysearch.data.sources.archive.FEW_MEMBERS", limit)
    source = tmp_path / f"set.{suffix}"
    names = [f"a/{number}.png" for number in range(21)]
    if suffix == "zip":
        write_zip(source, names, b"")
    else:
        with tarfile.open(source, "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match=f"contains more than {min(limit, 20)} files"):
        list_images(source, tmp_path, "folder")


def test_an_archive_of_too_many_folders_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.data.sources.archive.MAX_FOLDERS", 20)
    source = write_zip(tmp_path / "set.zip", [f"a/{n}/b/c/d/1.png" for n in range(6)])
    with pytest.raises(DataError, match="contains more than 20 folders"):
        list_images(source, tmp_path, "folder")
    assert len([path for path in (tmp_path / "scratch").rglob("*") if path.is_dir()]) <= 21


def test_an_archive_of_empty_files_is_rejected(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "set.zip", ["a/1.png", "b/1.png"], b"")
    with pytest.raises(DataError, match="all its 2 files are empty"):
        list_images(source, tmp_path, "folder")


def test_files_that_are_too_deep_or_have_an_impossible_name_are_rejected(tmp_path: Path) -> None:
    deep, long = "/".join(["d"] * 1500) + "/1.png", f"a/{'x' * 300}.png"
    listing = list_images(
        write_zip(tmp_path / "x.zip", ["a/1.png", deep, long]), tmp_path, "folder"
    )
    assert len(listing.items) == 1
    assert reasons(listing) == {
        deep: "more than 50 folders deep",
        long: "its name is not possible: File name too long",
    }


def tar_header(kind: bytes, size: int, name: str = "name") -> bytes:
    """Return the header of a member of a tar archive."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_small_tar_with_a_huge_header_is_rejected_without_reading_it(
    tmp_path: Path, kind: bytes
) -> None:
    source = tmp_path / "set.tar.gz"
    with gzip.open(source, "wb") as file:
        file.write(tar_header(kind, 2**31))
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match="its headers are larger than those of any archive"):
        list_images(source, tmp_path, "folder")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_chain_of_headers_is_rejected(tmp_path: Path) -> None:
    source = tmp_path / "set.tar.gz"
    with gzip.open(source, "wb") as file:
        for _ in range(3000):
            file.write(tar_header(tarfile.XHDTYPE, 512) + b"9 a=bcde\n".ljust(512, b"\0"))
    with pytest.raises(DataError, match="damaged"):
        list_images(source, tmp_path, "folder")


def test_the_members_of_a_tar_do_not_stay_in_memory(tmp_path: Path) -> None:
    source = tmp_path / "set.tar.gz"
    with gzip.open(source, "wb") as file:
        file.write(tar_header(tarfile.REGTYPE, 0, "a/1.png") * 200 + bytes(1024))
    with open_tar(str(source)) as archive:
        last_entry = list(itertools.islice(archive, 150))[-1]
        assert last_entry.name == "a/1.png"
        gc.collect()
        assert sum(type(item) is type(last_entry) for item in gc.get_objects()) < 5


def test_a_tar_whose_end_never_comes_is_rejected(tmp_path: Path) -> None:
    source = tmp_path / "set.tar.gz"
    with gzip.open(source, "wb") as file:
        file.write(tar_header(tarfile.REGTYPE, 5, "a/1.png") + b"image".ljust(512, b"\0"))
        for _ in range(70):
            file.write(bytes(2**20))
    with pytest.raises(DataError, match="67,108,864 bytes after its last member"):
        list_images(source, tmp_path, "folder")


def test_a_folder_of_an_archive_is_kept_if_it_is_a_class_or_a_patient(tmp_path: Path) -> None:
    for number, (files, source_format, expected) in enumerate(
        (
            (["a/1.png", "a/2.png"], "folder", "a/1.png"),
            (["set/a/1.png", "set/b/1.png"], "folder", "a/1.png"),
            ([f"8863/{c}/8863_idx5_x1_y{c}_class{c}.png" for c in "01"], None, None),
        )
    ):
        (tmp_path / str(number)).mkdir()
        source = write_zip(tmp_path / str(number) / "set.zip", files)
        listing = list_images(source, tmp_path / str(number), source_format)
        assert len(listing.items) == 2
        assert listing.items[0].file == (expected or files[0])
