"""Patch classifiers: network architectures, preprocessing, pretrained weights, Grad-CAM."""

from collections.abc import Mapping

from raysearch.config.hyperparameter_spec import Value

PatchShape = tuple[int, int, int]  # (height, width, channels)
Hparams = Mapping[str, Value]  # the hyperparameters of a trial, by name
