"""The house keeps its order: what may import what, and who may print."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("cli", "evaluation", "search", "training", "models", "data", "scores", "errors")
# A package -> where alone it may be imported: modules or packages.
HOMES = {
    "ray": ("search.engine",),
    "optuna": ("search.sampling.sampler", "search.sampling.export"),
    "mlflow": ("search.tracking",),
}
NOT_IN = {"torch": ("data", "scores"), "torchvision": ("data", "scores", "search", "evaluation")}
SOURCE = Path(__file__).parents[2] / "src" / "raysearch"

# Module -> what it imports of the house, and the first line that does.
Graph = dict[str, dict[str, int]]


def errors(root: Path) -> list[str]:
    """Each breach of the order in the tree `root`, as `file:line: what`."""
    files = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    graph: Graph = {}
    found: list[str] = []
    for name, path in files.items():
        inside, room = path.relative_to(root).as_posix(), name.split(".")[0]
        tree = ast.parse(path.read_text())
        graph[name] = {}
        said = list(hidden(tree)) if room != "cli" else []
        if room not in (*ROOMS, ""):
            said.append((1, f"{room} is no room: one of {', '.join(ROOMS)}"))
        for line, module in imported(tree):
            said += [(line, what) for what in misplaced(module, name)]
            for mine in run_by(within(module, files), name, files):
                graph[name].setdefault(mine, line)
        found += [f"{inside}:{line}: {what}" for line, what in sorted(set(said))]
    return found + [
        f"{files[name].relative_to(root).as_posix()}:{line}: imports itself in a circle"
        for name, line in circles(graph)
    ]


def module_name(path: Path, root: Path) -> str:
    """`search.plan` of search/plan.py, `search` of its __init__.py, empty for the house's own."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the full name of everything imported: `from a import b` is `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{above}.{alias.name}") for alias in node.names)


def misplaced(module: str, name: str) -> Iterator[str]:
    """What is wrong with importing `module` in the house's module `name`."""
    top, _, rest = module.partition(".")
    room, theirs = name.partition(".")[0], rest.partition(".")[0]
    if module.startswith("."):
        yield "relative import"
    homes = HOMES.get(top, ())
    if homes and not any(f"{name}.".startswith(f"{home}.") for home in homes):
        yield f"{top} belongs in {' or '.join(homes)}"
    if room in NOT_IN.get(top, ()):
        yield f"{top} has no place in {room}"
    to_its_right = ROOMS[ROOMS.index(room) :] if room in ROOMS else ()
    if top == "raysearch" and theirs in ROOMS and theirs not in to_its_right:
        yield f"{room or 'the house'} imports {theirs}"


def within(module: str, files: dict[str, Path]) -> str | None:
    """The module of the house that `raysearch.a.b.name` is in, the longest that there is."""
    top, _, rest = module.partition(".")
    while top == "raysearch" and rest:
        if rest in files:
            return rest
        rest = rest.rpartition(".")[0]
    return None


def run_by(module: str | None, name: str, files: dict[str, Path]) -> Iterator[str]:
    """What runs where the module `name` imports `module`: it, and the packages that it is in.

    But for those that `name` is in itself, which run already.
    """
    if module is not None:
        yield module
    package = (module or "").rpartition(".")[0]
    while package:
        if package in files and not f"{name}.".startswith(f"{package}."):
            yield package
        package = package.rpartition(".")[0]


def hidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports inside functions, and prints: for the door alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield inner.lineno, "import inside a function"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit"):
            yield node.lineno, f"{ast.unparse(node.func)} outside cli"


def circles(graph: Graph) -> Iterator[tuple[str, int]]:
    """Each module that imports itself by way of others, and the line that sets out."""

    def reach(name: str) -> set[str]:
        seen, ahead = {name}, [name]
        while ahead:
            new = set(graph.get(ahead.pop(), ())) - seen
            seen |= new
            ahead += new
        return seen

    for name, edges in graph.items():
        lines = [line for one, line in edges.items() if name in reach(one)]
        if lines:
            yield name, min(lines)


