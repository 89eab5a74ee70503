"""Sphinx directives that write the reference pages from the code itself.

Each directive renders Markdown that it makes from the objects that the program itself uses, so that
the pages cannot disagree with the program. `raysearch-commands` lists the command line,
`raysearch-hyperparameters` the table of hyperparameters, `raysearch-space-keys` and
`raysearch-samplers` the keys of a space file, `raysearch-metrics` and `raysearch-criteria` the
metrics, `raysearch-study-files` the files of a study, `raysearch-events` the events of its journal,
`raysearch-tree` the packages, `raysearch-object` the signature and the docstring of one object, and
`raysearch-notebook` the cells of a notebook. The role `format-number` writes the format number of a
file. Formulas become MathML, so that no page needs a network.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
import typer.core
from docutils import nodes
from docutils.parsers.rst.states import Inliner
from docutils.utils.math.latex2mathml import tex2mathml
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

from raysearch.champion import model_artifact
from raysearch.cli.command_table import COMMANDS, load_command
from raysearch.config.reference_table import hyperparameter_table_markdown
from raysearch.config.samplers import SAMPLERS
from raysearch.config.space import Budget, NetworkLimits, Resources, Stopping
from raysearch.config.space_model import (
    IMPORT_PATTERN,
    SCHEMES,
    ObjectiveSection,
    ResourcesSection,
    SpaceFile,
    StoppingSection,
)
from raysearch.data.shards import shard_manifest
from raysearch.data.splits import split_manifest
from raysearch.metrics.calibration import CRITERIA
from raysearch.metrics.classification import METRICS
from raysearch.search.journal import journal
from raysearch.search.journal.codec import EVENT_NAMES
from raysearch.search.journal.events import Recorded
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import plan
from raysearch.testing import test_results

FORMAT_NUMBERS = {
    "shard-manifest": shard_manifest.VERSION,
    "split-manifest": split_manifest.VERSION,
    "plan": plan.FORMAT,
    "journal": journal.FORMAT,
    "model": model_artifact.FORMAT,
    "evaluation": test_results.FORMAT,
}
# The sections of a space file: the model of the keys, and the class that documents them.
SECTIONS: Mapping[str, tuple[Any, Any]] = {
    "objective": (ObjectiveSection, ObjectiveSection),
    "stopping": (StoppingSection, Stopping),
    "budget": (Budget, Budget),
    "resources": (ResourcesSection, Resources),
    "limits": (NetworkLimits, NetworkLimits),
}
# The meaning of keys whose documentation is not in the `Attributes` of a class.
KEY_MEANINGS = {
    ("objective", "metric"): "The metric; see {doc}`metrics`.",
    (
        "objective",
        "mode",
    ): "Which way it is better. Required for a metric of your own; otherwise, the metric decides.",
    ("resources", "cpus"): "CPU cores of one trial; an integer, or a fraction of one core.",
    ("resources", "gpus"): "GPUs of one trial; a fraction lets several trials share a device.",
    ("resources", "prices"): "Dollars per hour of a machine, by node type.",
}
# A maximum that only keeps out mistakes.
UNBOUNDED = 1e6
Row = Sequence[str]


def table(header: Row, rows: Iterable[Row]) -> list[str]:
    """Return a Markdown table, with the bars in its cells escaped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    return [f"| {' | '.join(line)} |" for line in cells] + [""]


def attribute_docs(documented: Any) -> dict[str, str]:
    """Return the lines of the `Args` or `Attributes` of a class's docstring, by name."""
    docs: dict[str, str] = {}
    name = ""
    for line in inspect.getdoc(documented).partition(":\n    ")[2].splitlines():
        entry = re.match(r"(?: {4})?(\w+(?:, \w+)*): (.*)", line)
        if entry and not line.startswith("     "):
            name = entry[1]
            docs |= dict.fromkeys(name.split(", "), entry[2])
        elif line.strip() and name:
            docs |= {part: f"{docs[part]} {line.strip()}" for part in name.split(", ")}
        else:
            name = ""
    return docs


