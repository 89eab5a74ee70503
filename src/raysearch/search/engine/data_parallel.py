"""Pieces of work spread over a cluster by Ray Data, where each leaves its result in a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext

Work = Callable[[int], Any]


class _Worker:
    """An actor: made once by `make`, it works on one number after another."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self._work = make()

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """Work on the numbers of `batch`, and hand them on."""
        for number in batch["number"].tolist():
            self._work(number)
        return batch


def spread(make: Callable[[], Work], numbers: list[int], workers: int) -> Iterator[int]:
    """Do the work of `numbers` by at most `workers` actors, each with what `make` makes there.

    Each number comes back when it is done, in any order. Within a session of Ray.
    """
    if not numbers:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= workers else 0
    # Blocks that lie ready: a task that cut them would wait for the cores that the actors hold.
    items = [{"number": one} for one in numbers]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_args=(make,),
        # As many as there is room for: to wait for more could be to wait for ever.
        compute=ActorPoolStrategy(min_size=1, max_size=workers),
        batch_size=1,
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in done.iter_rows():
        yield int(row["number"])
