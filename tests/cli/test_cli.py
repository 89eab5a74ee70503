"""The command line: its commands, and errors of one line each with exit code 2."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import s3fs
from PIL import Image

from raysearch.cli import run as run_command
from raysearch.cli.command_table import COMMANDS, load_command
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


class CommandRunner:
    """Runs commands in this process, in an empty working directory."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture

    def __call__(self, *arguments: str, code: int = 0) -> SimpleNamespace:
        self._capture.readouterr()
        exit_code = run_command(list(arguments))
        out, err = self._capture.readouterr()
        assert exit_code == code, out + err
        return SimpleNamespace(stdout=out, stderr=err)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandRunner:
    monkeypatch.chdir(tmp_path)
    return CommandRunner(tmp_path, capsys)


def rejection(run: CommandRunner, *arguments: str, num_errors: int = 1) -> str:
    """Return the errors that a command prints, one a line, without writing a file."""
    files_before = sorted(run.folder.rglob("*"))
    process = run(*arguments, code=2)
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    assert len(lines) == num_errors
    assert all(line.startswith("raysearch: ") for line in lines)
    assert sorted(run.folder.rglob("*")) == files_before
    return str(process.stderr)


def test_errors_in_launch_are_one_line(run: CommandRunner, space: str, shards: Path) -> None:
    data = ("--data", str(shards))
    arguments_by_error = {
        "no such file": ("launch", "none.yaml"),
        "no data: the space names none; give --data DIR": ("launch", space),
        "no such folder": ("launch", space, "--data", "nowhere"),
        "--trials 0: give 1 or more": ("launch", space, *data, "--trials", "0"),
        "--seed -1: not a seed": ("launch", space, *data, "--seed", "-1"),
        "invalid name": ("launch", space, *data, "--name", "../up"),
        "no study 'small'": ("launch", space, *data, "--resume"),
        "--trials many: give 1 or more": ("launch", space, *data, "--trials", "many"),
        "No such option": ("launch", space, "--trails", "3"),
        "PATIENTS:PATCHES:SEED": ("launch", space, "--data", "synthetic:x"),
    }
    for error, arguments in arguments_by_error.items():
        assert error in rejection(run, *arguments), arguments


def test_each_error_of_a_space_is_a_line(run: CommandRunner) -> None:
    text = SPACE.replace("learning_rate", "lerning_rate").replace("epochs: 2", "epoch: 2")
    (run.folder / "typos.yaml").write_text(text)
    errors = rejection(run, "launch", "typos.yaml", num_errors=3)
    assert "line 2: epoch: unknown key; did you mean `epochs`?" in errors
    assert "did you mean `learning_rate`?" in errors


def test_a_damaged_study_is_one_line(run: CommandRunner, space: str, shards: Path) -> None:
    folder = run.folder / "studies" / "small"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text('{"name": "sma')
    assert "plan.json: damaged" in rejection(run, "results", "small")
    words = ("launch", space, "--data", str(shards), "--name", "small", "--resume")
    assert "plan.json: damaged" in rejection(run, *words)


def test_an_invalid_address_is_one_line(run: CommandRunner, space: str, shards: Path) -> None:
    assert "foo://x: file system foo is not allowed, only file, s3" in rejection(
        run, "results", "--studies", "foo://x"
    )
    (run.folder / "file").write_text("")
    words = ("launch", space, "--data", str(shards), "--studies", "file/studies")
    assert "choose a path that can be read and written" in rejection(run, *words)


def test_more_folds_than_patients_are_rejected(run: CommandRunner, shards: Path) -> None:
    (run.folder / "wide.yaml").write_text(SPACE.replace("folds: 2", "folds: 13"))
    error = rejection(run, "launch", "wide.yaml", "--data", str(shards))
    assert "12 patients for 13 folds" in error
    assert "use 12 folds or fewer" in error


def test_errors_in_other_commands_are_one_line(run: CommandRunner) -> None:
    assert "'zip' is unknown; one of synthetic, csv, pcam" in rejection(
        run, "shard", ".", "out", "--format", "zip"
    )
    assert "is not a size" in rejection(
        run, "shard", ".", "out", "--format", "idc", "--size", "big"
    )
    assert "no study in" in rejection(run, "results")
    assert "no study 'x'" in rejection(run, "results", "x")


