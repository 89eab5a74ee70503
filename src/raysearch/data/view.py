"""What a study may see of a set of shards: the rows of its task, without the held-out groups."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from raysearch.data.shards.shard_manifest import LABEL

GROUPS = {"patient": "patients", "slide": "slides", "site": "sites", "split": "parts"}


@dataclass(frozen=True)
class View:
    """The rows that have a label in `task`, and whose group by the column `by` is not `held_out`.

    Everything that plans, trains, judges or chooses reads shards through one; what it leaves out is
    not in the file that a node's workers map, so no code of theirs can read it.
    """

    task: str = LABEL
    by: str = "patient"
    held_out: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A short hash that tells this view from every other of the same shards."""
        text = json.dumps([self.task, self.by, sorted(self.held_out)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


ALL = View()
