"""The command that a launch on a cluster runs on the head."""

from pathlib import Path

import pytest

from raysearch.cli.launch_study import LaunchOptions
from raysearch.cli.remote_launch import _head_command
from raysearch.data.file_access import SHARED_GROUP

OPTIONS = LaunchOptions(
    space=Path("idc.yaml"),
    data="s3://bucket/idc",
    trials=None,
    seed=1,
    name=None,
    resume=False,
    dry_run=False,
    studies="studies",
    as_json=False,
)


def test_the_head_shares_the_files_with_the_same_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHARED_GROUP, raising=False)
    command = ["launch", "idc.yaml", "--events", "--name", "idc"]
    values = ["--data", "s3://bucket/idc", "--seed", "1"]
    assert _head_command(OPTIONS, None, "idc") == [*command, *values]
    monkeypatch.setenv(SHARED_GROUP, "pathology")
    assert _head_command(OPTIONS, None, "idc") == [*command, *values, "--shared", "pathology"]
