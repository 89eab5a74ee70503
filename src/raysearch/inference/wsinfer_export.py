"""Exports a model of patches as a folder of WSInfer's model zoo: TorchScript and `config.json`.

WSInfer (Kaczmarzyk et al., 2024) runs the file on the patches of a slide, and applies a softmax to
what it returns. The file therefore returns the logarithms of the calibrated probabilities, whose
softmax is these probabilities.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.champion.model_artifact import ModelArtifact
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import TIMM_PREFIX
from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.file_access import write_file
from raysearch.data.slides.slide_reader import MAX_MPP, MIN_MPP
from raysearch.errors import DataError, StudyError
from raysearch.inference.check_patches import PatchSet, example_patches
from raysearch.inference.export_check import (
    ExportedModel,
    check_exportable,
    compare,
    not_exported,
)
from raysearch.inference.model_loading import Model
from raysearch.inference.onnx_export import SUFFIX
from raysearch.models.classifier import (
    Classifier,
    Ensemble,
    Member,
    PatchClassifier,
    normalize_pixels,
)

WSINFER = "wsinfer"
MODEL_FILE, CONFIG_FILE = "torchscript_model.pt", "config.json"
SPEC_VERSION = "1.0"
# Of files that a user may take for the format.
FILE_SUFFIXES = (SUFFIX, ".pt", ".pth")
# The largest value of a pixel.
MAX_PIXEL = 255
# The logarithm of zero is not finite.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
# The files with the lines of source code, and the paths of their files, in a TorchScript file.
TRACE_SUFFIX = ".debug_pkl"
# A traced program that names a device names that of its trace, the CPU.
DEVICE = "Device = prim::Constant"


@dataclass(frozen=True)
class Transform:
    """A transform of torchvision that WSInfer applies to a patch.

    Attributes:
        name: `Resize` or `ToTensor`.
        arguments: Its arguments.
    """

    name: str
    arguments: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WsinferConfig:
    """The content of `config.json`.

    Attributes:
        spec_version: Version of WSInfer's specification.
        architecture: Name of the network.
        num_classes: Number of classes.
        class_names: The classes in the order of the probabilities.
        patch_size_pixels: Side of a patch in pixels.
        spacing_um_px: The side of a pixel in micrometres.
        transform: What WSInfer does with a patch of a slide. It reads a patch with the pixels of
            the slide, which are resized to those of the model.
    """

    spec_version: str
    architecture: str
    num_classes: int
    class_names: tuple[str, ...]
    patch_size_pixels: int
    spacing_um_px: float
    transform: tuple[Transform, ...]

    @classmethod
    def of(cls, artifact: ModelArtifact, mpp: float) -> WsinferConfig:
        """Describe a model of patches whose pixels have a side of `mpp` micrometres."""
        side = artifact.shape[0]
        return cls(
            spec_version=SPEC_VERSION,
            architecture=resolve(artifact.hparams).architecture.removeprefix(TIMM_PREFIX),
            num_classes=len(artifact.class_names),
            class_names=artifact.class_names,
            patch_size_pixels=side,
            spacing_um_px=mpp,
            transform=(Transform("Resize", {"size": side}), Transform("ToTensor")),
        )


def check_wsinfer_folder(out: Path) -> None:
    """Check the folder of an export, before the model is loaded.

    Raises:
        DataError: If it exists, or has the name of a file.
    """
    if out.suffix.lower() in FILE_SUFFIXES:
        raise DataError(f"{out}: the name of a file; name a folder for --format {WSINFER}")
    if out.exists():
        raise DataError(f"{out}: already exists; remove it, or name another folder")


def check_wsinfer_model(model: Model) -> None:
    """Check what is known of a model before the attempt to export it.

    Raises:
        StudyError: If it is of slides, of patches that are not square, or has an encoder that may
            not be passed on.
    """
    check_exportable(model)
    height, width, _channels = model.artifact.shape
    if height != width:
        raise StudyError(
            f"{model.name}: its patches have {width}x{height} pixels, and WSInfer reads square ones"
            " only; export it with --format onnx"
        )


def check_mpp(mpp: float | None) -> None:
    """Raise DataError if the side of a pixel that a user names, in micrometres, is no slide's."""
    if mpp is not None and not MIN_MPP <= mpp <= MAX_MPP:
        raise DataError(f"--mpp {mpp:g}: give {MIN_MPP:g} to {MAX_MPP:g} micrometres a pixel")


def patch_mpp(model: Model, mpp: float | None) -> float:
    """Return the side of a pixel of the patches that a model was trained on, in micrometres.

    Args:
        model: The model.
        mpp: What the user names; None if nothing.

    Raises:
        DataError: If neither the user nor the model says it, it is out of its range, or the two
            contradict each other.
    """
    check_mpp(mpp)
    settings = model.artifact.tile_settings
    if settings is not None:
        if mpp is not None and mpp != settings.mpp:
            raise DataError(
                f"--mpp {mpp:g}: the model was trained on tiles of {settings.mpp:g} micrometres a"
                " pixel; remove it"
            )
        return settings.mpp
    if mpp is None:
        raise DataError(
            f"--format {WSINFER}: the model does not say the size of the pixels that it was trained"
            " on; give it in micrometres, such as --mpp 0.5"
        )
    return mpp


