"""From image files to the rows of a study: sources, shards, split manifests and patches."""
