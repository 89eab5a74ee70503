"""Runs studies on Ray; no other package imports Ray."""

import os

# Under `uv run`, Ray would start each worker by another `uv run` in a copy of the working
# directory, which has neither uv nor the packages. Ray reads this once, when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
