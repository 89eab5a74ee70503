"""`python -m raysearch` is the command `raysearch`."""

from raysearch.cli import main

main()
