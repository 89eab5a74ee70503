"""The table of hyperparameters as Markdown."""

from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.reference_table import hyperparameter_table_markdown


def test_the_reference_has_a_row_for_every_hyperparameter() -> None:
    lines = hyperparameter_table_markdown().splitlines()
    assert len(lines) == 2 + len(HYPERPARAMETERS)
    for name, line in zip(HYPERPARAMETERS, lines[2:], strict=True):
        assert line.startswith(f"| `{name}` | ")
        assert line.count(" | ") == 4
