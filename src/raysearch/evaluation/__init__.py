"""From finished trials to a model."""
