"""Proposes hyperparameters; the only package that imports Optuna."""
