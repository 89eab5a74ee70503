"""Of the scored patches those that are worth a look, with what decided on them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.inference.image_files import png
from raysearch.inference.model_loading import Model
from raysearch.inference.overlays import explained, maps_of
from raysearch.inference.prediction import SCORES
from raysearch.inference.score_sources import Source

EXPLAINED = "explain"


def explain(model: Model, source: Source, out: Folder, count: int) -> int:
    """Write pictures of `count` patches of the scores in `out`; how many there are.

    Where labels are known, the errors that the model was surest of; else those that it was surest
    of among all that it gives another class than the first.
    """
    table = pq.read_table(io.BytesIO(out.read(SCORES)))
    names = model.recipe.class_names
    scores = np.column_stack([table[f"score_{name}"].to_numpy() for name in names])
    rows = _worth_a_look(scores, table["label"].to_pylist(), names)[:count]
    paths = table["path"].to_pylist()
    places = {paths[row]: place for place, row in enumerate(rows.tolist())}
    written = 0
    for path, pixels in _found(source, set(places)):
        row = rows[places[path]]
        said = int(scores[row].argmax())
        patch = pixels.reshape(1, *model.recipe.shape)
        picture = explained(patch[0], maps_of(model, patch, np.array([said]))[0])
        what = names[said].replace("/", "_")
        stem = PurePosixPath(path.replace("#", "-")).stem
        name = f"{places[path] + 1:04d}-{what}-{scores[row, said]:.3f}-{stem}.png"
        out.write(f"{EXPLAINED}/{name}", png(picture))
        written += 1
    return written


def _worth_a_look(
    scores: NDArray[np.float64], labels: list[str | None], names: tuple[str, ...]
) -> NDArray[np.int64]:
    said = scores.argmax(axis=1)
    known = np.array([names.index(one) if one in names else -1 for one in labels])
    wanted = (known >= 0) & (known != said) if (known >= 0).any() else said > 0
    rows = np.flatnonzero(wanted)
    return rows[np.argsort(-scores[rows, said[rows]], kind="stable")]


def _found(source: Source, paths: set[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    left = set(paths)
    for number in range(source.batches):
        if not left:
            return
        batch = source.read(number)
        for item, pixels in zip(batch.items, batch.pixels, strict=True):
            if item.file in left:
                left.remove(item.file)
                yield item.file, pixels