def test_a_dry_run_prints_the_plan_and_starts_nothing(
    run: CommandRunner, space: str, shards: Path
) -> None:
    out = run("launch", space, "--data", str(shards), "--dry-run").stdout
    for text in ("240 of 50x50x3", "auroc, max", "2 folds", "fold-epochs", "learning_rate"):
        assert text in out, text
    assert not (run.folder / "studies").exists()
    plan = json.loads(run("launch", space, "--data", str(shards), "--dry-run", "--json").stdout)
    assert plan["space"]["trials"] == 2
    assert plan["splits"][0]["rungs"] == [1, 2]
    assert sum(plan["splits"][0]["patients"]) == 12
    assert plan["max_fold_epochs"] == 14
    assert plan["repeat_fold_epochs"] == 4
    assert "4 fold-epochs beyond the budget" in out


def test_the_plan_shows_a_warning_of_the_shards(run: CommandRunner, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for number in range(8):
        path = tmp_path / "tissue" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    out = run("shard", "tissue", "shards", "--format", "folder").stdout
    assert "no patient is known" in out
    (tmp_path / "small.yaml").write_text(SPACE)
    assert (
        "no patient is known" in run("launch", "small.yaml", "--data", "shards", "--dry-run").stdout
    )


def test_sharding_prints_the_manifest_also_as_json(run: CommandRunner) -> None:
    assert "60: " in run("shard", "6:60:1", "first", "--format", "synthetic").stdout
    out = run("shard", "6:60:1", "second", "--format", "synthetic", "--json").stdout
    manifest = json.loads(out)
    assert (manifest["rows"], manifest["rejected"], manifest["files"]) == (60, 0, 60)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(run: CommandRunner, command: str) -> None:
    assert f"Example: raysearch {command}" in run(command, "--help").stdout.replace("`", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_of_commands_has_the_first_sentence_of_their_help(command: str) -> None:
    text = load_command(command).help or ""
    assert " ".join(text.split("\n\n")[0].split()) == COMMANDS[command].help


def test_the_help_of_the_application_lists_all_commands_in_their_panels(
    run: CommandRunner,
) -> None:
    lines = run("--help").stdout.splitlines()
    panels: dict[str, list[str]] = {}
    for line in lines:
        if title := re.match("╭─ (\\w+) ─", line):
            panels[title.group(1)] = []
        elif name := re.match("│  (\\w+) ", line):
            panels[list(panels)[-1]].append(name.group(1))
    assert panels == {
        "Data": ["shard", "features", "split", "inspect", "harvest"],
        "Search": ["launch", "status", "attach", "stop", "studies"],
        "Results": ["results", "select", "test", "compare", "report", "replay"],
        "Models": ["predict", "evaluate", "export", "weights"],
        "Machines": ["slurm", "doctor", "ray", "ui"],
    }


def test_a_command_without_its_required_arguments_prints_its_help(run: CommandRunner) -> None:
    assert "Usage: raysearch shard" in run("shard", code=2).stdout
    assert "No such command" in run("lunch", code=2).stderr


def test_names_that_look_like_markup_are_printed_unchanged(run: CommandRunner) -> None:
    images = run.folder / "[" / "b] [red]"  # as a text: [/b] [red]
    images.mkdir(parents=True)
    lines = ["path,label,patient"]
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 255, (8, 8, 3))
        Image.fromarray(noise.astype(np.uint8)).save(images / f"{number}.png")
        lines.append(f"{number}.png,{'[/x]' if number % 2 else '[red]'},{number}")
    (images / "list.csv").write_text("\n".join(lines) + "\n")
    out = run("shard", "[/b] [red]/list.csv", "[/b] out").stdout
    assert "Sharded [/b] [red]/list.csv" in out
    assert "2 [/x], 2 [red]" in out
    out = run("split", "[/b] out", "--folds", "2").stdout
    assert "Split manifest [/b] out/splits/label.json" in out


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
    run: CommandRunner, words: tuple[str, ...], error: str
) -> None:
    assert error in rejection(run, *words)


@pytest.mark.parametrize("words", [("launch", "{space}", "--name", "x"), ("results",)])
def test_an_unreachable_storage_is_one_line(
    run: CommandRunner, space: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # nobody answers there
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    arguments = [word.format(space=space) for word in words]
    error = rejection(run, *arguments, "--studies", "s3://b/all")
    s3fs.S3FileSystem.clear_instance_cache()
    assert error.startswith("raysearch: s3://b/all")
    assert "cannot be used (Could not connect" in error
    assert "check the credentials" in error


def test_a_progress_bar_prints_its_title_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to Rich, a terminal
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with file_progress("Training {x} [/y] twice", "epochs") as update:
        update(1, 2)
    printed = capsys.readouterr().err
    assert "Training {x} [/y] twice" in printed
    assert "1 of 2 epochs" in printed
