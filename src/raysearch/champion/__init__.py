"""The champion of a study: its training on all patients or repeats, its file, its registration."""
