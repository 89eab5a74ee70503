"""Links out of the folder, and what is no regular file, are rejected by name."""

import os
from pathlib import Path

from PIL import Image

from support.source_images import rejections, shard_source, synthetic_patches


def test_links_out_of_the_folder_are_rejected(tmp_path: Path) -> None:
    inside, outside = tmp_path / "set", tmp_path / "elsewhere"
    for folder in (inside / "a", outside):
        folder.mkdir(parents=True)
        Image.fromarray(synthetic_patches(1, 24)[0]).save(folder / "1.png")
    (inside / "a" / "out.png").symlink_to(outside / "1.png")
    (inside / "b").symlink_to(outside)
    (inside / "a" / "loop").symlink_to(inside)
    (inside / "a" / "in.png").symlink_to("1.png")
    manifest = shard_source(inside, tmp_path, "folder")
    assert manifest.rows == 2
    assert rejections(tmp_path) == {
        "a/out.png": "a link out of the folder",
        "b": "a link out of the folder",
        "a/loop": "a link to a folder; its files are read at their own path",
    }


def test_pipes_broken_links_and_huge_files_are_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(synthetic_patches(1, 24)[0]).save(folder / "1.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nothing.png").symlink_to("none.png")
    (folder / "huge.png").touch()
    os.truncate(folder / "huge.png", 2**33)
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "masks" / "readme.txt").write_text("not a class")
    manifest = shard_source(tmp_path / "set", tmp_path, "folder")
    assert (manifest.rows, manifest.class_names) == (1, ("a",))
    reasons = rejections(tmp_path)
    assert {reasons[f"a/{name}.png"] for name in ("pipe", "loop", "nothing")} == {
        "a pipe, a device or a broken link, and no file"
    }
    assert reasons["a/huge.png"] == "larger than 256 MB"
    assert reasons["masks/readme.txt"].startswith("not one of .png")
