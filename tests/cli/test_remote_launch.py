"""The command that a launch on a cluster runs on the head."""

from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.cli.launch_study import LaunchOptions
from raysearch.cli.remote_launch import _check_options, _head_command
from raysearch.data.file_access import SHARED_GROUP
from raysearch.errors import DataError, StudyError

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


def test_the_memory_of_the_head_is_no_path_of_this_machine() -> None:
    for memory in ("none", "studies", "s3://bucket/studies", "/shared/studies"):
        options = replace(OPTIONS, memory=memory)
        _check_options(options, None)
        assert _head_command(options, None, "idc")[-2:] == ["--memory", memory]
    with pytest.raises(StudyError, match=r"--memory old/studies: a relative path of this machine"):
        _check_options(replace(OPTIONS, memory="old/studies"), None)
    with pytest.raises(DataError, match="contains a password"):
        _check_options(replace(OPTIONS, memory="s3://user:password@bucket/studies"), None)
