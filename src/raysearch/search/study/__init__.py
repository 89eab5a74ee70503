"""A study: its plan, its files, its lock, and what its launcher records."""
