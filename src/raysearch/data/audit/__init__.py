"""The audit of a set of shards: counts, outliers, duplicates, contradictory labels and leakage.

The modules measure row group by row group and return values; nothing here prints.
"""
