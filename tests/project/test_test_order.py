"""The order in which the tests run."""

from __future__ import annotations

import pytest

from conftest import LONGEST, pytest_collection_modifyitems

pytest_plugins = "pytester"
TESTS = f"""
def test_first(): pass
def test_{LONGEST[-1]}(): pass
def test_last(): pass
"""


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_serial_run_keeps_the_tests_of_a_file_together(
    pytester: pytest.Pytester, is_parallel: bool
) -> None:
    """A fixture of a module is then made once; a parallel run starts with the longest tests."""
    pytester.makepyfile(test_a=TESTS, test_b=TESTS)
    items, record = pytester.inline_genitems("-p", "no:cacheprovider")
    expected = [item.name for item in items]
    assert len(expected) == 6
    config = record.getcalls("pytest_collection_modifyitems")[0].config
    config.option.loadgroup = is_parallel  # as pytest-xdist does
    pytest_collection_modifyitems(config, items)
    long = f"test_{LONGEST[-1]}"
    if is_parallel:
        expected = sorted(expected, key=lambda name: name != long)
    assert [item.name for item in items] == expected
