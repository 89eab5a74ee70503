"""Events become JSON and come back; damaged ones are rejected in one line."""

import json

import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space import Space
from raysearch.errors import StudyError
from raysearch.search.journal.codec import (
    EVENT_NAMES,
    dump_event,
    event_to_json,
    load_event,
    record_from_json,
    record_to_json,
)
from raysearch.search.journal.events import (
    ChampionDecision,
    ChampionSelected,
    Event,
    FoldReport,
    ModelCosts,
    RefitTrained,
    RepeatFailed,
    RepeatTrained,
    ScoresReplaced,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialSelected,
    TrialsExtended,
    TrialStarted,
    TrialWarning,
    ValueExcluded,
)

EVENTS: tuple[Event, ...] = (
    StudyLaunched("host", 7, number=3, time=1.5),
    TrialsExtended(20),
    ValueExcluded("width", 8),
    ValueExcluded("flag", True),
    TrialStarted("t0000", "trial", {"width": 8, "rate": 1.0, "flag": True, "a": "b"}, 2**63, 3),
    FoldReport("t0000", 0, 1, None, {"auroc": None, "f1": 0.5}, 0.5, 1.0),
    FoldReport("t0000", 0, 1, 0.5, {}, 0.5, 1.0, train_metrics={"auroc": None, "f1": 0.5}),
    FoldReport("t0000", 0, 1, 0.5, {}, None, 1.0, costs=ModelCosts(8, 100, 1000), host="host"),
    TrialPaused("t0000"),
    TrialPromoted("t0000"),
    TrialPromoted("t0000", in_idle_slot=True),
    TrialEnded("t0000", "finished", "all folds done"),
    TrialWarning("t0000", "an umlaut ä"),
    TrialSelected("t0000"),
    ChampionSelected(
        "t0000", ChampionDecision(0.005, "refit", 1, 1.2, None, "f1", None, None), (0.5, 0.6)
    ),
    ChampionSelected(
        "t0000", ChampionDecision(0.0, "ensemble", 1, 1.2, 0.4, "f1", 0.1, 0.05, seed=2**40)
    ),
    RepeatFailed("t0000", 11, "nan-loss"),
    RepeatTrained("t0000", 2**62, 1, "ab" * 32),
    RepeatTrained("t0000", 2**62, 1, "ab" * 32, "cd" * 32),
    RefitTrained("t0000", "ef" * 32),
    ScoresReplaced("t0000", 4, "01" * 32),
)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    line = dump_event(event)
    assert "\n" not in line
    assert load_event(line) == event


def test_every_kind_of_event_has_a_name() -> None:
    assert {type(event) for event in EVENTS} == set(EVENT_NAMES.values())


def test_the_types_of_hyperparameters_survive() -> None:
    hparams: Hparams = {"int": 1, "float": 1.0, "flag": True, "text": "1"}
    started = load_event(dump_event(TrialStarted("t0000", "trial", hparams, 1, 2)))
    assert isinstance(started, TrialStarted)
    assert [type(value) for value in started.hparams.values()] == [int, float, bool, str]


def test_optional_fields_without_a_value_are_left_out() -> None:
    report = event_to_json(FoldReport("t0000", 0, 1, None, {}, 0.5, 1.0))
    assert set(report) == {
        *("number", "time", "event", "trial", "fold", "epoch", "objective", "metrics", "loss"),
        *("seconds", "rung"),
    }


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "not JSON"),
        ("[]", "the key `event` is missing"),
        ('{"event": 3}', "the key `event` is missing"),
        ('{"event": "departure"}', "unknown event 'departure'"),
        ('{"event": "pause"}', "TrialPaused: trial: "),
        ('{"event": "pause", "trial": "t0000", "why": 1}', "TrialPaused: unknown field 'why'"),
        ('{"event": "end", "trial": "t0", "status": "gone", "reason": ""}', "TrialEnded: status: "),
        ('{"event": "extend", "trials": "many"}', "TrialsExtended: trials: "),
    ],
)
def test_a_damaged_event_is_rejected_in_one_line(line: str, error: str) -> None:
    with pytest.raises(StudyError) as rejected:
        load_event(line)
    assert error in str(rejected.value)
    assert "\n" not in str(rejected.value)


def test_a_number_that_is_not_finite_is_rejected() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_event(FoldReport("t0000", 0, 1, float("inf"), {}, 0.5, 1.0))


def test_a_record_with_nested_records_comes_back() -> None:
    decision = ChampionDecision(0.005, "refit", 1, 1.2, None, "f1", None, None)
    selected = ChampionSelected("t0000", decision, (0.5,), number=1, time=2.0)
    content = json.loads(json.dumps(record_to_json(selected)))
    assert record_from_json(ChampionSelected, content) == selected


def test_a_value_of_many_lines_is_named_in_one_line() -> None:
    tree = {"metric": "auroc", "sampler": {"name": "a\nb\x85c\u2028d"}}
    with pytest.raises(StudyError, match="Space: ") as rejected:
        record_from_json(Space, tree)
    assert len(str(rejected.value).splitlines()) == 1
