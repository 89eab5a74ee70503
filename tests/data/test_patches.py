import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from werkzeug.serving import WSGIRequestHandler

from raysearch.data.files import Folder
from raysearch.data.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.folds import Fold, assign_folds, fold_indices, kfolds, split_hash
from raysearch.errors import DataError
from raysearch.training.row_order import epoch_order


def test_the_pixel_file_holds_every_row_in_the_order_of_the_shards(
    shards: Path, tmp_path: Path
) -> None:
    patches = load_patches(str(shards), tmp_path)
    table = pq.read_table(shards / "part-00000.parquet")
    assert patches.pixels.shape == (240, 7500)
    assert patches.pixels.tobytes() == b"".join(table.column("pixels").to_pylist())
    assert patches.labels.tolist() == table.column("label").to_pylist()
    assert patches.patients.tolist() == table.column("patient").to_pylist()


def test_processes_that_start_at_once_make_one_pixel_file(shards: Path, tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from raysearch.data.patches import load_patches;"
        "p = load_patches(sys.argv[1], Path(sys.argv[2])).pixels;"
        "print(os.stat(p.filename).st_ino, int(p.sum()))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(shards), str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    answers = {process.communicate()[0] for process in started}
    assert len(answers) == 1
    made = [path.suffix for path in sorted((tmp_path / "pixels").iterdir())]
    assert made == [".lock", ".npy", ".parquet"]


def test_a_node_fetches_each_shard_once_whatever_starts_at_once(
    bucket: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        WSGIRequestHandler,
        "log_request",
        lambda handler, *_more: asked.append(f"{handler.command} {handler.path}"),
    )
    place = f"{bucket}/fetched"
    for path in shards.glob("*.*"):
        Folder(place).write(path.name, path.read_bytes())
    code = (
        "import sys; from pathlib import Path; from raysearch.data.patches import load_patches;"
        "from raysearch.data.view import View; view = View(held-out=tuple(sys.argv[3:]));"
        "print(len(load_patches(sys.argv[1], Path(sys.argv[2]), view).labels))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, place, str(tmp_path), *held_out], stdout=subprocess.PIPE
        )
        for held_out in ([], [], ["p001"])
    ]
    counts = [int(process.communicate(timeout=60)[0]) for process in started]
    assert counts[0] == counts[1] == 240 > counts[2]
    gets = [one for one in asked if one.startswith("GET ") and "/fetched/part-00000.parquet" in one]
    assert len(gets) == 1


# Reads every pixel, says what the kernel counts of the file's pages, and stays until told.
HOLDER = """
import sys
from pathlib import Path
from raysearch.data.patches import load_patches
pixels = load_patches(sys.argv[1], Path(sys.argv[2])).pixels
print(int(pixels.sum()), flush=True)
sys.stdin.readline()
found, mine = {}, False
for line in Path("/proc/self/smaps").read_text().splitlines():
    name, *rest = line.split()
    if not name.endswith(":"):
        mine = line.endswith(".npy")
    elif mine and rest[-1] == "kB":
        found[name] = found.get(name, 0) + int(rest[0])
print(found["Pss:"], found["Private_Clean:"] + found["Private_Dirty:"], pixels.nbytes // 1024)
sys.stdout.flush()
sys.stdin.readline()
"""


