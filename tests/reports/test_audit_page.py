"""The page of an audit is self-contained, and escapes the names in a set."""

import re
from pathlib import Path

from raysearch.data.audit.checks import run_checks
from raysearch.data.audit.shard_audit import audit_shards
from raysearch.reports.audit_page import write_audit_page
from support.audit_sets import CLASSES, ImageSet, clean_image_set, distinct_patches


def page_of(image_set: ImageSet) -> str:
    """Return the page of the audit of a set."""
    audit = audit_shards(image_set.shard(), "label", 0)
    path = image_set.folder / "inspect.html"
    write_audit_page(audit, run_checks(audit), path)
    return path.read_text()


def test_a_page_shows_errors_first_and_embeds_its_pictures(tmp_path: Path) -> None:
    image_set = clean_image_set(tmp_path)
    image_set.add(distinct_patches()[3], "p5", "no")
    page = page_of(image_set)
    assert page.index("with different labels") < page.index("There is no split manifest")
    assert page.count("data:image/png;base64,") == 40  # 2 * 18 samples, 2 * 2 copies
    assert not re.search(r"""(src|href)=["'](?!data:|\#)""", page)
    assert "://" not in page


def test_names_that_look_like_markup_are_escaped(tmp_path: Path) -> None:
    image_set, patches = ImageSet(tmp_path), distinct_patches()
    for number in range(16):
        image_set.add(patches[number], f"<b>[red]{number // 4}", CLASSES[number % 2])
    assert "<b>[red]" not in page_of(image_set)
