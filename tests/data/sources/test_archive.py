"""An archive is a source; what leads out of it is rejected, and a damaged archive is an error."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raysearch.errors import DataError
from support.source_images import png_bytes, rejections, shard_source, synthetic_patches


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
    monkeypatch.setattr("raysearch.data.sources.archive.MIN_LIMIT_BYTES", 2**20)
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
