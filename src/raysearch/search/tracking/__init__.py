"""Records studies in MLflow: their runs, and their models in the registry.

No other package imports MLflow.
"""
