"""What studies, tasks and split manifests may be called: they become names of files and runs."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
