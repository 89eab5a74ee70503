"""Each error of a space file is one line, with its line of the file and the nearest name."""

import re
from pathlib import Path
from typing import Any

import pytest

from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError
from support.spaces import rejection

BAD = """objective: {metric: beauty}
epochs: 0
colour: red
space:
  learning_rate: {loguniform: [1e-2, 1e-4]}
  architecture: {choice: [cnn, alexnet]}
  speed: 3
  lerning_rate: 3
  optimizer:
    choice:
      sgd:
        momentum: 3
  batch_size: {uniform: [1, 2]}
"""


def test_all_errors_of_a_file_are_in_one_message_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(BAD)
    with pytest.raises(SpaceError) as rejected:
        read_space(path)
    title, *lines = str(rejected.value).splitlines()
    assert title.endswith("space.yaml: 9 errors")
    expected = [
        "line 1: objective.metric: 'beauty' is unknown",
        "line 2: epochs: 0 is below the minimum 1",
        "line 3: colour: unknown key",
        "line 5: space.learning_rate: `loguniform: [0.01, 0.0001]`: low is not below high",
        "line 6: space.architecture: 'alexnet' is unknown",
        "line 7: space.speed: unknown hyperparameter `speed` (nearest of 80: ",
        "line 8: space.lerning_rate: unknown hyperparameter `lerning_rate`; did you mean"
        " `learning_rate`?",
        "line 12: space.optimizer.choice.sgd.momentum: 3 is outside 0 to 0.9999",
        "line 13: space.batch_size: 1 is outside 2 to 65536",
    ]
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(f"  {start}")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sampler": "bohb"}, "sampler: 'bohb' is unknown (nearest of "),
        ({"optimizer": "sgd"}, "optimizer: a hyperparameter; move it into the section `space`"),
        (
            {"optimizr": "sgd"},
            "optimizr: unknown key; did you mean `optimizer`? That is a hyperparameter of the"
            " section `space`",
        ),
        ({"space": {"optimizer": ["adam", "sgd"]}}, "write `optimizer: {choice: [adam, sgd]}`"),
        (
            {"space": {"learning_rate": [1e-4, 1e-2]}},
            "write `learning_rate: {choice: [0.0001, 0.01]}` or"
            " `learning_rate: {loguniform: [0.0001, 0.01]}`",
        ),
        ({"sampler": {"n_startup_trials": 3}}, "sampler: `name` is missing"),
        ({"sampler": 3}, "sampler: 3 is not a mapping or the name of a sampler"),
        (
            {"sampler": {"name": "gp", "group": True}},
            "sampler.group: unknown key (known: n_startup_trials)",
        ),
        ({"sampler": {"name": "forest", "steps": 3}}, "unknown key (it has no options)"),
        (
            {"sampler": {"name": "grid", "steps": 1}},
            "sampler.steps: 1 is below the minimum 2",
        ),
        (
            {"sampler": {"name": "qmc", "qmc_type": "grey"}},
            "sampler.qmc_type: 'grey' is unknown (known: sobol, halton)",
        ),
        ({"sampler": {"name": "tpe", "group": "yes"}}, "'yes' is not true or false"),
        (
            {"validation": "holdout"},
            "five repeated hold-outs of 20 % are `holdout-5x0.2`",
        ),
        ({"stopping": {"rule": "median"}}, "stopping.rule: 'median' is unknown (known: forest"),
        ({"stopping": {"paired_alpha": 5}}, "stopping.paired_alpha: 5 is above the maximum 1"),
        ({"stopping": {"patience": -1}}, "stopping.patience: -1 is below the minimum 0"),
        ({"stopping": {"grace": 1}}, "unknown key; did you mean `grace_period`?"),
        ({"stopping": "asha"}, "stopping: 'asha' is not a mapping with keys rule"),
        ({"budget": {"days": 2}}, "budget.days: unknown key (nearest of 6: dollars, "),
        ({"budget": {"hours": 0}}, "budget.hours: 0 is below the minimum 0.001"),
        ({"budget": {"hours": float("nan")}}, "budget.hours: nan is not a number"),
        ({"budget": {"hours": "two"}}, "budget.hours: 'two' is not a number"),
        ({"resources": {"cpus": 2.5}}, "resources.cpus: 2.5 is not a number of CPU cores"),
        ({"resources": {"gpus": 2}}, "resources.gpus: 2 is above the maximum 1"),
        ({"resources": {"prices": {"g5": "dear"}}}, "resources.prices.g5: 'dear' is not a number"),
        ({"resources": {"prices": 3}}, "resources.prices: 3 is not a mapping of node types"),
        ({"resources": {"prices": {3: 3}}}, "resources.prices.3: 3 is not text"),
        ({"limits": {"weight": 3}}, "limits.weight: unknown key"),
        ({"limits": {"parameters": 0}}, "limits.parameters: 0 is below the minimum 1"),
        ({"warm_start": ["../up"]}, "warm_start.1: '../up' is not a name"),
        ({"warm_start": ["a", "a"]}, "warm_start: duplicate entry 'a'"),
        ({"constraints": 3}, "constraints: 3 is not a text or a list of texts"),
        ({"points_to_evaluate": {"width": 8}}, "points_to_evaluate: {'width': 8} is not a list"),
        ({"points_to_evaluate": [{}]}, "points_to_evaluate.1: it is empty"),
        ({"objective": {"metric": ["auroc"]}}, "objective.metric: ['auroc'] is not text"),
        ({"objective": {"metric": "aurc"}}, "'aurc' is unknown; did you mean `auroc`?"),
        ({"validation": "holdout"}, "validation: 'holdout' is unknown"),
        ({"task": "../up"}, "task: '../up' is not a name"),
        ({"repeats": 21}, "repeats: 21 is above the maximum 20"),
        ({"champion": "best"}, "champion: 'best' is unknown (known: refit, ensemble)"),
        ({"data": "s3://key:secret@host/x"}, "data: s3://***@host/x: contains a password"),
        ({"auxiliary": ["s3://key:secret@host/x"]}, "contains a password"),
    ],
)
def test_a_bad_section_is_rejected_in_one_line(sections: dict[str, Any], message: str) -> None:
    rejected = rejection(**sections)
    assert message in rejected
    assert "\n" not in rejected


def test_all_errors_of_all_sections_are_in_one_message() -> None:
    message = rejection(
        sampler="bohb",
        budget={"days": 2},
        points_to_evaluate=[{"speed": 1}],
        constraints=["speed < 3"],
        limits={"weight": 1},
        stopping={"rule": "x"},
    )
    assert message.startswith("x: 6 errors\n")
    assert len(message.splitlines()) == 7


@pytest.mark.parametrize(
    "sections",
    [
        {"space": {"lerning_rate": 3}},
        {"space": {"architecture": "alexnet"}},
        {"epoch": 3},
        {"objective": {"metric": "beauty"}},
        {"validation": "holdout"},
    ],
)
def test_a_wrong_name_lists_at_most_five_candidates(sections: dict[str, Any]) -> None:
    (listed,) = re.findall(r"\((?:known|nearest of \d+): ([^)]*)\)", rejection(**sections))
    assert 1 <= len(listed.split(", ")) <= 5
