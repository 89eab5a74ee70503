"""Use of a trained model: loads it, scores patches, and renders Grad-CAM overlays."""
