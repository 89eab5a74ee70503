"""Records studies in MLflow: their runs, and their models in the registry.

No other package imports MLflow. MLflow starts its telemetry when it is imported, so this package
turns it off before.
"""

from raysearch.config.telemetry import turn_off_telemetry

turn_off_telemetry()
