"""From a net trained on other images to one that learns these: its head, weights, layers."""
