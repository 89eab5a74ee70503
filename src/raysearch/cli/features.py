"""`raysearch features`: computes the features of the patches of slides with a frozen network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysearch.cli.options import JsonOption, make_console
from raysearch.cli.progress_bar import file_progress
from raysearch.cli.shard import print_manifest
from raysearch.errors import DataError
from raysearch.metrics.row_units import PATCHES

if TYPE_CHECKING:
    from raysearch.config.hyperparameter_spec import Value

LEVELS = ("slide", "patient")


def features(
    data: Annotated[str, typer.Argument(metavar="SHARDS", help="Shards of patches.")],
    out: Annotated[Path, typer.Argument(help="The new folder for the features.")],
    architecture: Annotated[
        str,
        typer.Option(
            help="A network with pretrained weights, or an encoder: a name such as uni2-h,"
            " hf-hub:OWNER/NAME, or a folder."
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(help="imagenet or a file. Default: imagenet; of an encoder, its own weights."),
    ] = None,
    input_size: Annotated[
        int,
        typer.Option(help="The side to which patches are resized. Default: as `input_size`."),
    ] = 0,
    depth_features: Annotated[
        str,
        typer.Option(
            "--features", help="last, or multi: also the means of three depths before it."
        ),
    ] = "last",
    label_level: Annotated[
        str,
        typer.Option(help="slide or patient: what has one label, and becomes one row."),
    ] = "slide",
    task: Annotated[str, typer.Option(help="The task whose labels are kept.")] = "label",
    as_json: JsonOption = False,
) -> int:
    """Compute the features of the patches of each slide once.

    They are written as shards of slides, and
    `raysearch launch searchspace/slides-mil.yaml --data OUT` searches classifiers of the slides.
    Features that were computed before are read from the cache; an interrupted call continues.

    Example: `raysearch features data/tiles data/slides --architecture mobilenet_v2`
    """
    if label_level not in LEVELS:
        raise DataError(f"--label-level {label_level!r}: unknown; give {' or '.join(LEVELS)}")
    hparams: dict[str, Value] = {"architecture": architecture, "features": depth_features}
    hparams |= {"input_size": input_size} if input_size else {}
    with make_console(stderr=True).status("Importing torch"):
        from raysearch.config.names import IMAGENET, PRETRAINED, is_encoder
        from raysearch.training.features.slide_features import (
            SlideFeatureRequest,
            write_slide_features,
        )
    hparams["weights"] = weights or (PRETRAINED if is_encoder(architecture) else IMAGENET)
    request = SlideFeatureRequest(data, task, label_level, hparams)
    with file_progress("Computing features", PATCHES) as on_rows:
        manifest = write_slide_features(request, out, on_rows)
    print_manifest(data, out, manifest, as_json)
    return 0
