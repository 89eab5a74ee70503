"""Files with the features of a slide: the layouts of other tools, and damaged or hostile ones."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from raysearch.errors import DataError
from raysearch.models.bags.slide_feature_files import read_feature_file

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
POSITIONS = np.array([[0, 0], [256, 0], [0, 256], [256, 256]])


def write_hdf5(path: Path, **datasets: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.mark.parametrize("features", [FEATURES, FEATURES[None], FEATURES.astype(np.float16)])
def test_an_hdf5_file_has_features_and_positions(tmp_path: Path, features: np.ndarray) -> None:
    path = write_hdf5(tmp_path / "s.h5", features=features, coords=POSITIONS)
    slide = read_feature_file(str(path))
    assert slide.values.dtype == np.float16
    assert np.array_equal(slide.values, FEATURES)
    assert slide.positions is not None
    assert np.array_equal(slide.positions, POSITIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_of_torch_has_a_tensor_or_a_dictionary(tmp_path: Path, dtype: torch.dtype) -> None:
    features = torch.from_numpy(FEATURES).to(dtype)
    torch.save(features, tmp_path / "tensor.pt")
    torch.save({"features": features, "coords": torch.tensor(POSITIONS)}, tmp_path / "both.pt")
    alone = read_feature_file(str(tmp_path / "tensor.pt"))
    both = read_feature_file(str(tmp_path / "both.pt"))
    assert np.array_equal(alone.values, FEATURES)
    assert np.array_equal(both.values, FEATURES)
    assert alone.positions is None
    assert both.positions is not None
    assert np.array_equal(both.positions, POSITIONS)


def test_features_that_were_computed_with_gradients_are_read(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(FEATURES).requires_grad_(), tmp_path / "s.pt")
    assert np.array_equal(read_feature_file(str(tmp_path / "s.pt")).values, FEATURES)


def hdf5_writer(**datasets: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_hdf5(path, **datasets)

    return write


def with_link(path: Path) -> None:
    write_hdf5(path.with_name("other.h5"), features=FEATURES)
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")


def truncated(path: Path) -> None:
    write_hdf5(path, features=np.ones((400, 30), np.float32))
    path.write_bytes(path.read_bytes()[:-20_000])


class Call:
    """An object whose pickle prints when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("code of the file",)


def with_text(path: Path) -> None:
    path.write_text("no HDF5")


def with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Call(), 2))


def with_variable_length(path: Path) -> None:
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("features", (3, 1), h5py.vlen_dtype(np.float32), chunks=(3, 1))
        rows[0, 0] = np.ones(1000, np.float32)


def with_repeated_rows(path: Path) -> None:
    torch.save(torch.zeros(1, 4).expand(10**6, 4), path)


NAN, LARGE = FEATURES.copy(), FEATURES.copy()
NAN[2, 1], LARGE[3, 0] = np.nan, 1e6
BAD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no features": ("s.h5", hdf5_writer(coords=POSITIONS), "no dataset features in it"),
    "one row less": (
        "s.h5",
        hdf5_writer(features=FEATURES[:3], coords=POSITIONS),
        "3 rows of features, and positions of shape (4, 2)",
    ),
    "nan": ("s.h5", hdf5_writer(features=NAN), "1 patches are not finite in 16 bits, those of"),
    "large": ("s.h5", hdf5_writer(features=LARGE), "not finite in 16 bits, those of patch 3"),
    "integers": ("s.h5", hdf5_writer(features=POSITIONS), "its features are int64 (4, 2)"),
    "empty": ("s.h5", hdf5_writer(features=FEATURES[:0]), "its features are float32 (0, 3)"),
    "variable length": ("s.h5", with_variable_length, "has values of type object, and not numbers"),
    "wide": (
        "s.h5",
        hdf5_writer(features=np.zeros((2, 70_000), np.float32)),
        "2 patches have 70,000 features each; a patch may have 65,536",
    ),
    "coordinates": (
        "s.pt",
        lambda path: torch.save({"features": torch.ones(2, 3), "coords": [[0, 0]] * 2}, path),
        "'coords' is no tensor",
    ),
    "link": ("s.h5", with_link, "features is a link to another file"),
    "truncated": ("s.h5", truncated, ""),
    "text": ("s.h5", with_text, "no HDF5 file"),
    "code": ("s.pt", with_code, "no tensors and plain values"),
    "repeated rows": ("s.pt", with_repeated_rows, "a tensor is larger than the file"),
    "list": ("s.pt", lambda path: torch.save([1.0], path), "no tensor of features"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, write, reason = BAD[kind]
    write(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_feature_file(str(tmp_path / name))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ")
    assert reason in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""
