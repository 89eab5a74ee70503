"""Lists a source by a function of the user's, which reads a layout that no format knows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from raysearch.config.code_importer import CODE_IMPORTER
from raysearch.config.component_section import code_folders
from raysearch.config.custom_code import load_function
from raysearch.data.files import Folder
from raysearch.data.sources.csv_table import list_rows
from raysearch.data.sources.listing import Listing, SourceOptions
from raysearch.errors import DataError, SpaceError, first_line


def list_custom(import_path: str, source: str, options: SourceOptions) -> Listing:
    """List the images that a function of the user's yields.

    It is called with the folder of the source, and yields a mapping for each image, with the
    columns of a source of format csv: `path`, relative to the folder, `label`, `patient`, and
    others.

    Args:
        import_path: The import path of the function, such as `mysources:tma`.
        source: The folder.
        options: How to read the source.

    Raises:
        DataError: If the function cannot be imported, or raises an exception; if it yields no rows,
            or something else; if the columns are wrong.
    """
    try:
        CODE_IMPORTER.allow_folders(code_folders(), [import_path], keeps_stored=True)
        rows = list(load_function(import_path)(source))
    except SpaceError as error:
        raise DataError(f"--format {error}") from error
    except (Exception, SystemExit) as error:  # code of the user's raises any class
        raise DataError(
            f"--format {import_path}: raises {type(error).__name__}: {first_line(error)}"
        ) from error
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise DataError(
            f"--format {import_path}: it must yield a mapping with path, label and patient for each"
            f" image of {source}"
        )
    columns = dict.fromkeys(str(column) for row in rows for column in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writeheader()
    writer.writerows({str(key): _text(value) for key, value in row.items()} for row in rows)
    return list_rows(f"--format {import_path}", text.getvalue(), Folder(source), options.classes)


def _text(value: object) -> str:
    return "" if value is None else str(value)
