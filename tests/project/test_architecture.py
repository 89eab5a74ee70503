"""The structure of the source: which package may import which, and which may print or exit."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

# From the top to the bottom: a package imports itself and those behind it in this list.
PACKAGES = (
    "__main__",
    "api",
    "cli",
    "workflow",
    "reports",
    "testing",
    "inference",
    "champion",
    "selection",
    "analysis",
    "search",
    "training",
    "models",
    "data",
    "config",
    "metrics",
    "required_packages",
    "errors",
    "printable_text",
)
# The same for the subpackages of a package. A module directly below the package, such as
# `data.files`, is the lowest layer, and may be imported by every subpackage.
SUBPACKAGES = {
    "search": ("engine", "tracking", "study", "scheduling", "transfer", "sampling", "journal"),
    "data": ("audit", "harvest", "splits", "shards", "sources", "slides", "images"),
    "models": ("bags", "architectures", "preprocessing", "transfer", "encoders", "weights"),
}
# Packages that do not import each other, although one stands above the other.
INDEPENDENT = ({"search.engine", "search.tracking"}, {"config", "metrics"})
# A library -> the only places that may import it.
LIBRARY_HOMES = {
    "ray": ("search.engine",),
    "optuna": ("search.sampling",),
    "mlflow": ("search.tracking",),
}
# A library -> the packages that must not import it.
LIBRARY_BANS = {
    "torch": ("data", "config", "metrics"),
    "torchvision": ("data", "config", "metrics", "search", "champion", "selection", "testing"),
}
SOURCE = Path(__file__).parents[2] / "src" / "raysearch"

# Module -> the modules of the project that it imports, each with the first line that does.
Graph = dict[str, dict[str, int]]


def violations(root: Path) -> list[str]:
    """Return each violation of the structure in the tree `root`, as `file:line: reason`."""
    files = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    graph: Graph = {}
    messages: list[str] = []
    for name, path in files.items():
        tree = ast.parse(path.read_text())
        graph[name] = {}
        reasons = [] if top_level(name) == "cli" else list(forbidden_statements(tree, name))
        if top_level(name) not in (*PACKAGES, ""):
            reasons.append((1, f"{top_level(name)} is not a package of PACKAGES"))
        for line, imported_name in imports(tree):
            reasons += [(line, reason) for reason in library_violations(imported_name, name)]
            module = project_module(imported_name, files)
            if module is not None:
                reasons += [(line, reason) for reason in direction_violations(module, name)]
            for executed in executed_modules(module, name, files):
                graph[name].setdefault(executed, line)
        relative = path.relative_to(root).as_posix()
        messages += [f"{relative}:{line}: {reason}" for line, reason in sorted(set(reasons))]
    return messages + [
        f"{files[name].relative_to(root).as_posix()}:{line}: is part of an import cycle"
        for name, line in cycles(graph)
    ]


def module_name(path: Path, root: Path) -> str:
    """Return `search.plan` for search/plan.py, `search` for its __init__.py."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level(name: str) -> str:
    """Return the package of a module's name."""
    return name.partition(".")[0]


