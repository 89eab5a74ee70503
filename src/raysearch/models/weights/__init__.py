"""Files of pretrained weights: where they are found, how they are read, and their licenses."""
