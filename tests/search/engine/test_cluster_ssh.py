"""The options of ssh for Ray's connections to a cluster."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.autoscaler._private.command_runner import SSHCommandRunner, SSHOptions

from raysearch.errors import StudyError
from raysearch.search.engine.cluster_ssh import KNOWN_HOSTS, control_folder, ssh_environment


@pytest.fixture(autouse=True)
def _own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name of an account whose folder of control sockets no other process uses."""
    monkeypatch.setenv("LOGNAME", str(tmp_path))
    yield
    if control_folder().exists():
        control_folder().rmdir()


def options_of_ssh(environment: dict[str, str]) -> dict[str, str]:
    """The options that ssh takes for a command as Ray writes it."""
    program = shutil.which("ssh", path=environment["PATH"])
    if program is None:
        pytest.skip("there is no ssh on this machine")
    words = SSHOptions("key", str(control_folder())).to_ssh_options_list()
    output = subprocess.run(
        [program, *words, "-G", "host"], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split(" ", 1) for line in output.splitlines() if " " in line)


def test_the_folder_of_control_sockets_is_rays() -> None:
    runner = SSHCommandRunner("", "", None, {"ssh_user": "me"}, "cluster", None, False)
    assert Path(runner.ssh_control_path).parent == control_folder()


def test_ray_itself_does_not_check_host_keys() -> None:
    with ssh_environment() as environment:
        options = options_of_ssh(environment)
        assert control_folder().stat().st_mode & 0o777 == 0o700
    assert options["stricthostkeychecking"] == "false"
    assert options["userknownhostsfile"] == "/dev/null"


def test_host_keys_are_checked_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_hosts = tmp_path / "host keys"
    known_hosts.touch()
    monkeypatch.setenv(KNOWN_HOSTS, str(known_hosts))
    with ssh_environment() as environment:
        options = options_of_ssh(environment)
    assert options["stricthostkeychecking"] == "true"
    assert str(known_hosts) in options["userknownhostsfile"]
    assert "/dev/null" not in options["userknownhostsfile"]
    assert options["identitiesonly"] == "yes"


def test_a_missing_file_of_host_keys_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KNOWN_HOSTS, "missing")
    with pytest.raises(StudyError, match="--known-hosts missing: no such file"), ssh_environment():
        pass
