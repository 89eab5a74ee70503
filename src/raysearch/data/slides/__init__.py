"""Reads whole slides, and what was drawn on them."""
