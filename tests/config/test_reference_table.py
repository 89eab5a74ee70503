"""The table of hyperparameters as Markdown."""

import re

from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.reference_table import (
    HEADER,
    INHERITED,
    TERMS,
    hyperparameter_table_markdown,
)


def test_the_reference_has_a_row_for_every_hyperparameter() -> None:
    lines = hyperparameter_table_markdown().splitlines()
    assert len(lines) == 2 + len(HYPERPARAMETERS)
    for name, line in zip(HYPERPARAMETERS, lines[2:], strict=True):
        assert line.startswith(f"| `{name}` | ")
        assert line.count(" | ") == len(HEADER) - 1


def test_each_row_has_values_a_default_a_meaning_and_a_term_of_the_literature() -> None:
    for line in hyperparameter_table_markdown().splitlines()[2:]:
        name, values, default, reader, meaning, term = line.strip("| ").split(" | ")
        assert re.search(r"`|(integer|number), [0-9.e-]+ to [0-9.,]+$", values), (name, values)
        assert "inf" not in values
        assert re.search(r"`|the network's own", default), (name, default)
        assert reader, name
        assert len(meaning) >= len("Momentum"), (name, meaning)
        assert len(term) >= len("kernel size"), (name, term)


def test_terms_and_inherited_defaults_are_those_of_existing_hyperparameters() -> None:
    assert set(TERMS) == set(HYPERPARAMETERS)
    assert set(INHERITED) == {name for name, row in HYPERPARAMETERS.items() if row.default is None}
