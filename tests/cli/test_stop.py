"""`raysearch stop --trial` and `--exclude` on a cluster, whose head answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.search.engine import cluster_jobs


class Head:
    """The head of a cluster that prints `lines` for each command.

    Attributes:
        commands: The commands that it ran.
    """

    def __init__(self, lines: list[str], has_succeeded: bool) -> None:
        self._answer = lines, has_succeeded
        self.commands: list[Sequence[str]] = []

    def run_to_end(self, command: Sequence[str]) -> tuple[list[str], bool]:
        self.commands.append(command)
        return self._answer


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], bool], Head]:
    """Let each cluster have a head that answers."""

    def answer(lines: list[str], has_succeeded: bool) -> Head:
        head = Head(lines, has_succeeded)

        @contextmanager
        def tunnel(_cluster: Path, _on_status: object) -> Iterator[Head]:
            yield head

        monkeypatch.setattr(cluster_jobs, "connected_jobs", tunnel)
        return head

    return answer


def test_the_head_reads_the_study_in_the_folder_of_studies(
    answering: Callable[[list[str], bool], Head], capsys: pytest.CaptureFixture[str]
) -> None:
    # The name of the study is that of the program, with which each error starts.
    head = answering(["other", "raysearch: t0001 is stopped"], True)
    words = ["stop", "raysearch", "--trial", "t0001", "--on", "c.yaml"]
    assert run([*words, "--studies", "s3://bucket/studies"]) == 0
    assert "raysearch: t0001 is stopped" in capsys.readouterr().out
    expected = ["stop", "raysearch", "--trial", "t0001", "--studies", "s3://bucket/studies"]
    assert head.commands == [expected]
    assert run(["stop", "raysearch", "--on", "c.yaml", "--studies", "s3://b/s"]) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["raysearch: no trial t0001", "raysearch: no trial t2"], "no trial t0001\n"),
        (["Killed", ""], "the head could not stop trials of raysearch (Killed)"),
    ],
)
def test_an_error_of_the_head_is_an_error_here(
    answering: Callable[[list[str], bool], Head],
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    message: str,
) -> None:
    answering(lines, False)
    assert run(["stop", "raysearch", "--trial", "t0001", "--on", "c.yaml"]) == 2
    assert f"raysearch: {message}" in capsys.readouterr().err