def export_wsinfer(
    model: Model, out: Path, mpp: float | None, patch_sets: Sequence[PatchSet] = ()
) -> ExportedModel:
    """Export a model to the folder `out`, with `torchscript_model.pt` and `config.json`.

    The folder is written if the file, called as WSInfer calls it, gives the probabilities of the
    model.

    Args:
        model: The model, of square patches.
        out: The new folder.
        mpp: The side of a pixel of the patches in micrometres; None for that of the tiles of
            slides that the model was trained on.
        patch_sets: The patches that are compared, beside synthetic ones.

    Raises:
        DataError: If the folder exists or cannot be written, or `patch_mpp` rejects `mpp`.
        StudyError: If the model is of slides or of patches that are not square, has an encoder
            that may not be passed on, has a part that TorchScript does not have, or gives other
            probabilities.
    """
    check_wsinfer_folder(out)
    check_wsinfer_model(model)
    mpp = patch_mpp(model, mpp)
    examples = example_patches(model.artifact.shape)
    content = _without_traces(_traced(model, torch.from_numpy(examples.pixels[2:4].copy())))
    program = _loaded(content)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _run_as_wsinfer(program, pixels)

    comparisons = compare(model, predict, [examples, *patch_sets])
    config = json.dumps(asdict(WsinferConfig.of(model.artifact, mpp)), indent=2)
    with atomic_directory(out) as folder:
        write_file(folder / MODEL_FILE, content)
        write_file(folder / CONFIG_FILE, f"{config}\n".encode())
    exported = ExportedModel.of(model, WSINFER, out, len(content), comparisons)
    return replace(exported, mpp=mpp, notes=tuple(_notes(model.artifact, program)))


def _notes(artifact: ModelArtifact, program: torch.jit.ScriptModule) -> Iterator[str]:
    """Yield how the folder differs from the model, and where it cannot be used."""
    if artifact.threshold is not None:
        yield (
            "WSInfer takes the class with the highest probability, and not the decision by the"
            f" threshold {artifact.threshold:.3f} of {artifact.class_names[1]!r}"
        )
    networks = [member.network for member in program.members.children()]
    if any(DEVICE in str(network.inlined_graph) for network in networks):
        yield "the network has tensors that stay on the CPU; use it there, and not on a GPU"


class _Preprocessing(nn.Module):
    """A preprocessing whose tensors become constants of the traced program.

    They stay on the CPU when the program is moved to another device.
    """

    def __init__(self, preprocessing: nn.Module) -> None:
        super().__init__()
        self.wrapped = (preprocessing,)  # not a submodule

    def forward(self, patches: Tensor) -> Tensor:
        preprocessed: Tensor = self.wrapped[0](patches)
        return preprocessed


class _Network(nn.Module):
    """The network of a classifier with its temperature: preprocessed uint8 patches in."""

    def __init__(self, classifier: PatchClassifier) -> None:
        super().__init__()
        self.net, self.temperature = classifier.net, classifier.temperature

    def forward(self, patches: Tensor) -> Tensor:
        batch = normalize_pixels(patches.permute(0, 3, 1, 2))
        return torch.softmax(self.net(batch).float() / self.temperature, dim=1)


class _Member(nn.Module):
    """A traced classifier, which preprocesses on the CPU."""

    def __init__(self, preprocessing: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.preprocessing, self.network = preprocessing, network

    def forward(self, patches: Tensor) -> Tensor:
        probabilities: Tensor = self.network(self.preprocessing(patches.cpu()).to(patches.device))
        return probabilities


class _LogProbabilities(nn.Module):
    """Maps images, float32 (N, 3, H, W) from 0 to 1, to the logarithms of probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.num_members = len(members)
        self.max_pixel, self.min_probability = MAX_PIXEL, MIN_PROBABILITY

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.mul(self.max_pixel).round().clamp(0, self.max_pixel).to(torch.uint8)
        patches = pixels.permute(0, 2, 3, 1)
        total = torch.zeros(1, device=images.device)
        for member in self.members:
            total = total + member(patches)
        return total.div(self.num_members).clamp(min=self.min_probability).log()


def _traced(model: Model, example: Tensor) -> bytes:
    """Return the content of a TorchScript file, which needs no code of this package."""
    classifier = model.classifier.cpu().eval().requires_grad_(False)
    buffer = BytesIO()
    try:
        # TorchScript is deprecated, and what is traced warns of conditions.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            members = [_traced_member(member, example) for member in _members(classifier)]
            torch.jit.save(torch.jit.script(_LogProbabilities(members).eval()), buffer)
    except Exception as error:  # torch and the libraries of networks raise any class
        raise not_exported(model, "TorchScript", error) from None
    return buffer.getvalue()


def _members(classifier: Classifier) -> list[Member]:
    """Return the classifiers whose probabilities are averaged."""
    return [*classifier.members] if isinstance(classifier, Ensemble) else [classifier]


def _traced_member(member: Member, example: Tensor) -> nn.Module:
    if not isinstance(member, PatchClassifier):
        raise TypeError(f"{type(member).__name__} does not classify patches")
    preprocessing = _trace(_Preprocessing(member.preprocessing), example)
    network = _trace(_Network(member), preprocessing(example))
    return _Member(preprocessing, network)


def _trace(module: nn.Module, example: Tensor) -> nn.Module:
    traced: nn.Module = torch.jit.trace(  # type: ignore[no-untyped-call]
        module, example, check_trace=False
    )
    return traced


def _loaded(content: bytes) -> torch.jit.ScriptModule:
    """Load the content of a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        program: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
            BytesIO(content)
        )
    return program


def _without_traces(content: bytes) -> bytes:
    """Remove the lines of source code, with the paths of their files, from a TorchScript file."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as archive, zipfile.ZipFile(buffer, "w") as out:
        for name in archive.namelist():
            if not name.endswith(TRACE_SUFFIX):
                out.writestr(zipfile.ZipInfo(name), archive.read(name))
    return buffer.getvalue()


@torch.inference_mode()
def _run_as_wsinfer(program: nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities that WSInfer computes of uint8 patches (N, H, W, 3)."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div(MAX_PIXEL)
    return np.asarray(torch.softmax(program(images), dim=1).numpy(), np.float32)
