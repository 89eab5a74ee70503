"""The replay benchmark of searches with memory, on drawn curves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from raysearch.search.transfer.source_study import SourceStudy, SourceTrial
from replay import memory

SCRIPT = Path(memory.__file__)
CONFIGS = [{"learning_rate": 10.0**-number} for number in range(5)]
# Final accuracies of the configurations on three tasks.
ACCURACY = {"a": [50, 90, 80, 60, 40], "b": [50, 40, 60, 95, 45], "c": [50, 80, 90, 70, 40]}
STUDY = SourceStudy(
    "a",
    "accuracy",
    "max",
    tuple(
        SourceTrial(config, ((1.0, float(value)),), 1.0)
        for config, value in zip(CONFIGS, ACCURACY["a"], strict=True)
    ),
)


def test_bad_memories_have_the_same_configurations_and_other_curves() -> None:
    objectives = [trial.curve[0][1] for trial in memory.reversed_study(STUDY).trials]
    assert objectives == [100 - value for value in ACCURACY["a"]]
    shuffled = memory.shuffled_study(STUDY).trials
    assert sorted(trial.hparams["learning_rate"] for trial in shuffled) == sorted(
        config["learning_rate"] for config in CONFIGS
    )
    assert [trial.curve for trial in shuffled] == [trial.curve for trial in STUDY.trials]
    assert [trial.hparams for trial in shuffled] != [trial.hparams for trial in STUDY.trials]


def test_lists_are_chosen_by_the_whole_trainings_of_other_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainings = {
        task: (CONFIGS, np.ones(5), np.array(values, float)) for task, values in ACCURACY.items()
    }
    monkeypatch.setattr(memory, "random_trainings", trainings.__getitem__)
    memory.list_of.cache_clear()
    tasks = ("a", "b", "c")
    # The third is the best compromise; after it, the fourth helps task b most.
    assert memory.list_of("fixed_list", tasks)[:3] == [CONFIGS[2], CONFIGS[3], CONFIGS[1]]
    assert memory.list_of("zero_shot", tasks)[0] == CONFIGS[2]
    memory.list_of.cache_clear()


def test_a_wrong_option_is_an_error_in_one_line() -> None:
    if not os.environ.get("LCBENCH"):
        pytest.skip("LCBENCH does not name the folder with lcbench.py")
    for options, text in (
        (["--targets", "1"], "--targets 1: unknown; must be one of "),
        (["--sources", "3945", "--targets", "3945"], "--sources 3945: no task but the target"),
    ):
        done = subprocess.run(
            [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith(text)
