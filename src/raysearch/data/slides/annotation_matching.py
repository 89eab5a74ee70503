"""Finds the file with the annotations of each slide, by its name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from unicodedata import normalize

from raysearch.data.class_names import listed_names
from raysearch.data.files import Folder
from raysearch.data.slides.slide_names import slide_name
from raysearch.errors import DataError

XML_SUFFIX, GZIP_SUFFIX = ".xml", ".gz"
JSON_SUFFIXES = (".geojson", ".json")
SUFFIXES = (*JSON_SUFFIXES, XML_SUFFIX, *(f"{suffix}{GZIP_SUFFIX}" for suffix in JSON_SUFFIXES))


@dataclass(frozen=True)
class AnnotationFiles:
    """The files with annotations in a folder.

    Attributes:
        paths: The path of the file of each slide that has one, by the name of the slide.
        unmatched: The names of the files that are of no slide, relative to the folder, sorted.
    """

    paths: Mapping[str, str]
    unmatched: tuple[str, ...]


def annotation_suffix(name: str) -> str:
    """Return the suffix of a file of annotations, in lower case; empty for another file."""
    matching = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return max(matching, key=len, default="")


def find_annotations(folder: str, slides: Sequence[str]) -> AnnotationFiles:
    """Find the file with the annotations of each slide.

    The annotations of `a.svs` are `a.svs.geojson`, `a.geojson`, or another suffix of SUFFIXES. A
    file and a slide that are both in subfolders belong together only if these are equal. If the
    name of a file is that of several slides, it is of the slide in its own subfolder; likewise, if
    a slide has several files, the one in its subfolder is taken. What is ambiguous is an error,
    also if there are other files: with `a.svs.geojson` and `a.geojson`, nobody can say whether the
    second is of `a.svs` or of `a.ndpi`.

    Args:
        folder: The folder with the annotations.
        slides: The names of the slides, relative to their folder, such as `site1/a.svs`.

    Raises:
        DataError: If the folder does not exist, no file in it is of a slide, a slide has several
            files, or a file several slides.
    """
    root = Folder(folder)
    if not root.is_folder():
        raise DataError(f"{root.address}: not a folder; give the folder with the annotations")
    files = [
        name
        for name in root.file_names()
        if annotation_suffix(name) and not any(part.startswith(".") for part in name.split("/"))
    ]
    names = _match(root.address, files, slides)
    if not names:
        raise DataError(
            f"{folder}: no annotations of these slides in it (files: {listed_names(files)}); name"
            " them as the slides, such as a.geojson or a.svs.xml for a.svs"
        )
    matched = set(names.values())
    return AnnotationFiles(
        {slide: f"{root.address}/{name}" for slide, name in names.items()},
        tuple(name for name in files if name not in matched),
    )


def _match(folder: str, files: Sequence[str], slides: Sequence[str]) -> dict[str, str]:
    """Return the file of each slide that has one, in the order of the slides."""
    slides_by_name: dict[str, list[str]] = defaultdict(list)
    slides_by_stem: dict[str, list[str]] = defaultdict(list)
    for slide in dict.fromkeys(slides):
        path = PurePosixPath(normalize("NFC", slide))
        slides_by_name[path.name].append(slide)
        slides_by_stem[slide_name(path.name)].append(slide)
    files_of: dict[str, list[str]] = defaultdict(list)
    for name in files:
        base = normalize("NFC", PurePosixPath(name).name)
        key = base[: -len(annotation_suffix(base))]
        named = _in_folder(name, slides_by_name[key]) or _in_folder(name, slides_by_stem[key])
        if len(named) > 1:
            suffix = annotation_suffix(name)
            raise DataError(
                f"{folder}/{name}: could be of {' or '.join(sorted(named)[:2])}; name it as the"
                f" slide with its suffix, such as {PurePosixPath(named[0]).name}{suffix}, in a"
                " subfolder of the same name"
            )
        for slide in named:
            files_of[slide].append(name)
    return {
        slide: _only_file(folder, slide, files_of[slide]) for slide in slides if files_of[slide]
    }


def _only_file(folder: str, slide: str, names: Sequence[str]) -> str:
    """Return the file of a slide: if there are several, the one in the same subfolder."""
    names = _in_folder(slide, names)
    if len(names) > 1:
        raise DataError(
            f"{folder}: {len(names)} files for the slide {slide}: {listed_names(names)}; keep one"
            " of them"
        )
    return names[0]


def _in_folder(name: str, others: Sequence[str]) -> list[str]:
    """Return those of `others` that may belong to `name`, by their folders.

    Those in the same folder; if there are none, those where one of both is not in a subfolder.
    """
    parent, top = _parent(name), PurePosixPath()
    equal = [other for other in others if _parent(other) == parent]
    return equal or [other for other in others if top in (parent, _parent(other))]


def _parent(name: str) -> PurePosixPath:
    return PurePosixPath(normalize("NFC", name)).parent
