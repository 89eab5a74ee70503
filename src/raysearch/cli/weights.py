"""`raysearch weights`: lists, fetches and checks pretrained weights, and exports a champion's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.command_table import CONTEXT_SETTINGS
from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    JsonOption,
    StudiesOption,
    make_console,
    trust_stored_code,
)
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import IMAGENET, PRETRAINED, is_encoder
from raysearch.errors import DataError
from raysearch.models import is_bag_shape

if TYPE_CHECKING:
    from raysearch.models.encoders.local_weights import LocalWeights

weights = typer.Typer(
    add_completion=False,
    context_settings=CONTEXT_SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

# The side of ImageNet's images in the training of most networks.
IMAGENET_SIDE = 224
# Characters of a hash in a table.
HASH_LENGTH = 12

ArchitecturesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ARCHITECTURE...",
        help="Names of networks or encoders, such as mobilenet_v2, timm:resnet50, uni2-h,"
        " hf-hub:OWNER/NAME, or the folder of an encoder.",
    ),
]


@dataclass(frozen=True)
class WeightsRecord:
    """A file of pretrained weights on this machine, as it is printed in JSON."""

    architecture: str
    architectures: tuple[str, ...]
    weights: str
    file: str
    num_bytes: int
    source: str
    license: str
    sha256: str


@weights.callback(invoke_without_command=True)
def manage_weights(context: typer.Context, as_json: JsonOption = False) -> int:
    """List, fetch and check pretrained weights; export those of a champion.

    Without a command, the pretrained weights of this machine are listed.

    Example: `raysearch weights`
    """
    return list_weights(as_json) if context.invoked_subcommand is None else 0


@weights.command("list")
def list_weights(as_json: JsonOption = False) -> int:
    """List the pretrained weights that this machine has.

    The folders of RAYSEARCH_WEIGHTS, the cache of this program and those of torch and of Hugging
    Face's hub are searched for weights of torchvision and timm, and for encoders. Nothing is
    downloaded. The hash of a file is printed if the cache of the hub names it; `check` computes it.

    Example: `raysearch weights list`
    """
    from raysearch.models.encoders.local_weights import list_local_weights

    def print_error(error: DataError) -> None:
        make_console(stderr=True).print(escape(str(error)), soft_wrap=True)

    return _print_weights(list(map(_record, list_local_weights(print_error))), as_json)


@weights.command()
def fetch(architectures: ArchitecturesArgument, as_json: JsonOption = False) -> int:
    """Download the pretrained weights of networks and encoders to this machine.

    Files that are here are not downloaded again. Run it on every node of a cluster, or copy the
    files to a folder of RAYSEARCH_WEIGHTS there.

    Example: `raysearch weights fetch mobilenet_v2 timm:resnet50`
    """
    from raysearch.models.encoders.local_weights import describe_weights
    from raysearch.models.transfer.pretrained_weights import weights_file

    files = []
    for architecture in architectures:
        _check_name(architecture)
        kind = PRETRAINED if is_encoder(architecture) else IMAGENET
        path = weights_file(architecture, kind)
        files.append(_record(describe_weights(architecture, kind, path)))
    return _print_weights(files, as_json)


@weights.command()
def check(
    architecture: Annotated[str, typer.Argument(help="The network or encoder.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="A file of weights. Default: the pretrained weights."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check that weights are those of a network, and print their hash.

    The file is read, and its entries are compared with those of the network. What does not fit is
    named.

    Example: `raysearch weights check uni2-h UNI2-h/pytorch_model.bin`
    """
    from raysearch.models.architectures.networks import check_weights
    from raysearch.models.encoders.local_weights import describe_weights
    from raysearch.models.encoders.snapshots import encoder_of
    from raysearch.models.transfer.pretrained_weights import weights_file, weights_hash

    _check_name(architecture)
    kind = str(file) if file else PRETRAINED if is_encoder(architecture) else IMAGENET
    side = encoder_of(architecture).input_size if is_encoder(architecture) else IMAGENET_SIDE
    check_weights(architecture, (side, side, 3), {"weights": kind})
    path = weights_file(architecture, kind)
    checked = _record(describe_weights(architecture, kind, path))
    checked = replace(checked, sha256=weights_hash(architecture, kind))
    return _print_weights([checked], as_json)


@weights.command()
def export(
    name: Annotated[str, typer.Argument(help="The study.")],
    out: Annotated[Path, typer.Argument(help="The file to write, .pt or .safetensors.")],
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Write a champion's weights for the space of another study.

    The tensors have the names of the network's own library, such as torchvision.

    Example: `raysearch weights export pcam pcam-vgg19.pt`
    """
    trust_stored_code(allow_code)
    from raysearch.champion.stored_champion import load_champion_network
    from raysearch.models.transfer.pretrained_weights import save_weights
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    folder = StudyFolder(f"{studies}/{name}")
    study = load_study(folder)
    trial, network = load_champion_network(folder, study.plan, study.history)
    save_weights(network, out)
    architecture, (height, width, _channels) = resolve(trial.hparams).architecture, study.plan.shape
    if as_json:
        record = {"file": out, "study": name, "trial": trial.id, "architecture": architecture}
        print_json({**record, "height": height, "width": width})
        return 0
    file, inputs = escape(str(out)), f"patches of {width}x{height} pixels"
    if is_bag_shape(study.plan.shape):
        inputs = f"slides with {width:,} features of each patch"
    make_console().print(
        f"{file}: {architecture} of {trial.id}, trained on {inputs};"
        f" start another study with it by `weights: {file}`",
        soft_wrap=True,
    )
    return 0


def _check_name(architecture: str) -> None:
    """Raise SpaceError if `architecture` is not the name of a network or an encoder."""
    resolve({"architecture": architecture})


def _record(described: LocalWeights) -> WeightsRecord:
    return WeightsRecord(
        described.architectures[0],
        described.architectures,
        described.weights,
        str(described.path),
        described.path.stat().st_size,
        described.source,
        described.license,
        described.sha256,
    )


def _print_weights(files: list[WeightsRecord], as_json: bool) -> int:
    """Print files of weights; return the exit code."""
    if as_json:
        print_json({"weights": [asdict(file) for file in files]})
        return 0
    console = make_console()
    if not files:
        console.print(
            "No pretrained weights are on this machine; fetch some with `raysearch weights fetch`,"
            " or name their folder in RAYSEARCH_WEIGHTS",
            soft_wrap=True,
        )
        return 0
    table = Table("for", "weights", "source", "MB", "license", "SHA-256")
    for file in files:
        cells = [", ".join(file.architectures), file.weights, file.source or "-"]
        cells += [f"{file.num_bytes / 1e6:,.1f}", file.license or "unknown"]
        table.add_row(*map(escape, cells), file.sha256[:HASH_LENGTH] or "-")
    console.print(table)
    for file in files:
        console.print(escape(file.file), soft_wrap=True)
    return 0
