"""Mutates bytes, trees of JSON or YAML values, and tables: the machinery of the mutation tests."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

Random = np.random.Generator
# Mappings, lists, texts, numbers, booleans and None.
Tree = Any
MAX_MUTATIONS = 4
DEPTH = 3000
# Texts that `dump_json` replaces.
HUGE_NUMBER, DEEP_LIST, DEEP_MAPPING = "@huge number@", "@deep list@", "@deep mapping@"
WRITTEN = {
    HUGE_NUMBER: "9" * 5000,
    DEEP_LIST: "[" * DEPTH + "]" * DEPTH,
    DEEP_MAPPING: '{"a":' * DEPTH + "1" + "}" * DEPTH,
}


def mutate_bytes(content: bytes, rng: Random) -> bytes:
    """Return `content` with one to four bits, bytes or blocks changed, added or removed."""
    mutated = bytearray(content)
    for _ in range(int(rng.integers(1, MAX_MUTATIONS + 1))):
        start = int(rng.integers(0, len(mutated) + 1))
        length = int(rng.integers(1, 64))
        match int(rng.integers(0, 7)):
            case 0 if start < len(mutated):
                mutated[start] ^= 1 << int(rng.integers(0, 8))
            case 1:
                mutated[start : start + length] = rng.bytes(length)
            case 2:
                mutated[start:start] = mutated[start : start + length]
            case 3:
                del mutated[start : start + length * int(rng.integers(1, 40))]
            case 4:
                del mutated[start:]
            case 5:
                mutated[start:start] = bytes(length)
            case _:
                mutated[start : start + length] = b"\xff" * length
    return bytes(mutated)


def hostile_value(rng: Random) -> Tree:
    """Return a value that a reader may not expect."""
    values: list[Tree] = [
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        -(2**63),
        HUGE_NUMBER,
        0.5,
        -1.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        " ",
        "1",
        "../../etc/passwd",
        "/dev/zero",
        "http://127.0.0.1:9/x",
        "zip://a::http://127.0.0.1:9/x",
        "\0",
        "\x1b[2J",
        "\ud800",
        "x" * 20_000,
        "9" * 5000,
        [],
        {},
        [[]],
        [None],
        ["a", "a"],
        {"": None},
        {"a": {"a": {"a": 1}}},
        list(range(1000)),
        DEEP_LIST,
        DEEP_MAPPING,
    ]
    return values[int(rng.integers(0, len(values)))]


def dump_json(tree: Tree) -> str:
    """Return `tree` as JSON, which is YAML as well, with what Python itself cannot write."""
    text = json.dumps(tree)
    for placeholder, written in WRITTEN.items():
        text = text.replace(json.dumps(placeholder), written)
    return text


def mutate_tree(tree: Tree, rng: Random) -> Tree:
    """Return a copy of `tree` in which one to four values or keys are changed."""
    mutated = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, MAX_MUTATIONS + 1))):
        containers = _containers(mutated)
        if not containers:
            return hostile_value(rng)
        _mutate_container(containers[int(rng.integers(0, len(containers)))], rng)
    return mutated


def _containers(tree: Tree) -> list[Tree]:
    """Return every mapping and list of `tree` that has entries, without recursion."""
    found, pending = [], [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (dict, list)) and node:
            found.append(node)
            pending += node.values() if isinstance(node, dict) else node
    return found


def _mutate_container(container: Tree, rng: Random) -> None:
    """Change one entry: its value, its presence, its key, or its place."""
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    key, other = (keys[int(rng.integers(0, len(keys)))] for _ in range(2))
    match int(rng.integers(0, 6)):
        case 0:
            del container[key]
        case 1:
            container[key], container[other] = container[other], container[key]
        case 2 if isinstance(container, list):
            container.insert(key, copy.deepcopy(container[other]))
        case 2:
            container[f"{key}{int(rng.integers(0, 3))}"] = container.pop(key)
        case 3 if isinstance(container[key], (int, float)):
            container[key] = container[key] * [-1, 0, 2, 10**9, 0.5][int(rng.integers(0, 5))]
        case 3 if isinstance(container[key], str):
            container[key] = mutate_text(container[key], rng)
        case _:
            container[key] = hostile_value(rng)


def mutate_text(text: str, rng: Random) -> str:
    """Return `text` with its bytes mutated."""
    return mutate_bytes(text.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "replace")


TYPES = (
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.int8(),
    pa.int64(),
    pa.uint64(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.timestamp("us"),
    pa.dictionary(pa.int32(), pa.string()),
    pa.list_(pa.int64()),
    pa.null(),
)


def mutate_table(table: pa.Table, rng: Random) -> pa.Table:
    """Return `table` with another schema or other values, to be encoded validly again."""
    for _ in range(int(rng.integers(1, MAX_MUTATIONS))):
        if table.num_columns:
            table = _mutate_column(table, rng)
    return table


def _mutate_column(table: pa.Table, rng: Random) -> pa.Table:
    """Change the schema, the rows, or the values of a column."""
    index = int(rng.integers(0, table.num_columns))
    name, column = table.column_names[index], table.column(index)
    names = [f"{other}x" if other == name else other for other in table.column_names]
    numbers = rng.integers(0, max(1, table.num_rows), table.num_rows)
    changes: list[Callable[[], pa.Table]] = [
        lambda: table.remove_column(index),
        lambda: table.rename_columns(names),
        lambda: table.append_column(name, column),
        lambda: table.slice(0, int(rng.integers(0, table.num_rows + 1))),
        lambda: table.take(numbers),
        lambda: pa.concat_tables([table, table]),
        lambda: table.set_column(index, name, pa.nulls(table.num_rows, column.type)),
        lambda: table.set_column(index, name, _other_values(column, rng)),
        lambda: table.set_column(index, name, _cast(column, rng)),
        lambda: table.set_column(index, name, _cast(column, rng)),
    ]
    return changes[int(rng.integers(0, len(changes)))]()


def _other_values(column: pa.ChunkedArray, rng: Random) -> pa.Array:
    """Return values of the column's type that it may not allow: large, negative, not finite."""
    values: list[Tree] = [-1, 99, 2**40, float("nan"), float("inf"), "", "\0", "../x", b"", b"\xff"]
    for position in rng.permutation(len(values)):
        try:
            return pa.array([values[int(position)]] * len(column), column.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    return pa.nulls(len(column), column.type)


def _cast(column: pa.ChunkedArray, rng: Random) -> pa.Array | pa.ChunkedArray:
    """Return the column as another type; nulls of that type if it cannot be converted."""
    kind = TYPES[int(rng.integers(0, len(TYPES)))]
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowException, NotImplementedError):
        return pa.nulls(len(column), kind)
