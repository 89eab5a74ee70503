"""The replay benchmark: its clock, its regret and its peers, on drawn curves and on real ones."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from replay import methods, raysearch_method, reference, result_cache, run
from replay.clock import Config, Method, Work, incumbent, simulate
from replay.curves import EPOCHS, Curves, Ranges, draw, lcbench
from replay.reference import Reference

RANGES: Ranges = {
    "batch_size": ("int", 16, 512, True),
    "learning_rate": ("float", 1e-4, 1e-1, True),
    "momentum": ("float", 0.1, 0.99, False),
    "num_layers": ("int", 1, 5, False),
}
# The epochs after which a method may free a worker.
RUNGS = {
    "random": {52},
    "tpe": {52},
    "tpe+hyperband": {1, 3, 9, 27, 52},
    "tpe+successive-halving": {1, 4, 16, 52},
    "ray-asha-g1": {1, 4, 16, 52},
    "asha-g5+tpe": {5, 20, 52},
    "syne-tune-asha": {1, 3, 9, 27, 52},
    "raysearch": {*range(5, 52, 3), 52},
}


def drawn(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """A curve that levels off, the higher the nearer the learning rate is to .01."""
    epochs = np.arange(1, EPOCHS + 1)
    best = 90 - 15 * abs(math.log10(config["learning_rate"]) + 2)
    return epochs * (1 + 100 / config["batch_size"]), best * (1 - np.exp(-epochs / 8))


def scripted(seconds: float, *values: float) -> tuple[np.ndarray, np.ndarray]:
    """A curve by hand, each of whose epochs takes `seconds`."""
    return seconds * np.arange(1, len(values) + 1), np.array(values)


class Script:
    """Hands out the given work in order; frees a worker at the (trial, epoch) of `stops`."""

    def __init__(self, works: Iterable[Work | None], stops: Iterable[tuple[str, int]] = ()) -> None:
        self._works, self._stops = list(works), set(stops)
        self.heard: list[tuple[str, int, float]] = []

    def next(self) -> Work | None:
        return self._works.pop(0) if self._works else None

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:  # noqa: ARG002
        self.heard.append((trial, epoch, seconds))
        return (trial, epoch) not in self._stops


def work(trial: str, seconds: float = 1.0, done: int = 0) -> Work:
    return Work(trial, {"seconds": seconds}, done)


def by_seconds(config: Config) -> tuple[np.ndarray, np.ndarray]:
    return scripted(config["seconds"], 1.0, 2.0, 3.0)


def test_a_paused_trial_goes_on_where_it_was_and_pays_nothing_twice() -> None:
    script = Script([work("a"), work("b"), work("a", done=2)], [("a", 2)])
    found = simulate(script, by_seconds, 1, 100.0)
    assert script.heard == [
        *(("a", 1, 1.0), ("a", 2, 1.0)),
        *(("b", 1, 1.0), ("b", 2, 1.0), ("b", 3, 1.0)),
        ("a", 3, 1.0),
    ]
    assert found == [(1.0, 1.0), (2.0, 2.0), (5.0, 3.0)]


def test_a_moment_s_events_come_by_the_number_of_the_worker() -> None:
    script = Script([work("a", 2.0), work("b", 1.0), work("c", 2.0)])
    simulate(script, by_seconds, 3, 4.0)
    heard = [trial for trial, _epoch, _seconds in script.heard]
    assert heard == ["b", "a", "b", "c", "b", "a", "c"]


def test_only_an_epoch_that_is_over_when_the_budget_ends_counts() -> None:
    script = Script([work("a", 1.0)])
    assert simulate(script, by_seconds, 1, 1.999) == [(1.0, 1.0)]
    assert script.heard == [("a", 1, 1.0)]
    assert simulate(Script([work("a", 1.0)]), by_seconds, 1, 2.0) == [(1.0, 1.0), (2.0, 2.0)]


def test_one_run_tells_the_incumbent_of_every_smaller_budget() -> None:
    found = simulate(Script([work("a", 1.0)]), by_seconds, 1, 3.0)
    assert [incumbent(found, at) for at in (0.5, 1.0, 1.5, 2.0, 9.0)] == [-math.inf, 1, 1, 2, 3]


def test_a_method_without_work_is_asked_again_at_the_next_event() -> None:
    script = Script([work("a", 1.0), None, work("b", 1.0)])
    simulate(script, by_seconds, 2, 2.5)
    # b begins when a's first epoch is over.
    assert script.heard == [("a", 1, 1.0), ("a", 2, 1.0), ("b", 1, 1.0)]


def test_a_method_that_has_no_work_left_ends_the_run() -> None:
    assert simulate(Script([]), by_seconds, 4, 100.0) == []


@pytest.mark.parametrize(
    ("works", "said"),
    [
        ([work("a", done=1)], "a asks to go on at epoch 1; it trained 0"),
        ([work("a"), work("a")], "a is given to a second worker while it trains"),
    ],
)
def test_work_that_nobody_could_do_is_rejected(works: list[Work], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        simulate(Script(works), by_seconds, 2, 10.0)


def test_regret_is_1_at_the_median_and_0_at_the_oracle() -> None:
    fixed = Reference(oracle=90.0, median=70.0, full_s=1.0)
    assert [fixed.regret(value) for value in (70.0, 85.0, 90.0, 92.0)] == [1.0, 0.25, 0.0, -0.1]


def test_the_interval_is_of_the_mean_over_tasks() -> None:
    assert run.interval(np.array([0.5, 0.5, 0.5])) == (0.5, 0.5, 0.5)
    mean, low, high = run.interval(np.linspace(0.0, 1.0, 25))
    assert mean == 0.5
    # 1.96 standard errors of a uniform on 25 points.
    assert low == pytest.approx(0.5 - 0.118, abs=0.01)
    assert high == pytest.approx(0.5 + 0.118, abs=0.01)


def test_random_configurations_lie_in_their_ranges_and_hang_on_the_seed() -> None:
    configs = draw(RANGES, 2_000, 1)
    for name, (kind, low, high, log) in RANGES.items():
        values = np.array([config[name] for config in configs])
        assert values.min() >= low
        assert values.max() <= high
        middle = math.sqrt(low * high) if log else (low + high) / 2
        assert (values < middle).mean() == pytest.approx((values > middle).mean(), abs=0.06)
        if kind == "int":
            assert (values == values.round()).all()
    assert draw(RANGES, 3, 1) == draw(RANGES, 3, 1) != draw(RANGES, 3, 2)


class Listening:
    """A method, and after which epochs it freed a worker."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self.freed: set[int] = set()
        self.configs: list[Mapping[str, Any]] = []

    def next(self) -> Work | None:
        given = self._method.next()
        assert given is not None
        if not given.done:  # one that waited comes again
            self.configs.append(given.config)
        return given

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        is_promotable = self._method.report(trial, epoch, value, seconds)
        if not is_promotable:
            self.freed.add(epoch)
        return is_promotable


