"""Pages for readers: the report of a study, audits, published results, and the model card."""
