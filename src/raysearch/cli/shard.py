"""`raysearch shard`: decodes images once into Parquet shards."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import DepthOption, JsonOption, make_console
from raysearch.cli.progress_bar import file_progress, step_progress
from raysearch.errors import DataError
from raysearch.metrics.row_units import PATCHES

if TYPE_CHECKING:
    from raysearch.data.shards.shard_manifest import Manifest

SLIDES_PANEL = "Slides"
# `Path` removes one slash of an address such as s3://bucket.
ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")


def shard(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, an archive or a CSV file of images; PATIENTS:PATCHES:SEED generates"
            " synthetic patches; shards of an older format version are converted."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The new folder for the shards.")],
    source_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, folder, idc, pcam, pcam-kaggle, breakhis, tiles, synthetic, slides: files of"
            " scanners, which are cut into tiles; or features: a CSV file of slides whose features"
            " other tools have computed; or MODULE:FUNCTION, a function of your own. Default:"
            " detected.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="N or WxH. Default: the data set's own, or the most frequent; 224 for slides."
        ),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            help="For folder and slides: a regular expression whose first group is the patient."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="For folder, csv and slides: the classes in order, separated by commas."),
    ] = None,
    class_map: Annotated[
        str,
        typer.Option(
            help="New names of classes, such as adipose=benign,fibrous=benign; those with the same"
            " new name become one class."
        ),
    ] = "",
    center: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The labels are of the N x N pixels in the center of the patches; augmentations"
            " that move them out of view are then rejected. pcam and pcam-kaggle know it.",
        ),
    ] = None,
    magnification: Annotated[
        str | None, typer.Option(help="For breakhis: the magnifications, such as 40,100.")
    ] = None,
    official: Annotated[
        str | None,
        typer.Option(help="For pcam-kaggle: the folder of PCam's HDF5 and meta files."),
    ] = None,
    depth: DepthOption = None,
    root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="For csv and features: the folder to which paths are relative, and in which"
            " absolute paths must lie. Default: the folder of the CSV file.",
        ),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Leave out the patches that this file lists: one name in each line, or a .csv of"
            " `raysearch inspect --outliers-csv`.",
        ),
    ] = None,
    pseudonyms: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="Write pseudonyms instead of patients, slides and paths, by the key in this file."
            " It is created if it does not exist; keep it apart from the shards.",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(
            metavar="MICROMETRES",
            help="The side of a pixel of the tiles. Default: 0.5.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pixels by which neighboring tiles overlap. Default: 0.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    min_tissue: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="The smallest fraction of tissue of a tile. Default: 0.5.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    annotations: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A folder with polygons of QuPath (GeoJSON) or ASAP (XML), which give the tiles"
            " their classes.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A CSV file with the columns slide, and label, patient, site, scanner or split. A"
            " slide without annotations has this label in all of its tiles.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    min_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="The smallest fraction of a tile in the polygons of its class. Default: 0.5; with"
            " --center, one pixel.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="The class of the tiles in no polygon. Default: they are left out.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    assume_mpp: Annotated[
        float | None,
        typer.Option(
            metavar="MICROMETRES",
            help="The side of a pixel of slides that do not say it. Default: they are rejected.",
            rich_help_panel=SLIDES_PANEL,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Decode images into Parquet shards, once and on all cores.

    Example: `raysearch shard 24:1200:0 data/synthetic --format synthetic`
    """
    from raysearch.data.pseudonyms import read_key_file
    from raysearch.data.shards.shard_conversion import has_manifest_of_shards
    from raysearch.data.shards.sharding import parse_size, write_shards
    from raysearch.data.shards.source_names import SourceNames
    from raysearch.data.slides.slide_options import SLIDE_OPTIONS, slide_options
    from raysearch.data.sources.class_map import parse_class_map
    from raysearch.data.sources.exclusion import read_exclusion
    from raysearch.data.sources.feature_table import FEATURES_FORMAT
    from raysearch.data.sources.listing import SourceOptions

    if source_format == FEATURES_FORMAT:
        # It imports torch.
        from raysearch.models.bags.feature_shards import shard_features
    if ADDRESS.match(str(out)):
        raise DataError(
            f"{out}: shards are written to a local folder; name one, and copy it to the storage"
        )
    # The fields of `SlideOptions` that the user names.
    slide_values = {
        "mpp": mpp,
        "overlap": overlap,
        "min_tissue": min_tissue,
        "annotations": annotations,
        "labels": labels,
        "min_fraction": min_fraction,
        "background": background,
        "assumed_mpp": assume_mpp,
    }
    if has_manifest_of_shards(source):
        unused = (
            *(source_format, size, patient, classes, magnification, official, depth, pseudonyms),
            *(root, exclude, center, class_map or None, *slide_values.values()),
        )
        if any(value is not None for value in unused):
            raise DataError(
                f"{source}: shards are converted as they are; give no other option than --json"
            )
        return _convert(source, out, as_json)
    patch_size = None if size is None else parse_size(size)
    key = None
    if pseudonyms is not None:
        _reject_key_beside_shards(pseudonyms, out)
        key = read_key_file(pseudonyms)
    options = SourceOptions(
        patient=patient,
        classes=tuple(classes.split(",")) if classes else (),
        magnifications=_parse_magnifications(magnification),
        official=official,
        depth=depth,
        exclusion=None if exclude is None else read_exclusion(exclude, key),
        root=root,
        class_map=parse_class_map(class_map),
        center=center,
        slides=slide_options(slide_values),
    )
    if source_format == FEATURES_FORMAT:
        _reject_image_options(
            *(size, patient, magnification, official, depth, exclude, class_map or None, center),
            *(slide_values[name] for name in SLIDE_OPTIONS.values()),
        )
    names = SourceNames(key)
    try:
        with step_progress("Sharding") as on_progress:
            if source_format == FEATURES_FORMAT:
                manifest = shard_features(source, out, options, names, on_progress)
            else:
                manifest = write_shards(
                    source,
                    out,
                    source_format,
                    size=patch_size,
                    options=options,
                    names=names,
                    progress=on_progress,
                )
    except KeyboardInterrupt:
        _advise_continuation(
            out, "Interrupted; the finished shards are in {}. Run the same command to continue."
        )
        raise
    except DataError:
        _advise_continuation(
            out, "Finished shards are in {}; the command that wrote them continues there."
        )
        raise
    print_manifest(source, out, manifest, as_json)
    return 0


