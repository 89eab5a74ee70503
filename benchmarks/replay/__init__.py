"""The quality of a search, on replayed real learning curves. See run.py."""