@pytest.mark.parametrize("name", RUNGS)
def test_each_method_stops_trials_at_its_rungs_alone_and_by_its_seed(name: str) -> None:
    if name == "syne-tune-asha" and importlib.util.find_spec("syne_tune") is None:
        pytest.skip("syne-tune is not installed; it is in the dependency group replay")

    def one(seed: int) -> tuple[Listening, list[tuple[float, float]]]:
        make = raysearch_method.method if name == "raysearch" else partial(methods.make, name)
        method = Listening(make(RANGES, seed))
        return method, simulate(method, drawn, 4, 250.0)

    method, found = one(0)
    ends = {EPOCHS} if name != "raysearch" else set()  # it has nothing to finish so soon
    assert {min(RUNGS[name])} | ends <= method.freed <= RUNGS[name]
    assert one(0)[1] == found != one(1)[1]
    configs = [tuple(config[key] for key in RANGES) for config in method.configs]
    assert len(set(configs)) == len(configs)
    for config in method.configs:
        assert set(config) == set(RANGES)
        assert all(low <= config[key] <= high for key, (_kind, low, high, _log) in RANGES.items())


def test_the_space_of_our_own_method_is_lcbench_s() -> None:
    space = raysearch_method.space(RANGES, 7)
    assert [
        (hyperparameter.name, hyperparameter.kind, hyperparameter.values)
        for hyperparameter in space.hparams
    ] == [
        ("batch_size", "logint", (16, 512)),
        ("learning_rate", "loguniform", (1e-4, 1e-1)),
        ("momentum", "uniform", (0.1, 0.99)),
        ("num_layers", "int", (1, 5)),
    ]
    assert (space.metric, space.mode, space.epochs) == ("accuracy", "max", 52)
    assert (space.trials, space.seed) == (10**6, 7)
    assert (space.stopping.grace_period, space.stopping.reduction_factor) == (5, 3)


def test_a_peer_s_run_is_kept_and_read_again_for_smaller_budgets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(methods, "lcbench", lambda: SimpleNamespace(SPACE=RANGES))
    monkeypatch.setattr(methods, "version", lambda: "drawn")
    monkeypatch.setattr(result_cache, "version", lambda _library: "1.0")
    asked: list[str] = []

    def curves_of(task: str) -> Any:
        asked.append(task)
        return drawn

    monkeypatch.setattr(methods, "curves_of", curves_of)
    whole = methods.trajectory("random", "3945", 0, 400.0)
    assert methods.trajectory("random", "3945", 0, 100.0) == whole
    assert asked == ["3945"]
    methods.trajectory("random", "3945", 0, 500.0)
    methods.trajectory("random", "3945", 1, 100.0)
    assert len(asked) == 3
    (file, _other) = sorted(tmp_path.glob("replay/random/*.json"))
    file.write_text("{")
    assert methods.trajectory("random", "3945", 0, 400.0) == whole


