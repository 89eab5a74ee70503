"""The expected cost of a study."""

from dataclasses import replace

from raysearch.config.space_file import parse_space
from raysearch.search.scheduling.cost_estimate import expected_fold_epochs
from support.result_studies import TREE


def test_the_expected_cost_is_between_one_rung_and_all_fold_epochs() -> None:
    for rule in ("none", "asha", "promotion", "forest"):
        space = parse_space(TREE | {"trials": 20, "epochs": 9, "stopping": {"rule": rule}}, "x")
        estimate = expected_fold_epochs(space)
        assert 20 < estimate <= 20 * 9 * 2
        assert (estimate == 20 * 9 * 2) == (rule == "none")
        assert expected_fold_epochs(replace(space, trials=40)) > estimate
