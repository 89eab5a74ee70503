"""The shape of a patch: (height, width, channels)."""

Shape = tuple[int, int, int]
