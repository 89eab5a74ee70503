"""Exports a model of patches as one ONNX file: patches in, calibrated probabilities out."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.file_access import write_file
from raysearch.errors import StudyError, first_line
from raysearch.inference.check_patches import PatchSet, example_patches
from raysearch.inference.export_check import (
    ExportedModel,
    check_exportable,
    compare,
    not_exported,
)
from raysearch.inference.model_loading import Model

if TYPE_CHECKING:
    from onnx import ModelProto

ONNX, SUFFIX = "onnx", ".onnx"
INPUT, OUTPUT = "patches", "probabilities"
# The largest file that protobuf writes.
MAX_BYTES = 2**31 - 1
LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
LIBRARY_NAMES = "ONNX or ONNX Runtime"


def export_onnx(model: Model, out: Path, patch_sets: Sequence[PatchSet] = ()) -> ExportedModel:
    """Export a model to the file `out`, which has preprocessing, network, temperature and softmax.

    The input `patches` is uint8 (N, H, W, 3), the output `probabilities` float32 (N, classes). The
    metadata of the file has the classes and the decision rule. The file is written if ONNX Runtime
    gives the probabilities of the model.

    Args:
        model: The model, of patches.
        out: The file; an existing one is replaced.
        patch_sets: The patches that are compared, beside synthetic ones.

    Raises:
        StudyError: If the model is of slides, has an encoder that may not be passed on, has a part
            that ONNX does not have, is too large, or gives other probabilities; if a library is
            missing.
    """
    check_onnx_export(out)
    check_exportable(model)
    examples = example_patches(model.artifact.shape)
    classifier = model.classifier.cpu().eval()
    proto = _without_traces(_converted(model, classifier, examples.pixels[2:4].copy()))
    for name, value in _metadata(model).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, value
    content = _serialized(model, proto)
    comparisons = compare(model, partial(_run, model, content), [examples, *patch_sets])
    write_file(out, content)
    return ExportedModel.of(model, ONNX, out, len(content), comparisons)


def check_onnx_export(out: Path) -> None:
    """Check what does not depend on the model: the file `out` and the libraries.

    Raises:
        StudyError: If the file cannot be written, or a library is missing.
    """
    if out.suffix.lower() != SUFFIX:
        raise StudyError(
            f"{out}: not the name of an ONNX file; name a file that ends with {SUFFIX}, or add"
            " another --format"
        )
    if out.is_dir():
        raise StudyError(f"{out}: a folder; name a file")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise StudyError(f"{out}: the folder {out.parent} cannot be written to; name another")
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise StudyError(
            f"the export needs {', '.join(LIBRARIES)}, and {missing[0]} is not installed; install"
            " raysearch[onnx]"
        )


def _converted(model: Model, classifier: torch.nn.Module, example: NDArray[np.uint8]) -> ModelProto:
    """Convert a classifier to ONNX, with any number of patches in a batch."""
    batch = torch.export.Dim("N")
    try:
        with _quiet():
            program = torch.onnx.export(
                classifier,
                (torch.from_numpy(example),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
            )
    except Exception as error:  # the exporter raises any class
        raise not_exported(model, LIBRARY_NAMES, error) from None
    if program is None:
        raise TypeError("the exporter returned no program")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the exporter prints on its way; its errors are raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _run(model: Model, content: bytes, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of the exported model, on the CPU."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (probabilities,) = session.run([OUTPUT], {INPUT: patches})
    except Exception as error:  # ONNX Runtime has a class for each of its codes
        raise not_exported(model, LIBRARY_NAMES, error) from None
    return np.asarray(probabilities, np.float32)


def _serialized(model: Model, proto: ModelProto) -> bytes:
    """Return the content of the file; StudyError if it is too large."""
    from google.protobuf.message import EncodeError

    too_large = f"{model.name} is larger than the 2 GB of an ONNX file; use the registered model"
    try:
        if proto.ByteSize() > MAX_BYTES:
            raise StudyError(too_large)
        content: bytes = proto.SerializeToString()
    except (EncodeError, ValueError) as error:  # which of them depends on the version of protobuf
        raise StudyError(f"{too_large} ({first_line(error)})") from error
    return content


def _without_traces(proto: ModelProto) -> ModelProto:
    """Remove the lines of source code, with the paths of their files, from all parts of a model."""
    graphs = [proto.graph, *proto.functions]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        del graph.metadata_props[:]
        for value in graph.value_info:
            del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    return proto


def _metadata(model: Model) -> dict[str, str]:
    """The entries of the file's metadata: texts, those with structure as JSON."""
    artifact = model.artifact
    return {
        "raysearch.study": artifact.study,
        "raysearch.trial": artifact.trial,
        "raysearch.class_names": json.dumps(artifact.class_names),
        "raysearch.threshold": json.dumps(artifact.threshold),
        "raysearch.temperature": json.dumps(artifact.temperature),
    }
