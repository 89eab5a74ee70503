"""Architectures, by name."""
