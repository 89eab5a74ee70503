"""Fixtures of the audit's tests."""

from pathlib import Path

import pytest

from support.audit_sets import Images, ImageSet, clean_image_set, distinct_patches


@pytest.fixture(scope="session")
def patches() -> Images:
    """64 patches without duplicates; the clean image set has the first 48 of them."""
    return distinct_patches()


@pytest.fixture
def image_set(tmp_path: Path) -> ImageSet:
    """48 patches of 6 patients without any problem."""
    return clean_image_set(tmp_path)
