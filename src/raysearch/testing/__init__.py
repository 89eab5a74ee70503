"""Evaluation of a champion on the held-out test set and on external test sets."""
