"""The names of IDC are parsed, and the archive's second copy is ignored."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.idc import parse_idc_path
from raysearch.data.sources.listing import Item, Rejected
from support.source_images import noise_patch, png_bytes, shard_source, write_idc_file


def test_the_second_copy_in_the_archive_is_ignored_unless_it_is_the_only_one(
    tmp_path: Path,
) -> None:
    source, content = tmp_path / "idc", png_bytes(noise_patch(1))
    for x in (1, 51):
        write_idc_file(source, "8863", 0, x, 1, content)
    nested = source / "IDC_regular_ps50_idx5"
    write_idc_file(nested, "8863", 0, 1, 1, content)
    assert shard_source(source, tmp_path, "idc").files == 2
    (tmp_path / "alone").mkdir()
    nested.rename(tmp_path / "alone" / nested.name)
    assert write_shards(str(tmp_path / "alone"), tmp_path / "two", "idc", workers=1).rows == 1


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12),
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**9 - 1),
    st.sampled_from("01"),
    st.sampled_from("01"),
)
def test_every_name_is_parsed_and_a_name_that_contradicts_its_folder_is_rejected(
    patient: str, x: int, y: int, folder: str, label: str
) -> None:
    entry = parse_idc_path(f"{patient}/{folder}/{patient}_idx5_x{x}_y{y}_class{label}.png")
    if "\n" in patient:
        assert isinstance(entry, Rejected)
    elif folder == label:
        assert isinstance(entry, Item)
        assert (entry.patient, entry.x, entry.y, entry.label) == (patient, x, y, int(label))
    else:
        assert isinstance(entry, Rejected)
        assert f"class {label} in its name, folder {folder}" in entry.reason


@given(st.text(st.sampled_from("8863_idx5xyclass01./ \n٣é"), max_size=40))
def test_any_other_name_is_rejected_without_an_exception(name: str) -> None:
    for file in (name, f"8863/0/{name}", f"8863/1/8863_idx5_x{name}_y1_class1.png"):
        entry = parse_idc_path(file)
        assert isinstance(entry, Rejected) or entry.file == file
