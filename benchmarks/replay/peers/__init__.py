"""The peers, one file each: the library's own code decides, this only hands it what happened.

Each file has `method(ranges, seed)` and `LIBRARIES`, whose versions its results depend on.
"""
