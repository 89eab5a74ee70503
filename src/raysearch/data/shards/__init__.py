"""Shards: patches decoded once into Parquet files with a manifest."""