def subpackage(name: str) -> str:
    """Return the subpackage of a module, empty for a module directly below its package."""
    package, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    return first if first in SUBPACKAGES.get(package, ()) else ""


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full name of each import; `from a import b` is `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def library_violations(imported_name: str, name: str) -> Iterator[str]:
    """Yield what is wrong with the import of a library in the module `name`."""
    if imported_name.startswith("."):
        yield "relative import"
    library = top_level(imported_name)
    homes = LIBRARY_HOMES.get(library, ())
    if homes and not any(f"{name}.".startswith(f"{home}.") for home in homes):
        yield f"{library} may be imported only in {' or '.join(homes)}"
    if top_level(name) in LIBRARY_BANS.get(library, ()):
        yield f"{library} may not be imported in {top_level(name)}"


def direction_violations(module: str, name: str) -> Iterator[str]:
    """Yield what is wrong with the import of the project's `module` in the module `name`."""
    importer, imported = top_level(name), top_level(module)
    if importer != imported:
        below = PACKAGES[PACKAGES.index(importer) :] if importer in PACKAGES else ("api",)
        if imported not in below or {importer, imported} in INDEPENDENT:
            yield f"{importer or 'the package itself'} imports {imported}"
        return
    order = SUBPACKAGES.get(importer, ())
    if not order or subpackage(module) in ("", subpackage(name)):
        return
    pair = {f"{importer}.{subpackage(name)}", f"{importer}.{subpackage(module)}"}
    allowed = order[order.index(subpackage(name)) :] if subpackage(name) else ()
    if subpackage(module) not in allowed or pair in INDEPENDENT:
        yield f"{name} imports {importer}.{subpackage(module)}"


def project_module(imported_name: str, files: Iterable[str]) -> str | None:
    """Return the longest module of the project that contains `raysearch.a.b.name`."""
    package, _, rest = imported_name.partition(".")
    while package == "raysearch" and rest:
        if rest in files:
            return rest
        rest = rest.rpartition(".")[0]
    return None


def executed_modules(module: str | None, name: str, files: Iterable[str]) -> Iterator[str]:
    """Yield what Python executes if `name` imports `module`: it, and the packages around it.

    Packages that contain `name` itself are left out: they are imported already.
    """
    if module is not None:
        yield module
    package = (module or "").rpartition(".")[0]
    while package:
        if package in files and not f"{name}.".startswith(f"{package}."):
            yield package
        package = package.rpartition(".")[0]


def forbidden_statements(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Yield what only the command line does: print, exit, import the project in a function.

    Slow libraries may be imported in the function that uses them, everywhere. The Python API, too,
    imports the project in functions: `import raysearch` takes no time.
    """
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and top_level(module) not in ("", "api"):
            for line, name in imports(node):
                if top_level(name) == "raysearch":
                    yield line, f"{name} is imported inside a function"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit"):
            yield node.lineno, f"{ast.unparse(node.func)} outside cli"


def cycles(graph: Graph) -> Iterator[tuple[str, int]]:
    """Yield each module that imports itself through others, and the line of the first import."""

    def reachable(name: str) -> set[str]:
        seen, pending = {name}, [name]
        while pending:
            new = set(graph.get(pending.pop(), ())) - seen
            seen |= new
            pending += new
        return seen

    for name, edges in graph.items():
        lines = [line for module, line in edges.items() if name in reachable(module)]
        if lines:
            yield name, min(lines)


def test_packages_import_only_what_stands_below_them() -> None:
    assert violations(SOURCE) == []


def test_every_package_of_the_list_exists() -> None:
    for package in PACKAGES:
        assert (SOURCE / package).is_dir() or (SOURCE / f"{package}.py").is_file(), package
    for package, names in SUBPACKAGES.items():
        assert {path.parent.name for path in (SOURCE / package).glob("*/__init__.py")} == set(names)


def test_no_two_modules_have_the_same_name() -> None:
    names = [path.stem for path in SOURCE.rglob("*.py") if path.stem != "__init__"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ("data/x.py", "from raysearch.search import x", "1: data imports search"),
        ("metrics/x.py", "import raysearch.data.x", "1: metrics imports data"),
        ("metrics/x.py", "\nfrom raysearch import search", "2: metrics imports search"),
        ("config/x.py", "from raysearch import metrics", "1: config imports metrics"),
        ("__init__.py", "from raysearch import errors", "1: the package itself imports errors"),
        ("unknown/x.py", "import json", "1: unknown is not a package"),
        ("data/x.py", "from . import files", "1: relative import"),
        ("search/x.py", "import ray", "1: ray may be imported only in search.engine"),
        ("training/x.py", "import optuna", "1: optuna may be imported only in"),
        ("cli/x.py", "import mlflow.pytorch", "1: mlflow may be imported only in"),
        ("data/x.py", "import torch", "1: torch may not be imported in data"),
        ("search/x.py", "print(1)", "1: print outside cli"),
        ("search/x.py", "def f():\n    import raysearch.errors", "2: raysearch.errors is imported"),
        ("search/study/x.py", "from raysearch.search import engine", "1: search.study.x imports"),
        ("search/engine/x.py", "from raysearch.search import tracking", "1: search.engine.x impo"),
        ("data/x.py", "from raysearch.data import audit", "1: data.x imports data.audit"),
        ("data/x.py", "from raysearch.data.x import y", "1: is part of an import cycle"),
    ],
)
def test_each_rule_names_the_line_that_breaks_it(
    tmp_path: Path, file: str, code: str, message: str
) -> None:
    for module in ("search", "search.engine", "search.tracking", "data", "data.audit", "metrics"):
        path = tmp_path.joinpath(*module.split(".")) / "__init__.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "errors.py").touch()
    for name in ("search/x.py", "data/x.py"):
        (tmp_path / name).touch()
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    (violation,) = violations(tmp_path)
    assert violation.startswith(f"{file}:{message}")


def test_a_cycle_through_a_package_is_reported_at_both_ends(tmp_path: Path) -> None:
    for package in ("p", "q"):
        (tmp_path / "cli" / package).mkdir(parents=True)
    (tmp_path / "cli" / "p" / "__init__.py").write_text("from raysearch.cli.q.x import f\n")
    (tmp_path / "cli" / "p" / "y.py").write_text("g = 1\n")
    (tmp_path / "cli" / "q" / "x.py").write_text("from raysearch.cli.p.y import g\n")
    reason = "is part of an import cycle"
    assert violations(tmp_path) == [f"cli/p/__init__.py:1: {reason}", f"cli/q/x.py:1: {reason}"]


@pytest.mark.parametrize(
    "path", sorted((SOURCE.parents[1] / "benchmarks").glob("*.py")), ids=lambda path: path.name
)
def test_no_benchmark_imports_ray_itself(path: Path) -> None:
    """Ray has to be set up by the engine first: otherwise it waits for workers under `uv run`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "ray" not in {top_level(name) for _line, name in imports(node)}, ast.unparse(
                node
            )
