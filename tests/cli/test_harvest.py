"""`raysearch harvest` reports usage errors in one line, and leaves no files then."""

from pathlib import Path

import pytest

from support.harvest_services import FakeNcbi, HarvestCommand, serve


@pytest.fixture
def harvest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HarvestCommand:
    """The command, in an empty working directory and without a key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCBI_API_KEY", raising=False)
    return HarvestCommand(tmp_path, capsys)


def test_usage_errors_are_one_line(
    harvest: HarvestCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("papers", "void", "mine"):
        (harvest.folder / name).mkdir()
    (harvest.folder / "ids.txt").write_text("11\n")
    (harvest.folder / "words.txt").write_text("11\ntwelve\n")
    (harvest.folder / "none.txt").write_text("# nothing\n")
    (harvest.folder / "mine" / "x").write_text("x")
    (harvest.folder / "papers" / "a.pdf").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    paper = harvest.folder / "papers" / "a.pdf"
    errors = {
        "no such file or folder": ("nowhere", "out"),
        "void: the folder is empty": ("void", "out"),
        "line 2: 'twelve' is not a PubMed id": ("words.txt", "out"),
        "none.txt: no PubMed ids": ("none.txt", "out"),
        "not a text file": (paper, "out"),
        "mine: already exists": ("papers", "mine"),
        "ids.txt: already exists": ("papers", "ids.txt"),
        "is inside the source folder": ("papers", "papers/out"),
        "--size 7: not a valid tile size": ("papers", "out", "--size", 7),
        "none.yaml: no such file": ("papers", "out", "--config", "none.yaml"),
        "give --email, or set RAYSEARCH_EMAIL": ("ids.txt", "out", "--email", ""),
        "'me': not an e-mail address": ("ids.txt", "out", "--email", "me"),
        "'uni.edu': not a URL": ("ids.txt", "out", "--ncbi", "uni.edu"),
        "'http://h:x': not a URL": ("ids.txt", "out", "--ncbi", "http://h:x"),
        "contains a password": ("ids.txt", "out", "--ncbi", "http://me:word@h"),
        "--limit 0: PubMed returns 1 to 9,999": ("x", "out", "--query", "--limit", 0),
        "finds nothing for 'x'": ("x", "out", "--query"),
        "rejects the query (Invalid query)": ("((", "out", "--query"),
    }
    ncbi = FakeNcbi()
    with serve(ncbi):
        monkeypatch.setenv("RAYSEARCH_NCBI", ncbi.url)
        monkeypatch.setenv("RAYSEARCH_EMAIL", "me@uni.edu")
        for message, arguments in errors.items():
            assert message in harvest.one_line_error(*arguments), arguments
