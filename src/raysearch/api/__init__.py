"""The Python API: launch a search, and work with a study, from a script or a notebook."""

from raysearch.api.launching import launch
from raysearch.api.loaded_study import ChampionSummary, Study, load
from raysearch.api.search_space import Space

__all__ = ["ChampionSummary", "Space", "Study", "launch", "load"]
