"""`raysearch weights`: writes the champion's weights, with which another study can start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.config.hyperparameters import resolve


def weights(
    name: Annotated[str, typer.Argument(help="The study.")],
    out: Annotated[Path, typer.Argument(help="The file to write, .pt or .safetensors.")],
    studies: StudiesOption = STUDIES,
) -> int:
    """Write the champion's weights, for `weights: FILE` in the space of another study.

    The tensors have the names of the network's own library, such as torchvision.

    Example: `raysearch weights pcam pcam-vgg19.pt`
    """
    from raysearch.champion.stored_champion import load_champion_network
    from raysearch.models.transfer.pretrained_weights import save_weights
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    folder = StudyFolder(f"{studies}/{name}")
    study = load_study(folder)
    trial, network = load_champion_network(folder, study.plan, study.history)
    save_weights(network, out)
    file, architecture = escape(str(out)), resolve(trial.hparams).architecture
    make_console().print(
        f"{file}: {architecture} of {trial.id}, trained on patches of"
        f" {study.plan.shape[1]}x{study.plan.shape[0]} pixels; start another study with it by"
        f" `weights: {file}`",
        soft_wrap=True,
    )
    return 0
