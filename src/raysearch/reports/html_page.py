"""Pages that need nothing beside them, within one head and its styles, `page.html`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2


def rendered(template: Path, context: Mapping[str, Any]) -> str:
    """The page that `template` makes of `context`, as HTML."""
    folders = jinja2.FileSystemLoader([template.parent, Path(__file__).parent])
    environment = jinja2.Environment(autoescape=True, loader=folders)
    return environment.get_template(template.name).render(context)
