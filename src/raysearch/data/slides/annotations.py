"""Reads what was drawn on a slide in QuPath or ASAP.

The regions of a file are polygons with a class, in pixels of level 0 of its slide.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import replace

from raysearch.data.class_names import check_class_names
from raysearch.data.files import Folder
from raysearch.data.quantities import quantity
from raysearch.data.slides.annotated_regions import (
    EXPORT_ADVICE,
    MAX_BYTES,
    AnnotatedRegion,
    SlideAnnotations,
)
from raysearch.data.slides.annotation_matching import (
    GZIP_SUFFIX,
    SUFFIXES,
    XML_SUFFIX,
    annotation_suffix,
)
from raysearch.data.slides.asap_annotations import parse_asap
from raysearch.data.slides.geojson_annotations import parse_geojson
from raysearch.data.slides.polygons import check_shapely
from raysearch.errors import DataError, first_line

__all__ = [
    "AnnotatedRegion",
    "SlideAnnotations",
    "check_in_slide",
    "read_annotations",
]

ANNOTATIONS = "the annotations"
# A polygon that ends this far outside of the slide, in pixels, was drawn along its edge.
EDGE_TOLERANCE = 1.0


def read_annotations(path: str) -> SlideAnnotations:
    """Read the regions of a slide.

    Args:
        path: A file of QuPath (`.geojson`, `.json`, also with `.gz`) or of ASAP (`.xml`).

    Returns:
        The regions in the order of the file, and a warning for each kind of object that was left
        out or repaired.

    Raises:
        DataError: If it cannot be read, is none of these formats, is too large, has too many
            classes or two that differ only in case, or a polygon without finite coordinates or
            whose repair would take too long.
        StorageError: If its object store cannot be reached.
    """
    check_shapely()
    suffix = annotation_suffix(path)
    if not suffix:
        raise DataError(f"{path}: not a file of annotations; give {', '.join(SUFFIXES)}")
    content = _read(path, suffix.endswith(GZIP_SUFFIX))
    parse = parse_asap if suffix == XML_SUFFIX else parse_geojson
    annotations = parse(content, path)
    check_class_names(path, annotations.class_names, ANNOTATIONS)
    return annotations


def _read(path: str, is_gzip: bool) -> bytes:
    """Return the content of a file, unpacked: at most MAX_BYTES + 1 bytes."""
    parent, _, name = path.rpartition("/")
    try:
        folder = Folder(parent or ("/" if path.startswith("/") else "."))
        content = folder.read(name, MAX_BYTES, EXPORT_ADVICE)
        if not is_gzip:
            return content
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
            return unpacked.read(MAX_BYTES + 1)
    # ValueError: a path with NUL, or with characters that no file system has.
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)}); correct it") from None


def check_in_slide(
    path: str, annotations: SlideAnnotations, width: int, height: int
) -> SlideAnnotations:
    """Leave out the regions outside of a slide, with a warning.

    Args:
        path: The file of the annotations, for messages.
        annotations: The annotations.
        width: The width of the slide in pixels of level 0.
        height: Its height.

    Returns:
        The annotations with the regions that have an area in the slide, unchanged.

    Raises:
        DataError: If there are regions, and none of them is in the slide.
    """
    import shapely

    geometries = [region.geometry for region in annotations.regions]
    if not geometries:
        return annotations
    bounds = shapely.bounds(geometries)
    inside = (bounds[:, :2] < (width, height)).all(1) & (bounds[:, 2:] > 0).all(1)
    crossing = inside & (
        (bounds[:, :2] < -EDGE_TOLERANCE).any(1)
        | (bounds[:, 2:] > (width + EDGE_TOLERANCE, height + EDGE_TOLERANCE)).any(1)
    )
    # The bounds of an L around a corner are inside, and its area may not be.
    slide = shapely.box(0, 0, width, height)
    for index in crossing.nonzero()[0]:
        inside[index] = shapely.area(shapely.intersection(geometries[index], slide)) > 0
    size = f"the slide of {width:,} x {height:,} pixels"
    if not inside.any():
        is_single = len(geometries) == 1
        subject = "its only region is" if is_single else f"all {len(geometries):,} regions are"
        raise DataError(
            f"{path}: {subject} outside of {size}; these are annotations of another slide, or not"
            " in pixels of its level 0"
        )
    warnings = list(annotations.warnings)
    if not inside.all():
        outside = quantity(int((~inside).sum()), "region")
        warnings.append(f"{path}: {outside} left out: outside of {size}")
    if (crossing & inside).any():
        number = quantity(int((crossing & inside).sum()), "region")
        warnings.append(f"{path}: {number} with a part outside of {size}")
    pairs = zip(annotations.regions, inside, strict=True)
    regions = tuple(region for region, is_inside in pairs if is_inside)
    return replace(annotations, regions=regions, warnings=tuple(warnings))
