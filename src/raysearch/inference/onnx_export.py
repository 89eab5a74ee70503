"""Exports a model of patches as one ONNX file: patches in, calibrated probabilities out."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.file_access import write_file
from raysearch.data.synthetic import synthesize_patches
from raysearch.errors import StudyError, first_line
from raysearch.inference.model_loading import Model

if TYPE_CHECKING:
    from onnx import ModelProto

SUFFIX = ".onnx"
INPUT, OUTPUT = "patches", "probabilities"
# The largest difference of a probability from that of the model.
TOLERANCE = 1e-5
# The patches of the check; the number differs from that of the example, which is 2.
NUM_CHECKED = 8
# The largest file that protobuf writes.
MAX_BYTES = 2**31 - 1
LIBRARIES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class OnnxExport:
    """An exported model.

    Attributes:
        file: The file.
        model: The study and the trial, in words.
        num_bytes: Size of the file.
        shape: (H, W, 3) of a patch.
        class_names: The classes in the order of the probabilities.
        threshold: Smallest probability of the second class that counts as positive; None for more
            than two classes.
        max_difference: The largest difference of a probability from that of the model.
    """

    file: Path
    model: str
    num_bytes: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    threshold: float | None
    max_difference: float


def export_onnx(model: Model, out: Path) -> OnnxExport:
    """Export a model to the file `out`, which has preprocessing, network, temperature and softmax.

    The input `patches` is uint8 (N, H, W, 3), the output `probabilities` float32 (N, classes). The
    metadata of the file has the classes and the decision rule. The file is written if ONNX Runtime
    gives the probabilities of the model.

    Args:
        model: The model, of patches.
        out: The file; an existing one is replaced.

    Raises:
        StudyError: If the model is of slides, has no copy of its encoder, has a part that ONNX does
            not have, is too large, or gives other probabilities; if a library is missing.
    """
    check_export(out)
    _reject_what_has_no_file(model)
    example, checked = _patches(model.artifact.shape)
    classifier = model.classifier.cpu().eval()
    proto = _without_traces(_converted(model, classifier, example))
    for name, value in _metadata(model).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, value
    content = _serialized(model, proto)
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(checked)).numpy()
    max_difference = float(np.abs(_run(model, content, checked) - expected).max())
    if not max_difference <= TOLERANCE:
        raise StudyError(
            f"{model.name}: the probabilities of the exported model differ by {max_difference:.1e},"
            f" more than {TOLERANCE:g}; use the registered model"
        )
    write_file(out, content)
    return OnnxExport(
        file=out,
        model=model.name,
        num_bytes=len(content),
        shape=model.artifact.shape,
        class_names=model.artifact.class_names,
        threshold=model.artifact.threshold,
        max_difference=max_difference,
    )


def check_export(out: Path) -> None:
    """Check what does not depend on the model: the file `out` and the libraries.

    Raises:
        StudyError: If the file cannot be written, or a library is missing.
    """
    if out.suffix.lower() != SUFFIX:
        raise StudyError(
            f"{out}: not the name of an ONNX file; name a file that ends with {SUFFIX}"
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


def _reject_what_has_no_file(model: Model) -> None:
    """Raise StudyError if a model cannot be exported for a reason known before the attempt."""
    if model.artifact.is_of_bags:
        raise StudyError(
            f"{model.name} is a model of slides, which is not exported; use the registered model"
        )
    if model.artifact.encoder_file is not None:
        raise StudyError(
            f"{model.name} has no copy of its encoder, whose license is not known to allow one; say"
            " that you may pass it on with `raysearch select --with-encoder`"
        )


def _patches(shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return two patches for the export and others for its check: tissue, noise, black, white."""
    rng = np.random.default_rng(0)
    checked = rng.integers(0, 256, (NUM_CHECKED, *shape), np.uint8)
    numbers = np.arange(NUM_CHECKED // 2)
    tissue = synthesize_patches("4:8:0", numbers, numbers % 2, numbers)
    height, width = min(shape[0], tissue.shape[1]), min(shape[1], tissue.shape[2])
    checked[: len(tissue), :height, :width] = tissue[:, :height, :width]
    checked[-2], checked[-1] = 0, 255
    return checked[2:4].copy(), checked


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
        raise _not_exported(model, error) from None
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
        raise _not_exported(model, error) from None
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


def _not_exported(model: Model, error: Exception) -> StudyError:
    """Name the part that ONNX does not have, or what the exporter says."""
    preprocess = model.artifact.hparams.get("preprocess", "none")
    architecture = model.artifact.hparams.get("architecture")
    reason = first_line(error.__cause__ or error, 100)
    return StudyError(
        f"{model.name} (architecture {architecture}, preprocess {preprocess}) has a part that ONNX"
        f" or ONNX Runtime does not have ({reason}); use the registered model"
    )


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
