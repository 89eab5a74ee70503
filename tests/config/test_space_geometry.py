"""Hyperparameters as positions in the unit interval, configurations as points and features."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.config.constraints import allowed
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.config.space_file import parse_space
from raysearch.config.space_geometry import (
    feature_row,
    feature_rows_at,
    sample_hparams,
    unit_point,
    unit_position,
    value_at,
    values_at_point,
)
from support.spaces import HPARAMS, full_space

EXAMPLES = (
    Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-2)),
    Hyperparameter("dropout", "uniform", (0.1, 0.4)),
    Hyperparameter("width", "logint", (8, 64)),
    Hyperparameter("convolutions", "int", (1, 3)),
    Hyperparameter("optimizer", "choice", ("adamw", "sgd", "muon")),
)


@given(st.integers(0, 2**32 - 1))
def test_a_sample_has_the_hyperparameters_that_exist_each_within_its_values(seed: int) -> None:
    space = full_space()
    sample = sample_hparams(space, np.random.default_rng(seed))
    for hparam in space.hparams:
        assert hparam.is_active(sample) == (hparam.name in sample)
        if hparam.name not in sample:
            continue
        value = sample[hparam.name]
        assert hparam.contains(value)
        if hparam.kind in RANGES:
            assert type(value) is (int if "int" in hparam.kind else float)
    assert sample == sample_hparams(space, np.random.default_rng(seed))


def test_samples_are_uniform_and_log_uniform() -> None:
    hparams = {"width": {"logint": [1, 64]}, "convolutions": {"int": [1, 3]}}
    space = parse_space({"space": {**HPARAMS, **hparams}}, "x")
    generator = np.random.default_rng(0)
    samples = [sample_hparams(space, generator) for _ in range(3000)]
    rates = np.log10([float(sample["learning_rate"]) for sample in samples])
    assert np.histogram(rates, 4, (-4, -2))[0] == pytest.approx([750] * 4, abs=120)
    counts = np.bincount([int(sample["convolutions"]) for sample in samples])[1:]
    assert counts == pytest.approx([1000] * 3, abs=120)
    fraction = np.mean([int(sample["width"]) < 8 for sample in samples])
    assert fraction == pytest.approx(np.log(7.5 / 0.5) / np.log(64.5 / 0.5), abs=0.05)


@pytest.mark.parametrize("hparam", EXAMPLES, ids=lambda hparam: hparam.kind)
@given(position=st.floats(0, 0.999))
def test_the_value_at_a_position_has_that_position(hparam: Hyperparameter, position: float) -> None:
    for cells in (True, False):
        value = value_at(hparam, position, cells=cells)
        assert hparam.contains(value)
        position_of_value = min(unit_position(hparam, value), 0.999)
        assert value_at(hparam, position_of_value) == pytest.approx(value)


def test_the_axis_of_a_figure_has_the_first_and_the_last_value_at_its_ends() -> None:
    for hparam in EXAMPLES:
        first, last = hparam.values[0], hparam.values[-1]
        assert unit_position(hparam, first, cells=False) == 0
        assert unit_position(hparam, last, cells=False) == 1
    assert unit_position(EXAMPLES[1], 0.9, cells=False) == 1
    assert unit_position(EXAMPLES[4], "rmsprop", cells=False) == 0


def test_features_at_points_are_those_of_their_values() -> None:
    space = full_space()
    points = np.random.default_rng(0).random((50, len(space.hparams)))
    rows = feature_rows_at(space, points)
    for point, row in zip(points, rows, strict=True):
        assert row == pytest.approx(feature_row(space, values_at_point(space, point)))


def test_a_point_has_one_half_for_what_does_not_exist() -> None:
    space = full_space()
    point = unit_point(space, {"architecture": "benchmark", "learning_rate": 1e-3})
    by_name = dict(zip((hparam.name for hparam in space.hparams), point, strict=True))
    assert by_name["width"] == 0.5
    assert by_name["learning_rate"] == pytest.approx(0.5)
    assert by_name["architecture"] == 0.25


def test_allowed_configurations_satisfy_every_constraint() -> None:
    space = full_space()
    assert allowed(space, {"width": 64, "convolutions": 1, "optimizer": "sgd"})
    assert not allowed(space, {"width": 64, "convolutions": 2, "optimizer": "sgd"})
    assert allowed(space, {"architecture": "benchmark", "optimizer": "sgd"})
