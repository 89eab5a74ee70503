"""Class names of foreign files are cleaned, or rejected with a reason."""

from __future__ import annotations

import pytest

from raysearch.data.class_names import (
    MAX_CLASSES,
    check_class_names,
    clean_class_name,
    listed_names,
)
from raysearch.errors import DataError


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("Tumor", "Tumor"),
        ("  In \t\n situ ", "In situ"),
        ("Ka\u0308se", "K\u00e4se"),
        (" ", ""),
        ("a" * 200, "a" * 200),
    ],
)
def test_names_are_composed_and_have_single_blanks(name: str, cleaned: str) -> None:
    assert clean_class_name(name) == cleaned


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\x00b", r"'a\\x00b' has a control character"),
        ("\x1b[31mTumor", "has a control character"),
        ("a\u202eb", "has a control character"),
        ("\ud800", "is not Unicode"),
        ("a" * 201, "has 201 characters, at most 200"),
        ("a" * 10**6, "has 1,000,000 characters, at most 200"),
    ],
)
def test_names_that_cannot_be_shown_are_rejected_in_a_short_line(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        clean_class_name(name)
    assert len(str(error.value)) < 120
    str(error.value).encode()


def test_too_many_classes_are_rejected() -> None:
    names = [f"class {number}" for number in range(MAX_CLASSES + 1)]
    check_class_names("a.xml", names[:-1], "the annotations")
    with pytest.raises(DataError, match=r"a\.xml: 1,001 classes in the annotations, at most 1,000"):
        check_class_names("a.xml", names, "the annotations")


def test_classes_that_differ_only_in_case_are_rejected() -> None:
    with pytest.raises(DataError, match="'Tumor' and 'tumor' of the annotations differ only in"):
        check_class_names("a.xml", ["Tumor", "Stroma", "tumor"], "the annotations")


def test_a_message_lists_a_few_short_names() -> None:
    assert listed_names([]) == "none"
    assert listed_names(["b", "a"]) == "'b', 'a'"
    assert listed_names("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
    assert listed_names(["x" * 1000]) == f"'{'x' * 60}'"
