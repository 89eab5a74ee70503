"""Sources -> shards -> splits -> batches."""
