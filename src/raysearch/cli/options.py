"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

STUDIES = "studies"
StudiesOption = Annotated[
    str,
    typer.Option(
        help="The folder of all studies: a path or an fsspec address such as s3://bucket/studies.",
        envvar="RAYSEARCH_STUDIES",
    ),
]
