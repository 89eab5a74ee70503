"""The test-set access log returns what was recorded, and a damaged log is not an empty one."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.data.splits import access_log
from raysearch.data.splits.access_log import record_test_set_access
from raysearch.errors import DataError


@dataclass(frozen=True)
class DecisionRule:
    temperature: float
    threshold: float | None
    repeats: int


def make_access(rule: DecisionRule) -> access_log.TestSetAccess:
    return access_log.TestSetAccess.now("first", "identity", "trial-1", rule)


def test_accesses_are_returned_as_recorded_the_oldest_first(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    now = make_access(DecisionRule(1.5, None, 1))
    earlier = replace(now, time="2020-01-01T00:00:00+00:00")
    for access in (now, earlier):
        record_test_set_access(access, folder, "label")
    assert access_log.read_test_set_accesses(folder, "label") == [earlier, now]
    assert access_log.read_test_set_accesses(folder, "other") == []


def test_a_champion_is_the_same_with_more_repeats_and_not_with_another_threshold() -> None:
    access = make_access(DecisionRule(1.5, 0.5, 1))
    assert access.same_champion(make_access(DecisionRule(1.5, 0.5, 2)))
    assert not access.same_champion(replace(access, champion="trial-2"))
    changed = make_access(DecisionRule(1.5, 0.4, 1))
    assert not access.same_champion(changed)
    assert access.changed_fields(changed) == ["threshold"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"time": "2020"}'])
def test_a_damaged_log_is_rejected(tmp_path: Path, content: bytes) -> None:
    Folder(tmp_path).write("splits/test_access/label/2020.json", content)
    with pytest.raises(DataError, match=r"2020\.json: damaged"):
        access_log.read_test_set_accesses(Folder(tmp_path), "label")
