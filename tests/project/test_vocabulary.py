"""Names and texts use the field's standard terms, as `docs/glossary.md` defines them.

The words below have a standard term that replaces them in this project. They appear in no
identifier of the source and in no key or text that a user reads.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SOURCE = TOP / "src" / "raysearch"
# Parts of the names of modules, classes, functions, parameters, fields.
_NAME_PARTS = """
    again afresh apart aside asked beacon beat begun cleared claims course crown crowned
    deciding dishonest elsewhere errand errands fault faults flattery fresh further heat hopes
    ill judge judged kept knob knobs lacking learned least ledger ledgers leaving luck lucky
    making mend mended mirror most opening openings optimism outside paces piece pieces
    printed putback reckoned refusal refuse refused scout scouts sealed settle share shares
    spare sparing stands stood surest tell together told turned verdict wanted warmed well
    whole windup wish wishes
"""
NAME_PARTS = frozenset(_NAME_PARTS.split())
# Names of variables and parameters that say nothing of what they hold.
_VARIABLES = """asked begun came every found given here known one own said some there told wanted
    what which who whose"""
VARIABLES = frozenset(_VARIABLES.split())
# Standard terms that contain such a part.
STANDARD_TERMS = re.compile(
    r"whole_?slide|heat_?map|least_(recently|squares|populated)|most_common|share_memory_?"
    r"|(?<![a-z])tell(?=$|_)|fair_?share",
    re.IGNORECASE,
)
# Words of texts that users read: help, keys of space files, documentation.
TEXT_WORDS = re.compile(
    r"\b(knobs?|ledgers?|sealed|refus(?:e|es|ed|al)|faults?|scouts?|errands?|verdicts?|flatter\w*"
    r"|flattery|crown(?:s|ed)?|openings? of|fresh seeds?|told|judged by|who guesses|surest)\b",
    re.IGNORECASE,
)


def name_parts(name: str) -> set[str]:
    """Return the parts of an identifier in lower case, split at underscores and capitals."""
    name = STANDARD_TERMS.sub("", name)
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Yield line, name and whether it is a variable, of every name that the module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name, False
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield item.lineno, item.target.id, False
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, False
            arguments = node.args
            for argument in (*arguments.args, *arguments.kwonlyargs, *arguments.posonlyargs):
                yield node.lineno, argument.arg, False
                yield node.lineno, argument.arg, True
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, True


def old_names(root: Path) -> list[str]:
    """Return `file:line name` for each name in the tree `root` that has a standard term."""
    places = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        if name_parts(path.stem) & NAME_PARTS:
            places.append(f"{relative}:1 {path.stem}")
        for line, name, is_variable in identifiers(ast.parse(path.read_text())):
            if name in VARIABLES if is_variable else name_parts(name) & NAME_PARTS:
                places.append(f"{relative}:{line} {name}")
    return sorted(set(places))


def schema_keys(schema: object) -> Iterator[str]:
    """Yield every key that a space file may have, as the JSON schema lists them."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "properties":
                yield from value
            yield from schema_keys(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from schema_keys(value)


def help_texts() -> dict[str, str]:
    """Return the help text of each command, by its name; the application's by an empty one."""
    from typer.testing import CliRunner

    from raysearch.cli import app
    from raysearch.cli.command_table import COMMANDS, load_command

    names = ["", *COMMANDS]
    for name in COMMANDS:
        names += [
            f"{name} {subcommand}" for subcommand in getattr(load_command(name), "commands", ())
        ]
    runner = CliRunner()
    return {
        name: runner.invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"}).output
        for name in names
    }


def test_no_identifier_of_the_source_uses_a_replaced_word() -> None:
    assert old_names(SOURCE) == []


def test_no_key_of_a_space_file_uses_a_replaced_word() -> None:
    keys = set(schema_keys(json.loads((TOP / "searchspace" / "schema.json").read_text())))
    assert len(keys) > 60
    assert [key for key in sorted(keys) if name_parts(key) & NAME_PARTS] == []


def test_no_help_text_uses_a_replaced_word() -> None:
    texts = help_texts()
    assert len(texts) > 20
    assert "studies export" in texts
    assert all("--help" in text for text in texts.values())
    assert {
        name: words for name, text in texts.items() if (words := TEXT_WORDS.findall(text))
    } == {}


def documents() -> list[Path]:
    """Return the documentation that is written by hand, without the changelog's old names."""
    documents = [*TOP.glob("*.md"), *sorted((TOP / "docs").rglob("*.md"))]
    documents += sorted((TOP / "searchspace").glob("*.yaml"))
    return [path for path in documents if path.name != "CHANGELOG.md"]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(TOP).as_posix())
def test_no_document_uses_a_replaced_word(path: Path) -> None:
    assert TEXT_WORDS.findall(path.read_text()) == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def crown_champion(): ...", "crown_champion"),
        ("class SealedSet: ...", "SealedSet"),
        ("def f(*, knobs): ...", "knobs"),
        ("class A:\n    most_trials: int", "most_trials"),
        ("for one in (): ...", "one"),
        ("x = [found for found in ()]", "found"),
        ("def f(given): ...", "given"),
    ],
)
def test_a_replaced_word_is_reported_with_its_place(tmp_path: Path, code: str, name: str) -> None:
    (tmp_path / "module.py").write_text(code)
    (place,) = old_names(tmp_path)
    assert place.startswith("module.py:")
    assert place.endswith(f" {name}")


def test_standard_terms_that_contain_such_a_word_are_allowed(tmp_path: Path) -> None:
    code = "def whole_slide_map(least_squares): ...\ntensor.share_memory_()\nwell_known = 1"
    (tmp_path / "heatmap.py").write_text(code)
    assert old_names(tmp_path) == []
