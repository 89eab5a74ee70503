"""Records are typed: no signature has a dictionary of anything, and no record is read by a key."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "raysearch"
UNTYPED = frozenset(
    f"{mapping}[{key}, {value}]"
    for mapping in ("dict", "Mapping", "MutableMapping")
    for key in ("str", "Any")
    for value in ("Any", "object")
)
# The codec, and the borders to libraries whose values have no types of their own: Tune's
# configurations and results, parsed YAML and JSON before it is checked, checkpoints of torch.
BORDERS = (
    "config/yaml_loader.py",
    "search/journal/codec.py",
    "search/engine/tune_search.py",
    "search/engine/worker_messages.py",
    "training/checkpoint.py",
)
# Records that are dataclasses: a variable of such a name is never subscripted by a string.
RECORDS = frozenset(["event", "report", "decision", "task", "message", "record"])
MAX_ANY_PER_THOUSAND_LINES = 4.0


def untyped_signatures(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and annotation of each parameter, result or field that is a dict of anything."""
    for node in ast.walk(tree):
        annotations: list[ast.expr | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs)
            annotations = [node.returns, *(argument.annotation for argument in arguments)]
        elif isinstance(node, ast.ClassDef):
            annotations = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
        for annotation in annotations:
            for part in ast.walk(annotation) if annotation is not None else ():
                if isinstance(part, ast.Subscript) and ast.unparse(part) in UNTYPED:
                    yield part.lineno, ast.unparse(part)


def string_reads(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each `record["key"]` and `record.get("key")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            value, key = node.value, node.slice.value
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            value, key = node.func.value, node.args[0].value
        else:
            continue
        name = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
        if isinstance(key, str) and name.strip("_") in RECORDS:
            yield node.lineno, ast.unparse(node)


def violations(root: Path) -> list[str]:
    """Return each violation in the tree `root`, as `file:line text`."""
    places = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        if relative in BORDERS:
            continue
        tree = ast.parse(path.read_text())
        for line, text in (*untyped_signatures(tree), *string_reads(tree)):
            places.append(f"{relative}:{line} {text}")
    return sorted(set(places))


def any_per_thousand_lines(root: Path) -> float:
    """Return how often `Any` is written in a thousand lines, imports left out."""
    lines = [line for path in root.rglob("*.py") for line in path.read_text().splitlines()]
    uses = sum(
        isinstance(node, ast.Name) and node.id == "Any"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    return 1000 * uses / max(1, len(lines))


def test_no_signature_has_an_untyped_mapping_and_no_record_is_read_by_a_key() -> None:
    assert violations(SOURCE) == []


def test_any_is_rare() -> None:
    assert any_per_thousand_lines(SOURCE) <= MAX_ANY_PER_THOUSAND_LINES


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("def f(x: dict[str, Any]) -> None: ...", "dict[str, Any]"),
        ("def f() -> list[Mapping[str, Any]]: ...", "Mapping[str, Any]"),
        ("class A:\n    x: dict[str, Any]", "dict[str, Any]"),
        ("x = event['trial']", "event['trial']"),
        ("x = self._decision.get('threshold')", "self._decision.get('threshold')"),
    ],
)
def test_each_kind_of_violation_is_reported(tmp_path: Path, code: str, text: str) -> None:
    (tmp_path / "module.py").write_text(code)
    (place,) = violations(tmp_path)
    assert place.startswith("module.py:")
    assert place.endswith(text)