def _reject_image_options(*values: object) -> None:
    from raysearch.data.slides.slide_options import SLIDE_OPTIONS

    options = (
        *("--size", "--patient", "--magnification", "--official", "--depth", "--exclude"),
        *("--class-map", "--center", *SLIDE_OPTIONS),
    )
    for option, value in zip(options, values, strict=True):
        if value is not None:
            raise DataError(f"{option}: has no effect with format features; remove it")


def _convert(source: str, out: Path, as_json: bool) -> int:
    """Convert the shards at `source`; the exit code is 0."""
    from raysearch.data.splits.data_set_conversion import convert_data_set

    with file_progress("Converting", PATCHES) as update:
        manifest, left_out = convert_data_set(source, out, update)
    print_manifest(source, out, manifest, as_json)
    for message in left_out:
        sys.stderr.write(f"raysearch: not converted: {message}\n")
    return 0


def _advise_continuation(out: Path, text: str) -> None:
    """Print `text` with the folder of the finished shards, if there are any."""
    from raysearch.data.atomic_directory import unfinished_path
    from raysearch.data.shards.unfinished_shards import has_finished_shards

    folder = unfinished_path(out)
    if has_finished_shards(folder):
        sys.stderr.write(f"{text.format(folder)}\n")


def print_manifest(source: str, out: Path, manifest: Manifest, as_json: bool) -> None:
    """Print what is in the folder `out` of shards, as a table or as JSON."""
    if as_json:
        sys.stdout.write(json.dumps(json.loads(manifest.dump())) + "\n")
    else:
        make_console().print(_table(source, out, manifest))


def _reject_key_beside_shards(key_file: Path, out: Path) -> None:
    """Reject a key in the folder of the shards: whoever copies the folder would have both."""
    if key_file.resolve().is_relative_to(out.resolve()):
        raise DataError(
            f"--pseudonyms {key_file}: in the folder of the shards; name a file that is kept apart"
        )


def _table(source: str, out: Path, manifest: Manifest) -> Table:
    class_counts = zip(manifest.class_names, manifest.class_counts, strict=True)
    rows = {
        "files": f"{manifest.files:,}",
        manifest.unit: f"{manifest.rows:,}: "
        + (", ".join(f"{count:,} {name}" for name, count in class_counts) or "without a class"),
        "rejected": f"{manifest.rejected:,}"
        + (f", see {out}/rejected.csv" if manifest.rejected else ""),
        "left out": f"{len(manifest.excluded):,} of them by --exclude, see the manifest"
        if manifest.excluded
        else "",
        "patients": f"{manifest.patients:,}",
        **_size_rows(manifest),
        "images": _counts(manifest.image_changes),
        "not decoded": _counts(manifest.rejections),
        "shards": f"{len(manifest.shards)} in {out}",
    }
    if manifest.pseudonyms:
        rows["pseudonyms"] = f"of patients, slides and paths, by key {manifest.pseudonyms}"
    table = Table(title=f"Sharded {escape(source)}", title_justify="left", show_header=False)
    for name, text in rows.items():
        if text:
            table.add_row(name, escape(text))
    for warning in manifest.warnings:
        table.add_row("[yellow]warning[/]", escape(warning))
    return table


def _size_rows(manifest: Manifest) -> dict[str, str]:
    height, width, _channels = manifest.shape
    if not manifest.is_bags:
        size = f"{width}x{height}: {_counts(manifest.resize_modes)}"
        if manifest.center is None:
            return {"size": size}
        return {"size": size, "labels": f"of the {manifest.center} pixels in the center"}
    patches = f"{manifest.num_patches:,}, {height:,} of the median slide"
    return {"patches": patches, "features": f"{width:,} of each patch"}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _parse_magnifications(text: str | None) -> tuple[int, ...]:
    words = text.split(",") if text else []
    if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        raise DataError(f"--magnification {text!r}: not numbers; give such as 40,100")
    return tuple(map(int, words))