@pytest.mark.slow
def test_two_trials_of_a_node_hold_one_copy_of_the_pixels(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    write_shards("8:2000:1", out, "synthetic")
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(out), str(tmp_path / "cache")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told: list[list[int]] = []
    for _step in range(2):
        told = []
        for holder in holders:
            assert holder.stdout is not None
            told.append([int(word) for word in holder.stdout.readline().split()])
        for holder in holders:
            assert holder.stdin is not None
            holder.stdin.write("go on\n")
            holder.stdin.flush()
    for holder in holders:
        holder.communicate(timeout=30)
    for pss, private, whole in told:
        assert whole > 14_000
        assert private < whole / 100
        assert 0.45 * whole < pss < 0.55 * whole


Table = tuple[NDArray[np.str_], NDArray[np.int64], int]


@st.composite
def patient_tables(draw: st.DrawFn) -> Table:
    patients = draw(st.integers(4, 30))
    sizes = draw(st.lists(st.integers(1, 40), min_size=patients, max_size=patients))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    owner = np.repeat(np.arange(patients), sizes)
    labels = (random.random(len(owner)) < random.random(patients)[owner]).astype(np.int64)
    return np.array([f"p{one}" for one in owner]), labels, draw(st.integers(2, 6))


@given(patient_tables(), st.integers(0, 100))
def test_folds_keep_patients_apart_and_hold_every_class_or_are_rejected(
    table: Table,
    seed: int,
) -> None:
    patients, labels, folds = table
    try:
        split = kfolds(patients, labels, folds, seed)
    except DataError as rejection:
        assert "use" in str(rejection) or "add" in str(rejection)  # noqa: PT017 both ends are right
        return
    judged_once = np.zeros(len(labels), int)
    for learned, judged in fold_indices(patients, split):
        assert not set(patients[learned]) & set(patients[judged])
        assert set(labels[judged]) == set(labels)
        judged_once[judged] += 1
    assert (judged_once == 1).all()


@given(patient_tables())
def test_folds_do_not_depend_on_the_order_of_the_rows(
    table: Table,
) -> None:
    patients, labels, folds = table
    order = np.random.default_rng(0).permutation(len(labels))
    try:
        first = assign_folds(patients, labels, folds, 1)
    except DataError:
        return
    assert assign_folds(patients[order], labels[order], folds, 1) == first


def test_folds_are_even_in_size_and_in_classes() -> None:
    random = np.random.default_rng(0)
    owner = np.sort(random.integers(0, 200, 20_000))
    labels = (random.random(20_000) < random.beta(2, 5, 200)[owner]).astype(np.int64)
    patients = np.array([f"p{one}" for one in owner])
    split = kfolds(patients, labels, 5, 0)
    for _learned, judged in fold_indices(patients, split):
        assert abs(len(judged) / 4000 - 1) < 0.02
        assert abs(labels[judged].mean() / labels.mean() - 1) < 0.02


def test_a_split_is_the_same_for_ever() -> None:
    patients = np.array([f"p{one}" for one in np.repeat(np.arange(12), 10)])
    labels = np.tile([0, 0, 1], 40)
    text = json.dumps(assign_folds(patients, labels, 3, 7), separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == PINNED
    assert split_hash(kfolds(patients, labels, 3, 7)) == PINNED_FOLDS
    assert split_hash(kfolds(patients, labels, 3, 8)) != PINNED_FOLDS


PINNED_FOLDS = "fc2ba2baf2d1895b5dc2e74207fa0f57be41a710001994dcf03eb417fc596416"
PINNED = "77e229071704d3bcb3e3b59ad434e52a0cbc9a26216c1c5707b387aca32f9faf"


@pytest.mark.parametrize(
    ("counts", "folds", "said"),
    [
        ({"a": "01", "b": "01"}, 3, "2 patients for 3 folds.*use 2 folds or fewer"),
        ({"a": "01", "b": "01", "c": "00"}, 3, "class 1 is in 2 patients only.*use 2 folds"),
        ({"a": "01", "b": "00"}, 2, "class 1 is in 1 patients only.*add patients"),
        ({"a": "01", "b": "01"}, 1, "at least 2"),
    ],
)
def test_too_few_patients_are_rejected_with_what_would_work(
    counts: dict[str, str], folds: int, said: str
) -> None:
    patients = np.array([name for name, labels in counts.items() for _ in labels])
    labels = np.array([int(one) for labels in counts.values() for one in labels])
    with pytest.raises(DataError, match=said):
        assign_folds(patients, labels, folds, 0)


@pytest.mark.parametrize("fold", [Fold(("a",), ("c",)), Fold((), ("a",)), Fold(("a", "b"), ("b",))])
def test_a_fold_of_another_set_or_with_a_patient_on_both_sides_is_rejected(fold: Fold) -> None:
    with pytest.raises(DataError, match="damaged or another set's"):
        fold_indices(np.array(["a", "b"]), [fold])


def test_an_epochs_order_is_a_function_of_seed_fold_and_epoch() -> None:
    rows = np.arange(100, dtype=np.int64) * 3
    first = epoch_order(rows, 1, 2, 3)
    assert sorted(first.tolist()) == rows.tolist()
    assert (epoch_order(rows, 1, 2, 3) == first).all()
    for other in ((2, 2, 3), (1, 1, 3), (1, 2, 4)):
        assert (epoch_order(rows, *other) != first).any()
