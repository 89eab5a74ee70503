"""Patch classifiers: network architectures, preprocessing, pretrained weights, Grad-CAM."""

PatchShape = tuple[int, int, int]  # (height, width, channels)
