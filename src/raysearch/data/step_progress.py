"""How far a long step of a command is, in units that its user knows, such as epochs or patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

EPOCHS, FOLDS = "epochs", "folds"


@dataclass(frozen=True)
class StepProgress:
    """How far a step is.

    Attributes:
        step: What is done, in a few words.
        done: The units that are done; an epoch that is not over counts by its part.
        total: All units of the step.
        unit: The name of the unit, in the plural.
    """

    step: str
    done: float
    total: float
    unit: str


StepCallback = Callable[[StepProgress], None]


def ignore_progress(_progress: StepProgress) -> None:
    """Show nothing."""
