"""`--json` prints one JSON object, and nothing else, on standard output: in every command."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.cli import run
from raysearch.cli.command_table import COMMANDS, load_command
from raysearch.cli.json_output import print_json
from raysearch.data.shards.sharding import write_shards
from raysearch.models.timm_models import timm_library
from raysearch.search.study.study import Study
from support.harvest_services import build_pdf
from support.result_studies import new_study, next_searched, train_next
from support.scored_trials import TREE, record_noisy_trial
from support.slide_files import one_label_shards

TOP = Path(__file__).parents[2]
# The commands without `--json`, and why.
EXCEPTIONS = {
    "attach": "shows a live table until Ctrl-C",
    "stop": "ends a process; `status --json` says where the study stands",
    "ray": "prints what Ray prints",
    "ui": "starts a server",
}
# The commands that take long, and the line of a test that parses their whole standard output.
SLOW_COMMANDS = {
    "doctor": ("tests/search/engine/test_cluster_checks.py", 'run("doctor", "--json").stdout'),
    "test": ("tests/cli/test_test.py", 'json_output(["test", "first"], capsys)'),
}
SPACE = """
epochs: 1
trials: 1
space: {folds: 2, width: 4, convolutions: 1, learning_rate: {loguniform: [1e-3, 1e-2]}}
"""


def command_paths() -> Iterator[str]:
    """Yield the name of each command, and of each command of a group."""
    for name in COMMANDS:
        yield name
        yield from (f"{name} {member}" for member in getattr(load_command(name), "commands", ()))


def find_command(path: str) -> Any:
    name, _space, member = path.partition(" ")
    command: Any = load_command(name)
    return command.commands[member] if member else command


def new_shards(folder: Path) -> str:
    """Shards in the working directory, without a split."""
    write_shards("8:80:5", folder / "new", "synthetic", workers=1)
    return "new"


def paired_study(shards: Path, folder: Path) -> str:
    """A study with two trials that differ in their width alone."""
    space = {"folds": 2, "width": {"choice": [4, 8]}, "tta": "none"}
    tree = {**TREE, "trials": 2, "sampler": "grid", "stopping": {"rule": "none"}, "space": space}
    study = new_study(shards, folder / "studies" / "paired", tree)
    for noise in (0.5, 1.0):
        record_noisy_trial(study, next_searched(study), shards, noise)
    return "paired"


def exported(folder: Path) -> str:
    assert run(["studies", "export", "first", "exported.zip"]) == 0
    return str(folder / "exported.zip")


def papers(folder: Path) -> str:
    (folder / "papers").mkdir()
    (folder / "papers" / "paper.pdf").write_bytes(build_pdf([]))
    return "papers"


def encoder_folder(folder: Path) -> str:
    """A snapshot of a small encoder."""
    snapshot = folder / "encoder"
    snapshot.mkdir()
    config = {"architecture": "test_vit", "pretrained_cfg": {"input_size": [3, 32, 32]}}
    (snapshot / "config.json").write_text(json.dumps(config))
    net = timm_library().create_model("test_vit", num_classes=0, img_size=32)
    torch.save(net.state_dict(), snapshot / "pytorch_model.bin")
    return str(snapshot)


def space_file(folder: Path) -> str:
    (folder / "small.yaml").write_text(SPACE)
    return "small.yaml"


# The arguments of each command. `folder` is the working directory, and the study `first` in the
# folder of all studies has a champion.
Arguments = Callable[[Path, Path], list[str]]
ARGUMENTS: dict[str, Arguments] = {
    "shard": lambda _shards, _folder: ["6:60:1", "out", "--format", "synthetic"],
    "features": lambda _shards, folder: [
        *(str(one_label_shards(folder / "tiles")), "out", "--input-size", "32"),
        *("--architecture", encoder_folder(folder)),
    ],
    "split": lambda _shards, folder: [new_shards(folder)],
    "inspect": lambda _shards, folder: [new_shards(folder)],
    "harvest": lambda _shards, folder: [papers(folder), "out"],
    "launch": lambda shards, folder: [space_file(folder), "--data", str(shards), "--dry-run"],
    "status": lambda _shards, _folder: [],
    "studies": lambda _shards, _folder: [],
    "studies export": lambda _shards, _folder: ["first", "first.zip"],
    "studies import": lambda _shards, folder: [exported(folder), "--studies", "others"],
    "studies delete": lambda shards, folder: [
        *(paired_study(shards, folder), "--yes", "--studies", "studies")
    ],
    "results": lambda _shards, _folder: ["first"],
    "select": lambda _shards, _folder: ["first", "--dry-run"],
    "compare": lambda shards, folder: [
        *(paired_study(shards, folder), "--hyperparameter", "width", "--studies", "studies")
    ],
    "report": lambda _shards, _folder: ["first"],
    "replay": lambda _shards, _folder: ["t0000", "--study", "first", "--folds", "1"],
    "predict": lambda shards, _folder: ["first", str(shards), "scores"],
    "export": lambda _shards, _folder: ["first", "first.onnx"],
    "evaluate": lambda _shards, folder: ["first", new_shards(folder), "--other-patients"],
    "slurm": lambda shards, folder: [space_file(folder), "--data", str(shards)],
    "weights": lambda _shards, _folder: [],
    "weights list": lambda _shards, _folder: [],
    "weights fetch": lambda _shards, folder: [encoder_folder(folder)],
    "weights check": lambda _shards, folder: [encoder_folder(folder)],
    "weights export": lambda _shards, _folder: ["first", "first.pt"],
}


def printed_object(text: str) -> dict[str, Any]:
    """Return the object that is the whole of standard output."""
    assert text.count("\n") == 1
    content = json.loads(text)
    assert isinstance(content, dict)
    return content


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", [*command_paths()])
def test_each_command_prints_one_json_object_or_is_an_exception(
    studies: str,
    shards: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    path: str,
) -> None:
    options = {name for parameter in find_command(path).params for name in parameter.opts}
    assert ("--json" in options) == (path not in EXCEPTIONS)
    if path in SLOW_COMMANDS:
        file, line = SLOW_COMMANDS[path]
        assert line in (TOP / file).read_text()
    elif path not in EXCEPTIONS:
        assert studies
        arguments = ARGUMENTS[path](shards, tmp_path)
        capfd.readouterr()
        assert run([*path.split(), *arguments, "--json"]) in (0, 1)
        printed_object(capfd.readouterr().out)


def test_the_documentation_names_the_commands_without_json() -> None:
    page = (TOP / "docs" / "reference" / "command-line.md").read_text()
    (sentence,) = [line for line in page.split("\n\n") if "have no `--json`" in line]
    for name in EXCEPTIONS:
        assert f"`{name}`" in sentence


def test_undefined_numbers_and_arrays_have_values_of_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"a": float("nan"), "b": np.float64("inf"), "c": np.arange(2), 3: Path("x")})
    assert printed_object(capsys.readouterr().out) == {"a": None, "b": None, "c": [0, 1], "3": "x"}
    with pytest.raises(TypeError, match="one JSON object"):
        print_json([1])


def test_the_lists_of_all_commands_have_a_key(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    study: Study = new_study(shards, tmp_path / "studies" / "first")
    train_next(study, 2)
    for words in (["studies"], ["status"]):
        assert run([*words, "--json"]) == 0
        (row,) = printed_object(capsys.readouterr().out)["studies"]
        assert (row["name"], row["state"]) == ("first", "interrupted")
    assert run(["results", "--json"]) == 0
    record = printed_object(capsys.readouterr().out)
    assert (record["study"], record["metric"], record["mode"]) == ("first", "auroc", "max")
    assert {row["trial"] for row in record["leaderboard"]} >= {"t0000", "t0001"}


def test_the_table_of_arguments_has_every_command() -> None:
    assert {*ARGUMENTS, *EXCEPTIONS, *SLOW_COMMANDS} == {*command_paths()}