def type_text(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON schema allows, in words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("pattern") == IMPORT_PATTERN:
        return "`MODULE:FUNCTION`"
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return ", or ".join(type_text(part) for part in parts)
    if "if" in schema:
        return f"{type_text(schema['else'])}, or a list of them"
    names = {"string": "text", "boolean": "`true`, `false`", "array": "list", "object": "mapping"}
    kind = str(schema.get("type", ""))
    return names.get(kind, kind) + _bounds_text(schema)


def _bounds_text(schema: Mapping[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None or high is None:
        return ""
    if high >= UNBOUNDED:
        return f", at least {low:g}"
    below = "above " if "exclusiveMinimum" in schema else ""
    upper = "below " if "exclusiveMaximum" in schema else ""
    return f", {below}{low:g} to {upper}{high:g}"


def default_text(value: object) -> str:
    """Return a default as a space file would have it."""
    if value is None or value in ({}, (), []):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


class MarkdownDirective(SphinxDirective):
    """Render the Markdown that `markdown` returns, in place of the directive."""

    def markdown(self) -> Iterator[str]:
        """Yield the lines to render."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown with the parser of the page."""
        return self.parse_text_to_nodes("\n".join(self.markdown()), allow_section_headings=True)


class CommandsDirective(MarkdownDirective):
    """Every command with its usage, its text and its options, in the panels of `--help`."""

    def markdown(self) -> Iterator[str]:
        """Yield a section for each panel, with one for each command."""
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
            yield f"## {panel}\n"
            for name, entry in COMMANDS.items():
                if entry.panel == panel:
                    yield from _command_lines(load_command(name), f"raysearch {name}")


def _command_lines(command: Any, path: str) -> Iterator[str]:
    context = typer.Context(command, info_name=path)
    yield f"### {path}\n"
    yield from _usage_lines(command, context)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from _member_lines(command.get_command(context, name), f"{path} {name}")


def _member_lines(command: Any, path: str) -> Iterator[str]:
    yield f"#### {path}\n"
    yield from _usage_lines(command, typer.Context(command, info_name=path))


def _usage_lines(command: Any, context: typer.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    usage = re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), pieces)
    yield f"```text\n{context.info_name} {usage}\n```\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    arguments, options = [], []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        text = getattr(parameter, "help", None) or ""
        if parameter.envvar:
            text += f" Environment variable: `{parameter.envvar}`."
        if parameter.opts[0].startswith("-"):
            names = ", ".join(f"`{name}`" for name in parameter.opts + parameter.secondary_opts)
            options.append((names, _default(parameter), text))
        else:
            label = (parameter.metavar or parameter.name).upper().strip("[]")
            needed = "" if parameter.required else " (optional)"
            arguments.append((f"`{label}`{needed}", text))
    if arguments:
        yield from table(("argument", "meaning"), arguments)
    if options:
        yield from table(("option", "default", "meaning"), options)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if callable(default) or default in (None, "", (), []) or default is False:
        return ""
    return f"`{default}`"


class HyperparametersDirective(MarkdownDirective):
    """The table of hyperparameters."""

    def markdown(self) -> Iterator[str]:
        """Yield the table of the package."""
        yield hyperparameter_table_markdown()


class SpaceKeysDirective(MarkdownDirective):
    """The keys of a space file, or of one of its sections if that is given."""

    optional_arguments = 1

    def markdown(self) -> Iterator[str]:
        """Yield the table of the keys."""
        if not self.arguments:
            rows = [_key_row(name, field) for name, field in SpaceFile.model_fields.items()]
            yield from table(("key", "value", "default", "meaning"), rows)
            return
        section = self.arguments[0]
        model, documented = SECTIONS[section]
        schema = TypeAdapter(model).json_schema()["properties"]
        docs = attribute_docs(documented)
        defaults = _defaults(model)
        rows = [
            (
                f"`{name}`",
                type_text(schema[name]),
                defaults[name],
                KEY_MEANINGS.get((section, name)) or docs[name],
            )
            for name in schema
        ]
        yield from table(("key", "value", "default", "meaning"), rows)


def _key_row(name: str, field: Any) -> Row:
    schema = SpaceFile.model_json_schema()["properties"][name]
    section = name in SECTIONS
    is_nested = section or name in ("sampler", "space")
    values = "mapping" if is_nested else type_text(schema)
    if name == "sampler":
        values = "a name, or a mapping"
    if name == "points_to_evaluate":
        values = "list of mappings"
    if name == "validation":
        values = f"{type_text({'enum': SCHEMES})}, or repeated hold-outs such as `holdout-5x0.2`"
    default = "required" if field.is_required() else default_text(field.default)
    if is_nested and not field.is_required():
        default = "`forest`" if name == "sampler" else "see below"
    return f"`{name}`", values, default, field.description or ""


def _defaults(model: Any) -> dict[str, str]:
    if isinstance(model, type) and issubclass(model, BaseModel):
        values = {name: field.default for name, field in model.model_fields.items()}
    else:
        values = {field.name: field.default for field in fields(model)}
    return {
        name: "required" if value is PydanticUndefined else default_text(value)
        for name, value in values.items()
    }


class SamplersDirective(MarkdownDirective):
    """The samplers of a space file, with their options."""

    def markdown(self) -> Iterator[str]:
        """Yield the table of the samplers."""
        rows = []
        for name, sampler in SAMPLERS.items():
            schema = TypeAdapter(sampler).json_schema()["properties"]
            defaults = _defaults(sampler)
            options = [
                f"`{option}`: {type_text(schema[option])}, default {defaults[option]}"
                for option in schema
                if option != "name"
            ]
            rows.append((f"`{name}`", "; ".join(options) or "none", inspect.getdoc(sampler) or ""))
        yield from table(("sampler", "options", "meaning"), rows)


class MetricsDirective(MarkdownDirective):
    """The metrics that can be the objective."""

    def markdown(self) -> Iterator[str]:
        """Yield the table of the metrics."""
        rows = [(f"`{name}`", mode) for name, mode in METRICS.items()]
        yield from table(("metric", "better is"), rows)


class CriteriaDirective(MarkdownDirective):
    """The criteria that a classification threshold can maximize."""

    def markdown(self) -> Iterator[str]:
        """Yield the names of the criteria in a line."""
        yield ", ".join(f"`{name}`" for name in CRITERIA) + "."


class StudyFilesDirective(MarkdownDirective):
    """The files in a study's folder, as the class that names them documents them."""

    def markdown(self) -> Iterator[str]:
        """Yield the table of the files."""
        lines = (inspect.getdoc(StudyFolder) or "").splitlines()
        yield from (line for line in lines if line.startswith("|"))


class EventsDirective(MarkdownDirective):
    """The events of a journal."""

    def markdown(self) -> Iterator[str]:
        """Yield the table of the events, with their fields."""
        shared = {field.name for field in fields(Recorded)}
        rows = []
        for name, event in EVENT_NAMES.items():
            names = [f"`{field.name}`" for field in fields(event) if field.name not in shared]
            summary = (inspect.getdoc(event) or "").splitlines()[0]
            rows.append((f"`{name}`", f"`{event.__name__}`", ", ".join(names), summary))
        yield from table(("`event`", "record", "fields", "meaning"), rows)


class TreeDirective(MarkdownDirective):
    """The packages of the source, with the first sentence of each docstring."""

    def markdown(self) -> Iterator[str]:
        """Yield the table of the packages and their subpackages."""
        root = Path(inspect.getfile(shard_manifest)).parents[2]
        paths = [*root.glob("*/__init__.py"), *root.glob("*/*/__init__.py"), root / "workflow.py"]
        rows = sorted((_package_name(path, root), _summary(path)) for path in paths)
        yield from table(("package", "content"), [(f"`{name}`", text) for name, text in rows])


def _package_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]


class ObjectDirective(MarkdownDirective):
    """The signature and the docstring of the object `MODULE:NAME`."""

    required_arguments = 1

    def markdown(self) -> Iterator[str]:
        """Yield a code block, as an editor would show the object."""
        module, _, name = self.arguments[0].partition(":")
        member: Any = import_module(module)
        for part in name.split("."):
            member = getattr(member, part)
        package = "raysearch" if module.startswith("raysearch.api.") else module
        yield f"```python\nfrom {package} import {name.partition('.')[0]}\n"
        if not inspect.isclass(member):
            yield from _documented(f"def {name}{_signature(member)}", member)
        else:
            yield from _documented(f"class {name}", member)
            for public in (each for each in vars(member) if not each.startswith("_")):
                yield from _member_lines(public, inspect.getattr_static(member, public))
        yield "```\n"


def _member_lines(name: str, member: Any) -> Iterator[str]:
    """A property, a method or a class method with its docstring, as lines of a class."""
    lines: list[str] = []
    if isinstance(member, property):
        lines = ["@property", *_documented(f"def {name}(self)", member)]
    elif isinstance(member, classmethod):
        function = member.__func__
        lines = ["@classmethod", *_documented(f"def {name}{_signature(function)}", function)]
    elif inspect.isfunction(member):
        lines = list(_documented(f"def {name}{_signature(member)}", member))
    if lines:
        yield ""
    for line in "\n".join(lines).split("\n") if lines else ():
        yield f"    {line}" if line else ""


def _documented(header: str, member: Any) -> Iterator[str]:
    """The header of an object, and its docstring."""
    doc = inspect.getdoc(member) or ""
    yield f"{header}:"
    if "\n" not in doc:
        yield f'    """{doc}"""'
        return
    yield '    """' + doc.replace("\n", "\n    ").replace("\n    \n", "\n\n")
    yield '    """'


def _signature(member: Any) -> str:
    text = re.sub(r"= <function \w+ at 0x\w+>", "= ...", str(inspect.signature(member)))
    text = text.replace("'", "")
    if len(text) <= 50:
        return text
    parameters = ",\n    ".join(
        re.split(r", (?=\*,|\*{0,2}\w+(?::|,|$))", text[1 : text.rindex(")")])
    )
    return f"(\n    {parameters},\n){text[text.rindex(')') + 1 :]}"


class NotebookDirective(MarkdownDirective):
    """The cells of a notebook without outputs, after the first one, which has its title."""

    required_arguments = 1

    def markdown(self) -> Iterator[str]:
        """Yield the Markdown of the cells, and the code in blocks."""
        relative_path, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative_path)
        for cell in json.loads(Path(path).read_text())["cells"][1:]:
            text = "".join(cell["source"])
            yield f"```ipython3\n{text}\n```\n" if cell["cell_type"] == "code" else f"{text}\n"


