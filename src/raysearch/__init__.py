"""Distributed hyperparameter search for breast-histology patch classifiers."""

__version__ = "0.1.0"
