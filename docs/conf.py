"""Sphinx configuration: MyST Markdown, the PyData theme, reference pages generated from code."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "raysearch"
author = "The raysearch developers"
project_copyright = "2026, The raysearch developers"

extensions = ["myst_parser", "raysearch_reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = True

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "raysearch"
html_static_path = ["_static"]
html_css_files = ["raysearch.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without a section of their own have nothing to navigate there.
html_sidebars = {
    name: [] for name in ("index", "tutorial", "limits", "glossary", "search", "genindex")
}