def format_number(
    _name: str,
    raw_text: str,
    text: str,
    line: int,
    inliner: Inliner,
    _options: object = None,
    _content: object = None,
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Render the format number of the file `text`, which is a key of `FORMAT_NUMBERS`."""
    if text not in FORMAT_NUMBERS:
        names = ", ".join(FORMAT_NUMBERS)
        message = inliner.reporter.error(f"no format {text!r}; one of {names}", line=line)
        return [inliner.problematic(raw_text, raw_text, message)], [message]
    return [nodes.Text(str(FORMAT_NUMBERS[text]))], []


def visit_math(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write the formula of `node` as MathML."""
    is_block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext().strip(), as_block=is_block)
    translator.body.append(f'<div class="formula">{formula}</div>' if is_block else formula)
    raise nodes.SkipNode


DIRECTIVES = {
    "raysearch-commands": CommandsDirective,
    "raysearch-hyperparameters": HyperparametersDirective,
    "raysearch-space-keys": SpaceKeysDirective,
    "raysearch-samplers": SamplersDirective,
    "raysearch-metrics": MetricsDirective,
    "raysearch-criteria": CriteriaDirective,
    "raysearch-study-files": StudyFilesDirective,
    "raysearch-events": EventsDirective,
    "raysearch-tree": TreeDirective,
    "raysearch-object": ObjectDirective,
    "raysearch-notebook": NotebookDirective,
}


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives and the role."""
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    app.add_role("format-number", format_number)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    # A page changes with the source, which Sphinx does not watch.
    source = Path(inspect.getfile(shard_manifest)).parents[2]
    app.add_config_value("raysearch_source", str(source), "env")
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
