"""Reads what was drawn on slides in QuPath or ASAP, and finds the file of each slide.

The regions of a file are polygons with a class, in pixels of level 0 of its slide.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO
from unicodedata import normalize

from raysearch.data.files import Folder
from raysearch.data.slides.annotated_regions import (
    AnnotatedRegion,
    SlideAnnotations,
    check_shapely,
    counted,
)
from raysearch.data.slides.asap_annotations import parse_asap
from raysearch.data.slides.geojson_annotations import parse_geojson
from raysearch.errors import DataError, first_line, shortened

__all__ = [
    "AnnotatedRegion",
    "SlideAnnotations",
    "check_annotated_classes",
    "check_in_slide",
    "find_annotations",
    "read_annotations",
    "unmatched_annotations",
]

XML_SUFFIX, GZIP_SUFFIX = ".xml", ".gz"
JSON_SUFFIXES = (".geojson", ".json")
SUFFIXES = (*JSON_SUFFIXES, XML_SUFFIX, *(f"{suffix}{GZIP_SUFFIX}" for suffix in JSON_SUFFIXES))
# Python needs about ten times as much memory for parsed JSON. Files of drawn regions have a few
# megabytes; larger ones have the detected cells of a slide.
MAX_BYTES = 512 * 2**20
# A polygon that ends this far outside of the slide, in pixels, was drawn along its edge.
EDGE_TOLERANCE = 1.0
MAX_NAMES = 5


def read_annotations(path: str) -> SlideAnnotations:
    """Read the regions of a slide.

    Args:
        path: A file of QuPath (`.geojson`, `.json`, also with `.gz`) or of ASAP (`.xml`).

    Returns:
        The regions in the order of the file, and a warning for each kind of object that was left
        out or repaired.

    Raises:
        DataError: If it cannot be read, is none of these formats, is too large, or has a polygon
            without finite coordinates.
    """
    check_shapely()
    suffix = _suffix(path)
    if not suffix:
        raise DataError(f"{path}: not a file of annotations; give {', '.join(SUFFIXES)}")
    content = _read(path, suffix.endswith(GZIP_SUFFIX))
    if suffix == XML_SUFFIX:
        return parse_asap(io.BytesIO(content), path)
    return parse_geojson(content, path)


def _suffix(name: str) -> str:
    """Return the suffix of a file of annotations, in lower case; empty for another file."""
    matching = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return max(matching, key=len, default="")


def _read(path: str, is_gzip: bool) -> bytes:
    parent, _, name = path.rpartition("/")
    try:
        with Folder(parent or ("/" if path.startswith("/") else ".")).open(name) as file:
            content = _content(file, is_gzip)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)}); correct it") from None
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{path}: more than {MAX_BYTES // 2**20} MB; export the annotations without the"
            " detections"
        )
    return content


def _content(file: IO[bytes], is_gzip: bool) -> bytes:
    """Return at most MAX_BYTES + 1 bytes of a file, unpacked."""
    if not is_gzip:
        return file.read(MAX_BYTES + 1)
    with gzip.GzipFile(fileobj=file) as unpacked:
        return unpacked.read(MAX_BYTES + 1)


def find_annotations(folder: str, slides: Sequence[str]) -> dict[str, str]:
    """Find the file with the annotations of each slide, by its name.

    The annotations of `a.svs` are `a.svs.geojson`, `a.geojson`, or another suffix of SUFFIXES, in
    the folder or below. If several slides have that name, they are the ones in the same subfolder.

    Args:
        folder: The folder with the annotations.
        slides: The names of the slides, relative to their folder, such as `site1/a.svs`.

    Returns:
        The path of the annotations of each slide that has any.

    Raises:
        DataError: If the folder does not exist, no file in it is of a slide, a slide has several
            files, or a file several slides.
    """
    root = Folder(folder)
    files = _annotation_files(root)
    matches = _match(folder, files, slides)
    if not matches:
        listed = ", ".join(files[:MAX_NAMES]) or "none"
        raise DataError(
            f"{folder}: no annotations of these slides in it (files: {listed}); name them as the"
            " slides, such as a.geojson or a.svs.xml for a.svs"
        )
    return {slide: f"{root.address}/{name}" for slide, name in matches.items()}


def unmatched_annotations(folder: str, slides: Sequence[str]) -> tuple[str, ...]:
    """Return the files with annotations of no slide, for a warning.

    Args:
        folder: The folder with the annotations.
        slides: The names of the slides, as for `find_annotations`.
    """
    files = _annotation_files(Folder(folder))
    matched = set(_match(folder, files, slides).values())
    return tuple(name for name in files if name not in matched)


def _annotation_files(root: Folder) -> list[str]:
    if not root.is_folder():
        raise DataError(f"{root.address}: not a folder; give the folder with the annotations")
    return [
        name
        for name in root.file_names()
        if _suffix(name) and not any(part.startswith(".") for part in name.split("/"))
    ]


def _match(folder: str, files: Sequence[str], slides: Sequence[str]) -> dict[str, str]:
    """Return the file of each slide that has one."""
    files_of: dict[str, list[str]] = defaultdict(list)
    for name in files:
        base = PurePosixPath(name).name
        files_of[_key(base[: -len(_suffix(base))])].append(name)
    candidates: dict[str, list[str]] = {}
    for slide in slides:
        path = PurePosixPath(slide)
        names = files_of[_key(path.name)] or files_of[_key(path.stem)]
        in_same_folder = [name for name in names if PurePosixPath(name).parent == path.parent]
        if len(names) > 1 and in_same_folder:
            names = in_same_folder
        if len(names) > 1:
            raise DataError(
                f"{folder}: {len(names)} files for the slide {slide} ({', '.join(sorted(names))});"
                " keep one of them"
            )
        if names:
            candidates[slide] = names
    return _one_slide_per_file(folder, {slide: names[0] for slide, names in candidates.items()})


def _one_slide_per_file(folder: str, matches: Mapping[str, str]) -> dict[str, str]:
    """Return the matches; a file of several slides is that of the slide in the same subfolder."""
    slides_of: dict[str, list[str]] = defaultdict(list)
    for slide, name in matches.items():
        slides_of[name].append(slide)
    for name, named in slides_of.items():
        if len(named) > 1:
            parent = PurePosixPath(name).parent
            in_same_folder = [slide for slide in named if PurePosixPath(slide).parent == parent]
            if len(in_same_folder) != 1:
                raise DataError(
                    f"{folder}/{name}: could be of {' or '.join(sorted(named))}; name it as the"
                    f" slide with its suffix, such as {PurePosixPath(named[0]).name}{_suffix(name)}"
                )
            slides_of[name] = in_same_folder
    return {slide: name for slide, name in matches.items() if slide in slides_of[name]}


def _key(name: str) -> str:
    return normalize("NFC", name)


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
        raise DataError(
            f"{path}: all {counted(len(geometries), 'region')} are outside of {size}; they are"
            " annotations of another slide, or not in pixels of its level 0"
        )
    warnings = list(annotations.warnings)
    if not inside.all():
        outside = counted(int((~inside).sum()), "region")
        warnings.append(f"{path}: {outside} left out: outside of {size}")
    if (crossing & inside).any():
        number = counted(int((crossing & inside).sum()), "region")
        warnings.append(f"{path}: {number} with a part outside of {size}")
    pairs = zip(annotations.regions, inside, strict=True)
    regions = tuple(region for region, is_inside in pairs if is_inside)
    return replace(annotations, regions=regions, warnings=tuple(warnings))


def check_annotated_classes(
    classes: Sequence[str], annotations: Mapping[str, SlideAnnotations]
) -> None:
    """Check that each of `classes` is drawn on some slide.

    Args:
        classes: The classes that the user names.
        annotations: The annotations of each slide.

    Raises:
        DataError: If one of them is on no slide.
    """
    names = {name for slide in annotations.values() for name in slide.class_names}
    for class_name in classes:
        if class_name not in names:
            listed = ", ".join(map(repr, sorted(names))) or "none"
            raise DataError(
                f"class {shortened(class_name, 60)!r}: in the annotations of no slide; they have"
                f" {listed}"
            )
