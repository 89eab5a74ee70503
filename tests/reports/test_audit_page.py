"""The page of an audit is self-contained, and escapes the names in a set."""

import re
from pathlib import Path

from raysearch.data.audit.shard_audit import Audit, audit_shards
from raysearch.data.pseudonyms import DISPLAYED_DIGITS, PATIENT, DisplayedNames, PseudonymKey
from raysearch.reports.audit_page import write_audit_page
from support.audit_sets import CLASSES, ImageSet, clean_image_set, distinct_patches


def page_of(image_set: ImageSet) -> str:
    """Return the page of the audit of a set, with identifiers."""
    return write_page(audit_shards(image_set.shard(), "label", 0), None)


def write_page(audit: Audit, key: PseudonymKey | None) -> str:
    """Write the page of an audit next to its shards, with identifiers if there is no key."""
    path = audit.shards.folder.local.parent / "inspect.html"
    write_audit_page(audit, path, DisplayedNames(key))
    return path.read_text()


def test_a_page_shows_errors_first_and_embeds_its_pictures(tmp_path: Path) -> None:
    image_set = clean_image_set(tmp_path)
    image_set.add(distinct_patches()[3], "p5", "no")
    page = page_of(image_set)
    assert page.index("with different labels") < page.index("There is no split manifest")
    assert page.count('src="data:image/png;base64,') == 40  # 2 * 18 samples, 2 * 2 copies
    assert not re.search(r"""(src|href)=["'](?!data:|\#)""", page)
    assert "://" not in page


def test_names_that_look_like_markup_are_escaped(tmp_path: Path) -> None:
    image_set, patches = ImageSet(tmp_path), distinct_patches()
    for number in range(16):
        image_set.add(patches[number], f"<b>[red]{number // 4}", CLASSES[number % 2])
    assert "<b>[red]" not in page_of(image_set)


def test_patients_files_and_folders_have_pseudonyms_on_a_page(tmp_path: Path) -> None:
    image_set, patches = ImageSet(tmp_path), distinct_patches()
    for number in range(16):
        image_set.add(patches[number], f"Smith-{number // 4}", CLASSES[number % 2])
    image_set.add(patches[3], "Jones", "no")
    audit, key = audit_shards(image_set.shard(), "label", 0), PseudonymKey(bytes(32))
    own, page = write_page(audit, None), write_page(audit, key)
    assert "Smith-0" in own
    assert "003.png" in own
    assert not re.search(r"Smith|Jones|\b\d{3}\.png|" + re.escape(str(tmp_path)), page)
    assert str(tmp_path) not in own
    for name in ("Smith-0", "Jones"):
        assert key.pseudonym(PATIENT, name, DISPLAYED_DIGITS) in page
    assert own.count("data:image") == page.count("data:image")
