"""Transfer learning: pretrained weights, input normalization, heads and blocks."""
