"""What a user's mistakes look like: one line, exit code 2, nothing half-written."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import s3fs
from PIL import Image

from raysearch.cli import COMMANDS
from raysearch.cli import run as run_command
from raysearch.cli.progress_bar import file_progress

SPACE = """
epochs: 2
trials: 2
space: {folds: 2, width: 4, convolutions: 1, learning_rate: {loguniform: [1e-3, 1e-2]}}
"""


@pytest.fixture
def space(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SPACE)
    return "small.yaml"


class Here:
    """Runs commands in this very process, in a folder of their own."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture

    def __call__(self, *words: str, code: int = 0) -> SimpleNamespace:
        self._capture.readouterr()
        ended = run_command(list(words))
        out, err = self._capture.readouterr()
        assert ended == code, out + err
        return SimpleNamespace(stdout=out, stderr=err)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capsys)


def rejection(run: Here, *words: str) -> str:
    before = sorted(run.folder.rglob("*"))
    done = run(*words, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("raysearch: ")
    assert done.stderr.count("\n") == 1
    assert sorted(run.folder.rglob("*")) == before
    return str(done.stderr)


def test_mistakes_in_launch_are_told_in_one_line(run: Here, space: str, shards: Path) -> None:
    data = ("--data", str(shards))
    told = {
        "no such file": ("launch", "none.yaml"),
        "no data: the space names none; give --data DIR": ("launch", space),
        "no such folder": ("launch", space, "--data", "nowhere"),
        "--trials 0: give 1 or more": ("launch", space, *data, "--trials", "0"),
        "--seed -1: not a seed": ("launch", space, *data, "--seed", "-1"),
        "not a name": ("launch", space, *data, "--name", "../up"),
        "no study 'small'": ("launch", space, *data, "--resume"),
        "--trials many: give 1 or more": ("launch", space, *data, "--trials", "many"),
        "No such option": ("launch", space, "--trails", "3"),
        "PATIENTS:PATCHES:SEED": ("launch", space, "--data", "synthetic:x"),
    }
    for said, words in told.items():
        assert said in rejection(run, *words), words


def test_a_study_that_was_cut_off_is_told_in_one_line(run: Here, space: str, shards: Path) -> None:
    folder = run.folder / "studies" / "small"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text('{"name": "sma')
    assert "plan.json: damaged" in rejection(run, "results", "small")
    words = ("launch", space, "--data", str(shards), "--name", "small", "--resume")
    assert "plan.json: damaged" in rejection(run, *words)


def test_addresses_that_cannot_be_used_are_told_in_one_line(
    run: Here, space: str, shards: Path
) -> None:
    assert "foo://x: not a valid address" in rejection(
        run, "results", "--studies", "foo://x"
    )
    (run.folder / "file").write_text("")
    words = ("launch", space, "--data", str(shards), "--studies", "file/studies")
    assert "choose a place that can be read and written" in rejection(run, *words)


def test_more_folds_than_patients_are_rejected(run: Here, shards: Path) -> None:
    (run.folder / "wide.yaml").write_text(SPACE.replace("folds: 2", "folds: 13"))
    said = rejection(run, "launch", "wide.yaml", "--data", str(shards))
    assert "12 patients for 13 folds" in said
    assert "use 12 folds or fewer" in said


def test_mistakes_in_the_other_commands_are_told_in_one_line(run: Here) -> None:
    assert "'zip' is unknown; one of synthetic, csv, pcam" in rejection(
        run, "shard", ".", "out", "--format", "zip"
    )
    assert "is not a size" in rejection(
        run, "shard", ".", "out", "--format", "idc", "--size", "big"
    )
    assert "no study in" in rejection(run, "results")
    assert "no study 'x'" in rejection(run, "results", "x")


def test_a_dry_run_prints_the_plan_and_starts_nothing(run: Here, space: str, shards: Path) -> None:
    out = run("launch", space, "--data", str(shards), "--dry-run").stdout
    for text in ("240 of 50x50x3", "auroc, max", "2 folds", "fold-epochs", "learning_rate"):
        assert text in out, text
    assert not (run.folder / "studies").exists()
    plan = json.loads(run("launch", space, "--data", str(shards), "--dry-run", "--json").stdout)
    assert plan["space"]["trials"] == 2
    assert plan["splits"][0]["rungs"] == [1, 2]
    assert sum(plan["splits"][0]["patients"]) == 12
    assert plan["most"] == 14
    assert plan["fresh"] == 4
    assert "again: 4 fold-epochs, not of the budget" in out


def test_a_warning_of_the_shards_stands_in_the_plan(run: Here, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for number in range(8):
        path = tmp_path / "tissue" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    told = run("shard", "tissue", "shards", "--format", "folder").stdout
    assert "no patient is known" in told
    (tmp_path / "small.yaml").write_text(SPACE)
    assert (
        "no patient is known" in run("launch", "small.yaml", "--data", "shards", "--dry-run").stdout
    )


def test_sharding_prints_what_it_found_also_as_json(run: Here) -> None:
    assert "60: " in run("shard", "6:60:1", "one", "--format", "synthetic").stdout
    found = json.loads(run("shard", "6:60:1", "two", "--format", "synthetic", "--json").stdout)
    assert (found["rows"], found["rejected"], found["files"]) == (60, 0, 60)


@pytest.mark.parametrize("command", [one.__name__ for one in COMMANDS])
def test_each_command_has_help_with_an_example(run: Here, command: str) -> None:
    assert f"Example: raysearch {command}" in run(command, "--help").stdout.replace("`", "")


def test_names_that_look_like_markup_are_printed_as_they_are(run: Here) -> None:
    images = run.folder / "[" / "b] [red]"  # as a text: [/b] [red]
    images.mkdir(parents=True)
    lines = ["path,label,patient"]
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 255, (8, 8, 3))
        Image.fromarray(noise.astype(np.uint8)).save(images / f"{number}.png")
        lines.append(f"{number}.png,{'[/x]' if number % 2 else '[red]'},{number}")
    (images / "list.csv").write_text("\n".join(lines) + "\n")
    told = run("shard", "[/b] [red]/list.csv", "[/b] out").stdout
    assert "Sharded [/b] [red]/list.csv" in told
    assert "2 [/x], 2 [red]" in told
    told = run("split", "[/b] out", "--folds", "2").stdout
    assert "Split manifest [/b] out/splits/label.json" in told


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("shard", "4:24:1", "s3://bucket/out"), "written to a local folder"),
        (("shard", "4:24:1", "out", "--size", ""), "not a size"),
        (("split", "out", "--folds", ""), "--folds: none; give such as 3,5,10"),
        (("split", "out", "--name", ""), "not a name"),
    ],
)
def test_data_commands_reject_what_they_cannot_do(
    run: Here, words: tuple[str, ...], error: str
) -> None:
    assert error in rejection(run, *words)


@pytest.mark.parametrize("words", [("launch", "{space}", "--name", "x"), ("results",)])
def test_a_storage_that_cannot_be_used_is_told_in_one_line(
    run: Here, space: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # nobody answers there
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    told = rejection(run, *(one.format(space=space) for one in words), "--studies", "s3://b/all")
    s3fs.S3FileSystem.clear_instance_cache()
    assert told.startswith("raysearch: s3://b/all")
    assert "cannot be used (Could not connect" in told
    assert "check the credentials" in told


def test_a_bar_shows_a_users_words_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to Rich, a terminal
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with file_progress("Training {x} [/y] again") as update:
        update(1, 2)
    assert "Training {x} [/y] again" in capsys.readouterr().err
