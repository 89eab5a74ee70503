"""`raysearch export`: writes a model as an ONNX file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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


def export(
    address: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A study's name, models:/NAME@champion, or a model's folder."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The file to write.")],
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Write a model of patches as an ONNX file, which other programs load.

    The file has preprocessing, network, temperature and softmax: its input is uint8 patches (N, H,
    W, 3), its output calibrated probabilities. It is written if ONNX Runtime gives the
    probabilities of the model.

    Example: `raysearch export first first.onnx`
    """
    trust_stored_code(allow_code)
    check_out_folder(out, "FILE")
    console = make_console(stderr=as_json)
    with console.status("Importing torch and MLflow"):
        from raysearch.inference.model_loading import load_model
        from raysearch.inference.onnx_export import check_export, export_onnx

    check_export(out)
    model = load_model(address, studies)
    with console.status("Exporting the model"):
        exported = export_onnx(model, out)
    if as_json:
        print_json(asdict(exported))
        return 0
    height, width = exported.shape[:2]
    console.print(
        f"{escape(str(out))}: {escape(exported.model)}, {exported.num_bytes / 1e6:,.1f} MB;"
        f" patches uint8 (N, {height}, {width}, 3) in, probabilities of"
        f" {escape(', '.join(exported.class_names))} out; they differ by at most"
        f" {exported.max_difference:.1e} from those of the model",
        soft_wrap=True,
    )
    return 0
