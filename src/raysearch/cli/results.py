"""`raysearch results`: the leaderboard of a study."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from raysearch.cli.options import STUDIES, StudiesOption, make_console


def results(
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    studies: StudiesOption = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Print the leaderboard of a study, also while it runs.

    Example: `raysearch results quickstart`
    """
    from raysearch.cli.studies import newest_name, study_names
    from raysearch.cli.tables import leaderboard_rows, leaderboard_table
    from raysearch.search.folder import StudyFolder
    from raysearch.search.study import read_history, read_plan

    chosen = name or newest_name(studies)
    folder = StudyFolder(f"{studies}/{chosen}")
    plan = read_plan(folder)
    history = read_history(folder)
    if as_json:
        sys.stdout.write(json.dumps(leaderboard_rows(plan, history)) + "\n")
        return 0
    console = make_console()
    console.print(leaderboard_table(plan, history, console.width))
    others = [other for other in study_names(studies) if other != chosen]
    if others:
        console.print(f"Other studies here: {', '.join(others)}")
    return 0
