"""Split manifests: the held-out test set, cross-validation folds and the test-set access log."""
