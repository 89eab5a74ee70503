"""Features of frozen encoders: computed once on a node, and classified by heads."""
