"""The house keeps its order: what may import what, and who may print."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("cli", "evaluation", "search", "training", "models", "data", "scores", "errors")
# A package -> where alone it may be imported.
HOMES = {"ray": "search/engine/", "optuna": "search/sampler", "mlflow": "search/tracking"}
NOT_IN = {"torch": ("data", "scores"), "torchvision": ("data", "scores", "search", "evaluation")}
SOURCE = Path(__file__).parents[1] / "src" / "raysearch"


def modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def faults(root: Path) -> list[str]:
    found = []
    graph: dict[str, set[str]] = {}
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root).as_posix()
        room = inside.split("/")[0].removesuffix(".py")
        tree = ast.parse(path.read_text())
        name = "raysearch." + inside.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        graph[name] = set()
        for line, module in modules(tree):
            top, _, rest = module.partition(".")
            if module.startswith("."):
                found.append(f"{inside}:{line}: relative import")
            if top in HOMES and not inside.startswith(HOMES[top]):
                found.append(f"{inside}:{line}: {top} belongs in {HOMES[top]}")
            if room in NOT_IN.get(top, ()):
                found.append(f"{inside}:{line}: {top} has no place in {room}")
            if top == "raysearch" and rest and room in ROOMS:
                graph[name].add(module)
                if ROOMS.index(rest.split(".")[0]) < ROOMS.index(room):
                    found.append(f"{inside}:{line}: {room} imports {rest.split('.')[0]}")
        if room != "cli":
            found += [f"{inside}:{line}: {what}" for line, what in hidden(tree)]
    return found + [f"{name}: imports itself in a circle" for name in circles(graph)]


def hidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports inside functions, and prints: for the door alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield inner.lineno, "import inside a function"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit"):
            yield node.lineno, f"{ast.unparse(node.func)} outside cli"


def circles(graph: dict[str, set[str]]) -> list[str]:
    def reach(name: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph.get(name, ()))
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += graph.get(one, ())
        return seen

    return [name for name in graph if name in reach(name)]


def test_the_rooms_import_only_to_their_right_and_libraries_stay_at_home() -> None:
    assert faults(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("data/x.py", "from raysearch.search.plan import Plan", "data imports search"),
        ("scores/x.py", "import raysearch.data.files", "scores imports data"),
        ("search/x.py", "import ray", "ray belongs in search/engine/"),
        ("training/x.py", "import optuna", "optuna belongs in"),
        ("cli/x.py", "import mlflow.pytorch", "mlflow belongs in"),
        ("data/x.py", "import torch", "torch has no place in data"),
        ("models/x.py", "def f():\n    import json", "import inside a function"),
        ("search/x.py", "print(1)", "print outside cli"),
        ("data/x.py", "from raysearch.data.x import y", "in a circle"),
    ],
)
def test_each_rule_names_the_line_that_breaks_it(
    tmp_path: Path, file: str, code: str, said: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    found = faults(tmp_path)
    assert len(found) == 1
    assert file.removesuffix(".py").replace("/", ".") in found[0].replace("/", ".")
    assert said in found[0]


def test_the_surface_is_small() -> None:
    from raysearch.cli import app

    commands = {
        command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert commands == {"shard", "launch", "results", "ui"}