def test_a_comment_does_not_change_what_a_run_is_kept_by(tmp_path: Path) -> None:
    def by(code: str) -> str:
        (tmp_path / "peer.py").write_text(code)
        return result_cache.fingerprint(("optuna",), [tmp_path / "peer.py"], "x")

    assert by("a = 1") == by("a = 1  # one") != by("a = 2")


def test_a_json_line_comes_out_for_each_method_and_budget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = SimpleNamespace(TASKS=("3945", "7593"))
    monkeypatch.setattr(run, "lcbench", lambda: known)
    monkeypatch.setattr(run, "tasks_known", lambda: list(known.TASKS))
    monkeypatch.setattr(run, "reference", lambda _task: Reference(90.0, 70.0, 10.0))
    monkeypatch.setattr(run, "trajectory", lambda *_run: [(1.0, 70.0), (25.0, 80.0)])
    line = "run.py --seeds 3 --budgets 2,2.5 --methods random,tpe"
    monkeypatch.setattr(sys, "argv", line.split())
    assert run.main() == 0
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    asked = [(row["method"], row["budget"]) for row in rows]
    assert asked == [("random", 2), ("random", 2.5), ("tpe", 2), ("tpe", 2.5)]
    assert [row["mean_regret"] for row in rows] == [1.0, 0.5, 1.0, 0.5]
    assert rows[0] == {
        "method": "random",
        "budget": 2,
        "mean_regret": 1.0,
        "low": 1.0,
        "high": 1.0,
        "tasks": 2,
        "seeds": 3,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--tasks 1", "--tasks 1: unknown; must be one of 3945"),
        ("--methods tea", "--methods tea: unknown; must be one of raysearch, random, tpe,"),
        ("--budgets 0", "--budgets 0: must be positive multiples of the full-training time"),
        ("--budgets two", "--budgets two: must be positive multiples of the full-training time"),
        ("--seeds 0", "--seeds 0: must be 1 or more"),
        ("--budgets .01", "--budgets 0.01: raysearch has trained no epoch by then"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    monkeypatch.setattr(run, "lcbench", lambda: SimpleNamespace(TASKS=("3945",)))
    monkeypatch.setattr(run, "tasks_known", lambda: ["3945"])
    monkeypatch.setattr(run, "reference", lambda _task: Reference(90.0, 70.0, 10.0))
    monkeypatch.setattr(run, "trajectory", lambda *_run: [(1.0, 70.0)])
    monkeypatch.setattr(sys, "argv", ["run.py", *options.split()])
    assert run.main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1


def test_without_the_curves_it_says_so_in_a_line() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LCBENCH"}
    command = [sys.executable, str(run.__file__)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("LCBENCH is '': set it to the folder in which lcbench.py")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def real() -> None:
    """The real curves; the test is skipped where they cannot be replayed."""
    if not os.environ.get("LCBENCH"):
        pytest.skip("LCBENCH does not name the folder with lcbench.py")
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed; it is in the dependency group replay")


@pytest.mark.usefixtures("real")
def test_many_real_curves_at_once_are_those_of_one_at_a_time() -> None:
    curves = Curves("3945")
    configs = draw(lcbench().SPACE, 20, 0)
    seconds, accuracy = curves.many(configs)
    for index, config in enumerate(configs):
        one_seconds, one_accuracy = curves(config)
        np.testing.assert_allclose(seconds[index], one_seconds, rtol=1e-5)
        np.testing.assert_allclose(accuracy[index], one_accuracy, rtol=1e-5)


@pytest.mark.usefixtures("real")
def test_a_real_run_prints_a_regret_below_the_median_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(reference, "RANDOM", 50)
    monkeypatch.setattr(reference, "MORE", 500)
    line = "run.py --tasks 3945 --seeds 2 --budgets 1,2 --methods random,asha-g5+tpe"
    monkeypatch.setattr(sys, "argv", line.split())
    assert run.main() == 0
    first = capsys.readouterr().out
    rows = [json.loads(row) for row in first.splitlines()]
    assert len(rows) == 4
    assert all(row["mean_regret"] < 1.0 for row in rows if row["budget"] == 2)
    # Read from the disk, the peers' runs are the same.
    assert run.main() == 0
    assert capsys.readouterr().out == first
