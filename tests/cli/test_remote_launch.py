"""The command that a launch on a cluster runs on the head."""

from dataclasses import replace
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


def test_the_head_has_the_default_if_no_space_is_sent() -> None:
    options = replace(OPTIONS, space=None, overrides=("epochs=2",))
    command = ["launch", "epochs=2", "--events", "--name", "default"]
    assert _head_command(options, None, "default")[: len(command)] == command
