"""The memory that the product comes with: studies of public samples.

They are samples of IDC, PatchCamelyon and BreakHis. `benchmarks/recorded/digest.py` makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from raysearch.config.json_values import parse_json
from raysearch.search.journal.codec import record_from_json
from raysearch.search.transfer.source_study import SourceStudy

FILE = Path(__file__).with_name("shipped_studies.json")
# The names of these studies in a plan begin with this; no study of a user has such a name.
PREFIX = "shipped/"
HASH_LENGTH = 12


@dataclass(frozen=True)
class ShippedStudy:
    """A study of a public sample.

    Attributes:
        source: Its trials.
        searched: The names of the hyperparameters that vary.
        groups: `group_hash` of the patients that it trained or validated on.
        has_patients: Whether these are patients; if not, each file counts as its own patient.
    """

    source: SourceStudy
    searched: tuple[str, ...]
    groups: tuple[str, ...]
    has_patients: bool

    @property
    def name(self) -> str:
        """The name in a plan."""
        return f"{PREFIX}{self.source.name}"

    def num_shared(self, groups: Iterable[str]) -> int:
        """Return how many of the patients are among `groups`."""
        return len(set(self.groups) & set(map(group_hash, groups)))


def group_hash(group: str) -> str:
    """Return a short hash of the name of a patient."""
    return hashlib.sha256(group.encode()).hexdigest()[:HASH_LENGTH]


@cache
def shipped_studies(file: Path = FILE) -> tuple[ShippedStudy, ...]:
    """Return the studies of the public samples, or the recorded ones in another file."""
    return record_from_json(tuple[ShippedStudy, ...], parse_json(file.read_bytes()))
