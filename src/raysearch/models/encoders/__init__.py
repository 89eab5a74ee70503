"""Pretrained encoders of pathology: their table, their files, and the networks built from them."""
