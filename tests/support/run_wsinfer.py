"""Validates an exported model, and runs WSInfer's own inference with it on pictures.

    python -I run_wsinfer.py MODEL SLIDES RESULTS

MODEL is the folder of the model, SLIDES has pictures in place of slides, and RESULTS/patches the
positions of their patches. It cannot import raysearch. Of WSInfer, only the readers of slides are
replaced: they need an old zarr.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

from PIL import Image


class Picture:
    """A picture, which is read as OpenSlide reads a slide."""

    def __init__(self, path: str) -> None:
        self._image = Image.open(path).convert("RGBA")

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        assert level == 0
        (left, top), (width, height) = location, size
        return self._image.crop((left, top, left + width, top + height))


def module(name: str, **members: Any) -> types.ModuleType:
    """A module with the members."""
    created = types.ModuleType(name)
    vars(created).update(members)
    return created


def replace_modules() -> None:
    """Remove raysearch, and replace what reads slides."""
    hidden: Any = None  # an import of it fails
    storage = module("zarr.storage", KVStore=type("KVStore", (), {}))
    sys.modules |= {
        "raysearch": hidden,
        "zarr": module("zarr", storage=storage),
        "zarr.storage": storage,
        "tifffile": module("tifffile"),
        "tiffslide": hidden,
        "openslide": module("openslide", OpenSlide=Picture),
    }


def main(model: Path, slides: Path, results: Path) -> None:
    replace_modules()
    from wsinfer.modellib.models import LocalModelTorchScript
    from wsinfer.modellib.run_inference import run_inference
    from wsinfer_zoo.cli import cli
    from wsinfer_zoo.client import ModelConfiguration

    cli.main(["validate-config", str(model / "config.json")], standalone_mode=False)
    config = ModelConfiguration.from_dict(json.loads((model / "config.json").read_text()))
    info = LocalModelTorchScript(config=config, model_path=str(model / "torchscript_model.pt"))
    failed_patching, failed_inference = run_inference(slides, results, info, batch_size=5)
    assert not failed_patching
    assert not failed_inference


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