def test_the_rooms_import_only_to_their_right_and_libraries_stay_at_home() -> None:
    assert errors(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("data/x.py", "from raysearch.search.study.plan import Plan", "1: data imports search"),
        ("scores/x.py", "import raysearch.data.files", "1: scores imports data"),
        ("scores/x.py", "\nfrom raysearch import search", "2: scores imports search"),
        ("__init__.py", "from raysearch import errors", "1: the house imports errors"),
        ("drawer/x.py", "import json", "1: drawer is no room"),
        ("data/x.py", "from . import files", "1: relative import"),
        ("search/x.py", "import ray", "1: ray belongs in search.engine"),
        ("training/x.py", "import optuna", "1: optuna belongs in"),
        ("search/sampling/x.py", "from optuna import samplers", "1: optuna belongs in"),
        ("cli/x.py", "import mlflow.pytorch", "1: mlflow belongs in"),
        ("data/x.py", "import torch", "1: torch has no place in data"),
        ("scores/x.py", "from torch import nn", "1: torch has no place in scores"),
        ("models/x.py", "def f():\n    import json", "2: import inside a function"),
        ("models/x.py", "async def f():\n    import json", "2: import inside a function"),
        ("search/x.py", "print(1)", "1: print outside cli"),
        ("data/x.py", "from raysearch.data.x import y", "1: imports itself in a circle"),
    ],
)
def test_each_rule_names_the_line_that_breaks_it(
    tmp_path: Path, file: str, code: str, said: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    found = errors(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{file}:{said}")


def test_a_circle_of_two_is_named_at_both_ends_however_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.py").write_text("import json\nfrom raysearch.data import b\n")
    (tmp_path / "data" / "b.py").write_text("from raysearch.data.a import load\n")
    circle = "imports itself in a circle"
    assert errors(tmp_path) == [f"data/a.py:2: {circle}", f"data/b.py:1: {circle}"]


def test_a_circle_by_way_of_a_package_is_named(tmp_path: Path) -> None:
    for package in ("p", "q"):
        (tmp_path / "data" / package).mkdir(parents=True)
    (tmp_path / "data" / "p" / "__init__.py").write_text("from raysearch.data.q.x import f\n")
    (tmp_path / "data" / "p" / "y.py").write_text("g = 1\n")
    (tmp_path / "data" / "q" / "x.py").write_text("from raysearch.data.p.y import g\n")
    circle = "imports itself in a circle"
    assert errors(tmp_path) == [f"data/p/__init__.py:1: {circle}", f"data/q/x.py:1: {circle}"]


def test_what_is_allowed_is_not_named(tmp_path: Path) -> None:
    allowed = {
        "cli/x.py": "def f():\n    from raysearch.search import plan\n    print(plan)",
        "search/sampling/sampler.py": "import optuna",
        "search/engine/x.py": "from ray import tune\nfrom raysearch.data import files",
        "search/tracking/x.py": "import mlflow.pytorch",
        "models/x.py": "import torch\nfrom raysearch.errors import SpaceError",
    }
    for file, code in allowed.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    assert errors(tmp_path) == []


def test_the_surface_is_small() -> None:
    from raysearch.cli import app

    commands = {
        command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert commands == {
        *(
            "harvest",
            "shard",
            "inspect",
            "split",
            "launch",
            "results",
            "select",
            "compare",
            "replay",
            "weights",
            "ui",
        ),
        *("test", "evaluate", "predict", "report"),
        *("attach", "status", "stop", "doctor"),
    }


@pytest.mark.parametrize(
    "path", sorted((SOURCE.parents[1] / "benchmarks").glob("*.py")), ids=lambda path: path.name
)
def test_no_benchmark_imports_ray_before_the_engine_has_set_it_up(path: Path) -> None:
    """Under `uv run` from a fresh clone Ray would wait for workers that never come."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            assert "ray" not in {name.split(".")[0] for name in names}, ast.unparse(node)
