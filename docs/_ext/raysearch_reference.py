"""Sphinx directives that write the reference pages from the code itself.

`raysearch-commands` lists the command line, `raysearch-hyperparameters` the table of
hyperparameters, `raysearch-metrics` the metrics. Each renders Markdown that it makes from the
objects that the program itself uses, so that the pages cannot disagree with it.
"""

from collections.abc import Iterator

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from raysearch.cli import app as command_line
from raysearch.config.hyperparameters import hyperparameter_table_markdown
from raysearch.metrics.classification import METRICS


class MarkdownDirective(SphinxDirective):
    """Render the Markdown that `markdown` returns, in place of the directive."""

    def markdown(self) -> str:
        """Return the text to render."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown with the parser of the page."""
        lines = self.markdown().splitlines()
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class CommandsDirective(MarkdownDirective):
    """Every command with its usage, its text and its options, in the groups of `--help`."""

    def markdown(self) -> str:
        """Return one section a command."""
        group = typer.main.get_command(command_line)
        return "\n".join(_command_lines(group, "raysearch"))


def _command_lines(group: object, path: str) -> Iterator[str]:
    context = typer.Context(group, info_name=path)  # type: ignore[arg-type]
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        if command is None or command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield from _command_lines(command, f"{path} {name}")
            continue
        yield f"## {path} {name}\n"
        yield f"{command.help or ''}\n"
        yield "| argument or option | meaning |"
        yield "|---|---|"
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            if text and not getattr(parameter, "hidden", False):
                options = ", ".join((*parameter.opts, *parameter.secondary_opts))
                label = parameter.name.upper() if options == parameter.name else options
                yield f"| `{label}` | {' '.join(text.split())} |".replace("\\|", "|")
        yield ""


class HyperparametersDirective(MarkdownDirective):
    """The table of hyperparameters."""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return hyperparameter_table_markdown()


class MetricsDirective(MarkdownDirective):
    """The metrics that can be the objective."""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rows = [f"| `{name}` | {mode} |" for name, mode in METRICS.items()]
        return "\n".join(("| metric | better is |", "|---|---|", *rows))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("raysearch-commands", CommandsDirective)
    app.add_directive("raysearch-hyperparameters", HyperparametersDirective)
    app.add_directive("raysearch-metrics", MetricsDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
