"""What a set of shards holds, and what in it would make a result dishonest.

Measured row group by row group, judged by pure functions of arrays; nothing here prints.
"""
