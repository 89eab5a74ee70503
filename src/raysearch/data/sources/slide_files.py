"""Lists whole slides as their tiles: those with tissue, each with its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from raysearch.data.class_names import listed_names
from raysearch.data.csv_files import clean_name
from raysearch.data.files import Folder
from raysearch.data.isolated_subprocess import IsolatedProcessError, run_isolated
from raysearch.data.quantities import quantity
from raysearch.data.slides.annotation_matching import AnnotationFiles, find_annotations
from raysearch.data.slides.slide_names import slide_name
from raysearch.data.slides.slide_reader import check_slide_libraries
from raysearch.data.slides.slide_table import SlideRow, SlideTable, read_slide_table
from raysearch.data.slides.slide_tiles import SlideRequest, SlideTiles, find_tiles, series_of
from raysearch.data.sources.class_map import check_class_map
from raysearch.data.sources.file_paths import list_files, require_folder, visible_names
from raysearch.data.sources.listing import (
    Item,
    Listing,
    Rejected,
    SlideGrids,
    SourceOptions,
)
from raysearch.data.sources.patient_patterns import NO_PATIENT, find_patients
from raysearch.data.step_progress import StepProgress
from raysearch.errors import DataError, shortened

# Files that only scanners write, and formats that other programs write, too. A folder with images
# is one of images, also if there is a slide in it.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
SCANNER_SUFFIXES = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide"),
    *(".dcm", ".czi"),
)
SUFFIXES = (*SCANNER_SUFFIXES, ".tif", ".tiff", ".btf")
DICOM_SUFFIX = ".dcm"
READING, SLIDES = "Reading the slides", "slides"
CONTACT_SHEETS = "contact_sheets"
UNKNOWN_SLIDE_PATIENTS = (
    "no patient is known: each slide counts as its own patient, so slides of one patient may be on"
    " both sides of a split, which makes every score too optimistic; give --patient, or a column"
    " `patient` in --labels"
)
# The limits of a process that reads a slide alone, after another process crashed.
READER_S, READER_BYTES = 600.0, 16 * 2**30
T = TypeVar("T")
R = TypeVar("R")


def is_slides(source: str) -> bool:
    """Whether `source` is a folder with files of scanners in it, and no images."""
    folder = Folder(source)
    if not folder.is_folder():
        return False
    suffixes = {PurePosixPath(name).suffix.lower() for name in visible_names(folder)}
    return not suffixes.isdisjoint(SCANNER_SUFFIXES) and suffixes.isdisjoint(IMAGE_SUFFIXES)


def list_slides(source: str, options: SourceOptions) -> Listing:
    """List the tiles of the slides in a folder and its subfolders.

    A slide is named by its path without the suffix. Its tiles have the class of the regions in
    which they lie, if it has annotations, or the class of the slide in the table. The slides are
    read by the processes of `options.executor`.

    Raises:
        DataError: If an option, the table or annotations cannot be used, two slides have one name,
            or a library is not installed. A single slide that cannot be used is rejected.
    """
    check_slide_libraries()
    slide_options = replace(options.slides, center=options.center)
    slide_options.check()
    classes = tuple(map(clean_name, options.classes))
    if classes:
        check_class_map(source, options.class_map, classes)
    options = replace(options, slides=slide_options, classes=classes)
    folder = require_folder(source)
    if not folder.is_local:
        raise DataError(f"{source}: slides are read from a local folder; copy them to one")
    all_files, rejected = list_files(folder)
    files = [name for name in all_files if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not files:
        raise DataError(f"{source}: no slides in it; give a folder with {', '.join(SUFFIXES)}")
    files = _first_of_series(folder, files, options)
    _reject_equal_names(source, files)
    slides, more_rejected, table, annotations = _described(files, options)
    requests = [_request(folder, slide, number, options) for number, slide in enumerate(slides)]
    usable: list[tuple[_Slide, SlideTiles]] = []
    sheets: dict[str, Path] = {}
    results = _map(find_tiles, requests, options, READING)
    for slide, request, result in zip(slides, requests, results, strict=True):
        if isinstance(result, str):
            more_rejected.append(Rejected(slide.file, result))
            continue
        usable.append((slide, result))
        if request.sheet is not None:
            sheets[slide_name(slide.file)] = request.sheet
    class_names = _class_names(source, options, [tiles for _slide, tiles in usable])
    numbers = {name: number for number, name in enumerate(class_names)}
    items = [item for slide, tiles in usable for item in _items(slide, tiles, numbers)]
    grids = {slide_name(slide.file): tiles.grid for slide, tiles in usable}
    return Listing(
        class_names,
        items,
        [*rejected, *more_rejected],
        size=slide_options.size,
        warnings=tuple(_warnings(usable, table, annotations, options)),
        folder=folder,
        center=slide_options.center,
        slides=SlideGrids(grids, sheets, slide_options),
    )


@dataclass(frozen=True)
class _Slide:
    """A slide: its file, the row of the table, its patient, and the file of its annotations."""

    file: str
    row: SlideRow
    patient: str
    annotations: str | None


def _first_of_series(folder: Folder, files: Sequence[str], options: SourceOptions) -> list[str]:
    """Return the files without the further ones of a DICOM series."""
    dicom = [name for name in files if name.lower().endswith(DICOM_SUFFIX)]
    paths = [folder.path(name) for name in dicom]
    names = zip(dicom, _map(series_of, paths, options, "Reading DICOM series"), strict=True)
    first: dict[tuple[str, str], str] = {}
    repeated = set()
    for name, series in names:
        if series:
            key = (str(PurePosixPath(name).parent), series)
            if first.setdefault(key, name) != name:
                repeated.add(name)
    return [name for name in files if name not in repeated]


def _reject_equal_names(source: str, files: Sequence[str]) -> None:
    slides: dict[str, str] = {}
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    for file in files:
        if f"{slide_name(file)}.png" in folders:
            raise DataError(
                f"{source}: the folder {slide_name(file)}.png has the name of a contact sheet;"
                " rename it"
            )
        first = slides.setdefault(slide_name(file), file)
        if first != file:
            raise DataError(
                f"{source}: {first} and {file} are slides of one name; rename one, or move it to a"
                " subfolder"
            )


def _described(
    files: Sequence[str], options: SourceOptions
) -> tuple[list[_Slide], list[Rejected], SlideTable | None, AnnotationFiles | None]:
    """Return the slides with what the table, the annotations and the pattern say about them."""
    slide_options = options.slides
    table = None if slide_options.labels is None else read_slide_table(slide_options.labels, files)
    annotations = (
        None
        if slide_options.annotations is None
        else find_annotations(slide_options.annotations, files)
    )
    if table is not None and options.patient is not None and "patient" in table.columns:
        raise DataError(
            f"--patient: {slide_options.labels} has a column `patient`; give one of them"
        )
    slides, rejected = [], []
    for file, patient in zip(files, find_patients(options.patient, files), strict=True):
        if table is not None and file not in table.rows:
            rejected.append(Rejected(file, "not in the table of --labels"))
            continue
        row = SlideRow() if table is None else table.rows[file]
        path = None if annotations is None else annotations.paths.get(file)
        if options.patient is not None and not patient:
            rejected.append(Rejected(file, NO_PATIENT))
        elif annotations is not None and path is None and not row.label:
            rejected.append(Rejected(file, "no annotations, and no label in --labels"))
        elif options.classes and path is None and row.label and row.label not in options.classes:
            rejected.append(
                Rejected(file, f"its label {shortened(row.label)!r} is not in --classes")
            )
        else:
            slides.append(_Slide(file, row, patient or row.patient or slide_name(file), path))
    return slides, rejected, table, annotations


def _request(folder: Folder, slide: _Slide, number: int, options: SourceOptions) -> SlideRequest:
    sheet = None
    if options.contact_sheets and options.scratch != Path():
        sheets = options.scratch / CONTACT_SHEETS
        sheets.mkdir(exist_ok=True)
        sheet = sheets / f"{number:06d}.png"
    return SlideRequest(
        folder.path(slide.file),
        options.slides,
        slide.annotations,
        slide.row.label or None,
        options.class_map,
        _new_names(options, options.classes),
        sheet,
    )


def _map(
    function: Callable[[T], R], arguments: Sequence[T], options: SourceOptions, step: str
) -> Iterator[R]:
    """Call a function for each argument, in the processes of the executor."""
    executor: Executor | None = options.executor
    results = map(function, arguments) if executor is None else executor.map(function, arguments)
    done = 0
    try:
        for result in results:
            done += 1
            options.progress(StepProgress(step, done, len(arguments), SLIDES))
            yield result
    except BrokenExecutor:
        raise _crash(function, arguments[done:]) from None


def _crash(function: Callable[[T], R], arguments: Sequence[T]) -> DataError:
    """Return the error that names the slide whose reader crashes.

    The processes read several slides at once, so each is read again by a process of its own.
    """
    for argument in arguments:
        path = argument.path if isinstance(argument, SlideRequest) else argument
        try:
            run_isolated(function, argument, timeout_s=READER_S, memory_bytes=READER_BYTES)
        except IsolatedProcessError as error:
            return DataError(f"{path}: cannot be read ({error}); remove the damaged slide")
    return DataError("a process that read slides was ended; free memory, and run the command again")


def _class_names(
    source: str, options: SourceOptions, slides: Sequence[SlideTiles]
) -> tuple[str, ...]:
    """Return the new names of the classes, in the order of the user, or of the old names.

    Raises:
        DataError: If the user names a class that no tile has, or renames one that does not exist.
    """
    used = {name for tiles in slides for name in tiles.class_names if name is not None}
    old_names = sorted({name for tiles in slides for name in tiles.old_names})
    if slides and not options.classes:
        check_class_map(source, options.class_map, old_names)
    names = _new_names(options, options.classes or old_names)
    if not options.classes:
        return tuple(name for name in names if name in used)
    for name in names:
        if slides and name not in used:
            raise DataError(
                f"--classes: no tile is of class {shortened(name)!r}; the tiles are of"
                f" {listed_names(sorted(used))}"
            )
    return names


def _new_names(options: SourceOptions, old_names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(options.class_map.get(name, name) for name in old_names))


def _items(slide: _Slide, tiles: SlideTiles, numbers: dict[str, int]) -> Iterator[Item]:
    """Yield the tiles of a slide, row by row."""
    name, grid = slide_name(slide.file), tiles.grid
    width, height = map(round, grid.side)
    scanner = slide.row.scanner or tiles.scanner
    for x, y, tissue, class_name in zip(
        tiles.left.tolist(),
        tiles.top.tolist(),
        tiles.tissue.tolist(),
        tiles.class_names,
        strict=True,
    ):
        yield Item(
            file=f"{slide.file}#x={x},y={y},w={width},h={height}",
            label=None if class_name is None else numbers[class_name],
            patient=slide.patient,
            slide=name,
            x=x,
            y=y,
            site=slide.row.site,
            magnification=grid.magnification,
            split=slide.row.split,
            mpp=grid.mpp,
            tissue=tissue,
            scanner=scanner,
            downsample=grid.pixel_size,
        )


def _warnings(
    usable: Sequence[tuple[_Slide, SlideTiles]],
    table: SlideTable | None,
    annotations: AnnotationFiles | None,
    options: SourceOptions,
) -> Iterator[str]:
    if usable and options.patient is None and not any(slide.row.patient for slide, _ in usable):
        yield UNKNOWN_SLIDE_PATIENTS
    elif usable and options.patient is None:
        blank = sum(not slide.row.patient for slide, _tiles in usable)
        if blank:
            yield (
                f"{quantity(blank, 'slide')} without a patient in --labels: each counts as its own"
                " patient"
            )
    if table is not None and table.unmatched:
        yield (
            f"{quantity(len(table.unmatched), 'slide')} of --labels not in the folder, such as"
            f" {shortened(table.unmatched[0])!r}"
        )
    if annotations is not None and annotations.unmatched:
        yield (
            f"{quantity(len(annotations.unmatched), 'file')} of --annotations of no slide, such as"
            f" {shortened(annotations.unmatched[0])!r}"
        )
    # With pseudonyms, what is between quotation marks is hidden.
    for slide, tiles in usable:
        for warning in tiles.warnings:
            text = warning.removeprefix(f"{slide.annotations}: ")
            yield f"annotations of {slide.file!r}: {text}"
    num_unlabeled = sum(tiles.num_unlabeled for _slide, tiles in usable)
    if num_unlabeled:
        yield (
            f"{quantity(num_unlabeled, 'tile')} with tissue left out, which are in no region of a"
            " class that is used"
        )
    conflicts = Counter({slide.file: tiles.num_conflicts for slide, tiles in usable})
    if conflicts.total():
        file, count = conflicts.most_common(1)[0]
        yield (
            f"{quantity(conflicts.total(), 'tile')} where regions of two classes overlap, most of"
            f" them ({count:,}) in {file!r}"
        )
