"""Lists a folder of images without labels, to predict them."""

from __future__ import annotations

from pathlib import PurePosixPath
from unicodedata import normalize

from raysearch.data.images.decoding import is_image
from raysearch.data.sources.file_paths import list_files, require_folder
from raysearch.data.sources.listing import Item, Listing, Rejected, SourceOptions, divide
from raysearch.data.sources.patient_patterns import NO_PATIENT, find_patients
from raysearch.data.sources.tile_names import (
    LABEL_IMAGE,
    is_label_image,
    is_qupath_tile,
    tile_place,
)


def list_unlabeled_images(source: str, options: SourceOptions) -> Listing:
    """List all images in `source` and its subfolders.

    The slide of an image is that in the name of a tile of QuPath, or else its folder; for an image
    directly in `source`, it is its file name without the position. The slide counts as the patient
    unless `options.patient` finds one.
    """
    folder = require_folder(source)
    files, rejected = list_files(folder)
    patients = find_patients(options.patient, files)
    entries = [
        _parse(file, patient, options.patient is not None)
        for file, patient in zip(files, patients, strict=True)
    ]
    items, not_images = divide(entries)
    return Listing((), items, [*rejected, *not_images], folder=folder)


def _parse(file: str, patient: str, is_patient_required: bool) -> Item | Rejected:
    if not is_image(file):
        return Rejected(file, "no image by its name")
    if is_label_image(file):
        return Rejected(file, LABEL_IMAGE)
    if is_patient_required and not patient:
        return Rejected(file, NO_PATIENT)
    item = parse_unlabeled_path(file)
    return item._replace(patient=patient or item.patient)


def parse_unlabeled_path(file: str) -> Item:
    """Read the slide and, if its name contains it, the position of an image from its path."""
    path = PurePosixPath(file)
    folder = "" if path.parent == PurePosixPath() else normalize("NFC", path.parent.as_posix())
    stem = normalize("NFC", path.stem)
    place = tile_place(normalize("NFC", file), folder)
    if place is None:
        return Item(file, None, folder or stem, folder)
    slide = (not is_qupath_tile(file) and folder) or place.slide or stem
    return Item(file, None, slide, slide, place.x, place.y)
