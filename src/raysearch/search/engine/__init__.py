"""The only room that imports Ray."""

import os

# Under `uv run`, Ray would start each worker by another `uv run` in a copy of the working folder,
# where neither uv nor the packages are. Ray reads this once, when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
