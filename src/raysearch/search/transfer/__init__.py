"""What a new search learns from the trials of earlier studies."""
