"""Distributed hyperparameter search for breast-histology patch classifiers."""

import os

__version__ = "0.1.0"

# Threads of OpenMP, which torch uses, wait for each other in a loop before they sleep. By default
# that takes milliseconds, and on cores that other processes use, too, most of the time. OpenMP
# reads this when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
