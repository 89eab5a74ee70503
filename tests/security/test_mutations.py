"""Damaged and forged files are rejected in one line, or read; no reader raises anything else.

`benchmarks/mutation_soak.py` reads 20,000 of each kind, or as many as it is asked to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from raysearch.errors import UserError
from support.mutation_targets import Target, make_targets, read_mutation
from support.mutations import dump_json, hostile_value, mutate_bytes, mutate_tree
from support.stored_file_targets import STORED_FILES, make_stored_file_targets

COUNTS = {
    "manifest": 300,
    "parquet": 300,
    "plan": 300,
    "journal": 300,
    "checkpoint": 300,
    "model": 300,
    "space": 200,
    "csv": 300,
    "scores": 200,
    "figures": 100,
    "card": 100,
}
STORED_COUNT = 40
MAX_SECONDS = 20.0


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Target]:
    return make_targets(tmp_path_factory.mktemp("mutations"))


@pytest.fixture(scope="module")
def stored_targets(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Target]:
    return make_stored_file_targets(tmp_path_factory.mktemp("stored"), shards)


@pytest.mark.parametrize("kind", COUNTS)
def test_a_mutated_file_is_rejected_or_read(kind: str, targets: Mapping[str, Target]) -> None:
    target = targets[kind]
    target.read(target.content)
    errors, slowest, messages = {}, 0.0, set()
    for number in range(COUNTS[kind]):
        start = time.monotonic()
        outcome = read_mutation(target, number)
        slowest = max(slowest, time.monotonic() - start)
        if outcome.error:
            errors[number] = outcome.error
        if number % 2:
            messages.add(outcome.message.rpartition(":")[2].partition(";")[0].strip())
    assert not errors
    # The forged files get past the hashes: they are read, or rejected for different reasons.
    assert len(messages - {"changed"}) > 1
    assert slowest < MAX_SECONDS


@pytest.mark.parametrize("kind", STORED_FILES)
def test_a_mutated_file_of_a_study_or_a_cache_is_rejected_or_the_same(
    kind: str, stored_targets: Mapping[str, Target]
) -> None:
    target = stored_targets[kind]
    target.read(target.content)
    outcomes = [read_mutation(target, number) for number in range(STORED_COUNT)]
    assert {outcome.error for outcome in outcomes} == {""}
    assert len(outcomes) == STORED_COUNT


def test_every_kind_of_stored_file_is_tested(stored_targets: Mapping[str, Target]) -> None:
    assert stored_targets.keys() == set(STORED_FILES)


def test_every_kind_is_tested(targets: Mapping[str, Target]) -> None:
    assert targets.keys() == COUNTS.keys()


@pytest.mark.parametrize("kind", ["space", "figures", "card"])
@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
        "a: " + "9" * 5000 + "\n",
        "a: 0x" + "f" * 200_000 + "\n",
        "a: " + "1:" * 50_000 + "1\n",
        "a: " + "[" * 100_000 + "\n",
        "- " * 100_000 + "\n",
        "a: !!python/object/apply:os.system [true]\n",
        "a: !!timestamp x\n",
        "? [a]\n: b\n",
        "<<: 1\n",
        "a: .nan\nb: .inf\n",
        "\x00",
        "",
    ],
)
def test_bombs_of_yaml_are_rejected_in_time(
    kind: str, text: str, targets: Mapping[str, Target]
) -> None:
    start = time.monotonic()
    with pytest.raises(UserError):
        targets[kind].read(text.encode())
    assert time.monotonic() - start < MAX_SECONDS


def test_mutations_are_the_same_for_the_same_seed(targets: Mapping[str, Target]) -> None:
    for target in targets.values():
        first, second = (target.forge(np.random.default_rng(7)) for _ in range(2))
        assert first == second
    first, second = (mutate_bytes(b"content", np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_a_mutation_changes_a_copy() -> None:
    tree = {"a": [1, "x", {"b": None}], "c": 2.5}
    changed = 0
    for number in range(200):
        rng = np.random.default_rng(number)
        mutated = mutate_tree(tree, rng)
        dump_json(mutated)
        dump_json(hostile_value(rng))
        changed += mutated != tree
    assert tree == {"a": [1, "x", {"b": None}], "c": 2.5}
    assert changed > 150
