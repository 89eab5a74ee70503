"""Selects the champion among the finished trials, and compares values of hyperparameters."""
