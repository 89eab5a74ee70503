"""`raysearch export`: writes a model for other programs, as an ONNX file or a folder of WSInfer."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    JsonOption,
    StudiesOption,
    check_out_folder,
    make_console,
    trust_stored_code,
)
from raysearch.errors import DataError, UserError

if TYPE_CHECKING:
    from raysearch.inference.check_patches import PatchSet
    from raysearch.inference.export_check import ExportedModel
    from raysearch.inference.model_loading import Model


class ModelFormat(StrEnum):
    """The format of an exported model."""

    ONNX = "onnx"
    WSINFER = "wsinfer"


def export(
    address: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A study's name, models:/NAME@champion, or a model's folder."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The ONNX file to write, such as `first.onnx`; with `--format wsinfer`, the new"
            " folder.",
        ),
    ],
    model_format: Annotated[
        ModelFormat,
        typer.Option(
            "--format",
            help="`onnx`: a file, for ONNX Runtime. `wsinfer`: a folder with TorchScript and"
            " `config.json`, for WSInfer, which runs it on slides, also in QuPath.",
        ),
    ] = ModelFormat.ONNX,
    mpp: Annotated[
        float | None,
        typer.Option(
            metavar="MICROMETRES",
            help="With `--format wsinfer`: the side of a pixel of the patches that the model was"
            " trained on. Default: as the model was trained, if it says so.",
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Shards, images or slides, on patches of which the export is compared with the"
            " model. Default: the training shards, if they are at hand.",
        ),
    ] = None,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Write a model of patches for other programs: ONNX, or a folder of WSInfer.

    The export has preprocessing, networks, temperature and softmax. An ONNX file maps uint8 patches
    (N, H, W, 3) to calibrated probabilities. It is written if ONNX Runtime, or TorchScript called
    as WSInfer does, gives the probabilities of the model.

    Example: `raysearch export first first-wsinfer --format wsinfer --mpp 0.5`
    """
    trust_stored_code(allow_code)
    console = make_console(stderr=as_json)
    if model_format is ModelFormat.ONNX:
        check_out_folder(out, "OUT")
    with console.status("Importing torch and MLflow"):
        from raysearch.inference.model_loading import load_model

    _check_arguments(out, model_format, mpp)
    model = load_model(address, studies)
    with console.status("Exporting the model"):
        exported = _export(model, out, model_format, mpp, check)
    if as_json:
        print_json(asdict(exported))
        return 0
    console.print(_summary(exported), soft_wrap=True)
    for note in exported.notes:
        console.print(f"[yellow]Note[/]  {escape(note)}", soft_wrap=True)
    return 0


def _check_arguments(out: Path, model_format: ModelFormat, mpp: float | None) -> None:
    """Check what does not depend on the model; DataError or StudyError for what is wrong."""
    from raysearch.inference.onnx_export import check_onnx_export
    from raysearch.inference.wsinfer_export import check_mpp, check_wsinfer_folder

    if model_format is ModelFormat.WSINFER:
        check_mpp(mpp)
        check_wsinfer_folder(out)
        return
    if mpp is not None:
        raise DataError("--mpp: has no effect with --format onnx; remove it")
    check_onnx_export(out)


def _export(
    model: Model, out: Path, model_format: ModelFormat, mpp: float | None, check: str | None
) -> ExportedModel:
    """Export a model, compared on patches of the source `check` or of its training shards."""
    from raysearch.inference.export_check import check_exportable
    from raysearch.inference.onnx_export import export_onnx
    from raysearch.inference.wsinfer_export import check_wsinfer_model, export_wsinfer, patch_mpp

    if model_format is ModelFormat.WSINFER:
        check_wsinfer_model(model)
        mpp = patch_mpp(model, mpp)
        patch_sets, notes = _real_patches(model, check, mpp)
        exported = export_wsinfer(model, out, mpp, patch_sets)
    else:
        check_exportable(model)
        patch_sets, notes = _real_patches(model, check, mpp)
        exported = export_onnx(model, out, patch_sets)
    return replace(exported, notes=(*notes, *exported.notes))


def _real_patches(
    model: Model, check: str | None, mpp: float | None
) -> tuple[list[PatchSet], list[str]]:
    """Read the real patches of the comparison, or return why there are none."""
    from raysearch.data.shards.shard_manifest import TileSettings
    from raysearch.data.slides.slide_options import DEFAULT_MIN_TISSUE
    from raysearch.inference.check_patches import source_patches, training_patches

    if check is not None:
        settings = model.artifact.tile_settings
        if settings is None and mpp is not None:
            settings = TileSettings(mpp, 0, DEFAULT_MIN_TISSUE)
        return [source_patches(check, model.artifact.shape, settings)], []
    try:
        return [training_patches(model)], []
    except UserError as error:
        note = f"the export was compared on synthetic patches only, because {error}; --check names"
        return [], [f"{note} other patches"]


def _summary(exported: ExportedModel) -> str:
    height, width = exported.shape[:2]
    input_text = f"uint8 (N, {height}, {width}, 3)"
    if exported.format == ModelFormat.WSINFER:
        input_text = f"of {width}x{height} pixels of {exported.mpp:g} micrometres"
    size_text = f"{exported.num_bytes / 1e6:,.1f} MB"
    compared = " and ".join(map(str, exported.comparisons))
    return (
        f"{escape(str(exported.out))}: {escape(exported.model)}, {size_text};"
        f" patches {input_text} in, probabilities of {escape(', '.join(exported.class_names))} out;"
        f" they differ by at most {exported.max_difference:.1e} from those of the model, on"
        f" {escape(compared)}"
    )
