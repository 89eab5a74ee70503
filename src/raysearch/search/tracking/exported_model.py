"""Writes a model as a folder in MLflow's layout, without a path, a user or a machine in it.

The folder can be loaded without raysearch: the network is an exported program of torch, and the
module that names classes and decides is copied beside it. That of a model without a copy of its
encoder needs raysearch, which finds the encoder and builds the network.
"""

from __future__ import annotations

import shutil
import warnings
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray
from torch import nn

from raysearch.data.scratch_folder import scratch_folder
from raysearch.search.tracking import served_model
from raysearch.search.tracking.served_model import (
    CLASS,
    DECISION,
    PROBABILITY,
    SCORE_PREFIX,
    ServedRule,
)

REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")
DATA_FOLDER = "data"
PROGRAM_FILE = f"{DATA_FOLDER}/model.pt2"
LOADER_PREFIX = "raysearch_served_model_"
# The module that loads a model without its encoder; registered models have this name.
SEPARATE_LOADER = "raysearch.inference.mlflow_loader"
EXTRA_FOLDER = "extra_files"
PYFUNC = "python_function"
# The axes of a batch of slides: slides, patches, features.
SLIDE_AXES = 3
# What torch records of each operation: the lines of source code, with the paths of their files.
STACK_TRACE = "stack_trace"


def save_exported_model(
    folder: Path,
    model: nn.Module,
    example: NDArray[np.generic],
    description: Model,
    extra_file: Path,
    rule: ServedRule,
) -> None:
    """Save a model as an exported program in the new folder `folder`.

    MLflow's loader for PyTorch returns the program itself, which maps patches to probabilities;
    that for Python functions returns a model whose answer also has class names and decisions.

    Args:
        folder: The folder to create.
        model: The model; it maps patches to probabilities.
        example: Patches, uint8, shape (batch, height, width, 3), or features of slides, float32,
            shape (batch, patches, features), with a batch of at least 2.
        description: The ids of the model and its run; the signature and the files are added to it.
        extra_file: A file that is copied to the subfolder `extra_files`.
        rule: The classes, and how the model decides between them.
    """
    model = model.cpu().eval()
    with warnings.catch_warnings(), scratch_folder() as scratch:
        warnings.simplefilter("ignore")
        loader = scratch / f"{_loader_module()}.py"
        shutil.copyfile(served_model.__file__, loader)
        mlflow.pytorch.save_model(
            model,
            str(folder),
            mlflow_model=description,
            signature=_signature(example, rule),
            input_example=example,
            pip_requirements=[f"{name}=={_public_version(name)}" for name in REQUIREMENTS],
            extra_files=[str(extra_file)],
            code_paths=[str(loader)],
        )
        _remove_stack_traces(folder / PROGRAM_FILE)
    rule.write(folder / DATA_FOLDER)
    description.add_flavor(
        PYFUNC, **{**description.flavors[PYFUNC], "loader_module": _loader_module()}
    )
    description.save(str(folder / MLMODEL_FILE_NAME))


def save_separate_model(
    folder: Path,
    example: NDArray[np.generic],
    description: Model,
    extra_file: Path,
    rule: ServedRule,
) -> None:
    """Save a model without a copy of its encoder in the new folder `folder`.

    Args:
        folder: The folder to create.
        example: Patches, uint8, shape (batch, height, width, 3).
        description: The ids of the model and its run; the signature and the files are added to it.
        extra_file: The packed ModelArtifact, which is copied to the subfolder `extra_files`.
        rule: The classes, and how the model decides between them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import pyfunc  # its import warns

        pyfunc.save_model(
            str(folder),
            loader_module=SEPARATE_LOADER,
            mlflow_model=description,
            signature=_signature(example, rule),
            input_example=example,
            pip_requirements=[f"{name}=={_public_version(name)}" for name in REQUIREMENTS],
        )
    (folder / EXTRA_FOLDER).mkdir()
    shutil.copyfile(extra_file, folder / EXTRA_FOLDER / extra_file.name)


def _loader_module() -> str:
    """The name under which MLflow imports the copy of `served_model` in the folder of a model.

    It changes with the content: a process that loads two models imports the copies of both.
    """
    digest = sha256(Path(served_model.__file__).read_bytes()).hexdigest()
    return f"{LOADER_PREFIX}{digest[:12]}"


def _signature(example: NDArray[np.generic], rule: ServedRule) -> ModelSignature:
    """The input and the columns of the answer, as MLflow checks and displays them."""
    # A slide has any number of patches.
    is_slide = example.ndim == SLIDE_AXES
    shape = (-1, -1, example.shape[2]) if is_slide else (-1, *example.shape[1:])
    scores = [ColSpec(DataType.float, f"{SCORE_PREFIX}{name}") for name in rule.class_names]
    return ModelSignature(
        Schema([TensorSpec(example.dtype, shape)]),
        Schema(
            [
                ColSpec(DataType.string, CLASS),
                ColSpec(DataType.float, PROBABILITY),
                ColSpec(DataType.string, DECISION),
                *scores,
            ]
        ),
    )


def _public_version(package: str) -> str:
    """The installed version without its local part: no index has a version such as 2.14.0+cpu."""
    return version(package).partition("+")[0]


def _remove_stack_traces(file: Path) -> None:
    """Remove the stack traces from the exported program in `file`."""
    program = torch.export.load(file)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop(STACK_TRACE, None)
    torch.export.save(program, file)
