"""`raysearch weights`: the champion's weights, for another study to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import STUDIES, StudiesOption, make_console


def weights(
    name: Annotated[str, typer.Argument(help="The study.")],
    out: Annotated[Path, typer.Argument(help="The file to write, .pt or .safetensors.")],
    studies: StudiesOption = STUDIES,
) -> int:
    """Write the champion's weights, which `weights: FILE` in another space begins with.

    They have the layout of the net's own library: torchvision's names for torchvision's nets.

    Example: `raysearch weights pcam pcam-vgg19.pt`
    """
    from raysearch.champion.registration import champion_net
    from raysearch.models.transfer.pretrained_weights import write_state
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.study import read_history, read_plan

    folder = StudyFolder(f"{studies}/{name}")
    plan, history = read_plan(folder), read_history(folder)
    trial, net = champion_net(folder, plan, history)
    write_state(net, out)
    place, net_name = escape(str(out)), trial.hparams.get("architecture", "cnn")
    make_console().print(
        f"{place}: {net_name} of {trial.id}, learned from patches of"
        f" {plan.shape[1]}x{plan.shape[0]}; `weights: {place}` begins with it",
        soft_wrap=True,
    )
    return 0
