"""A reader of slides whose process ends at once for one of them, as by a fault of a library."""

from __future__ import annotations

import os

from raysearch.data.slides.slide_tiles import SlideRequest, SlideTiles, find_tiles


def exit_on_case1(request: SlideRequest) -> SlideTiles | str:
    """Find the tiles of a slide; end the process if it is `case1`."""
    if "case1" in request.path:
        os._exit(1)
    return find_tiles(request)
