"""The split manifest: held-out groups, folds and lists, written once and never read past."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.patches import Rows, load_patches, load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.folds import take_fraction
from raysearch.data.splits.official_splits import official_split_manifest
from raysearch.data.splits.split_creation import (
    SplitSpec,
    choose_groups,
    held_out_patients,
    kfold_name,
    make_split_manifest,
    patients_aside,
    split_manifest_for,
)
from raysearch.data.splits.split_manifest import (
    SplitManifest,
    add_split_manifest,
    count_classes,
    read_split_manifest,
    reject_unlike,
)
from raysearch.data.view import View
from raysearch.errors import DataError


def made_rows(patients: list[str], labels: list[int], slides: list[str] | None = None) -> Rows:
    nothing = np.full(len(patients), np.nan)
    texts = np.array(patients)
    return Rows(
        labels=np.array(labels, np.int64),
        patients=texts,
        slides=texts if slides is None else np.array(slides),
        sites=np.full(len(patients), ""),
        parts=np.full(len(patients), ""),
        magnifications=nothing,
        xs=nothing,
        ys=nothing,
        shape=(4, 4, 3),
        class_names=("no", "yes"),
        fingerprint="f" * 64,
        warnings=(),
    )


def cohort(count: int, seed: int = 0) -> Rows:
    """`count` patients with 5 to 60 patches each, of which some are positive."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(5, 60, count)
    patients = [f"p{one:04d}" for one, size in enumerate(sizes) for _ in range(size)]
    fractions = np.repeat(draw.beta(2, 4, count), sizes)
    return made_rows(patients, (draw.random(len(patients)) < fractions).astype(int).tolist())


@given(st.integers(60, 130), st.integers(0, 50))
def test_a_split_manifest_keeps_groups_apart_and_its_seal_out_of_every_fold(
    count: int, seed: int
) -> None:
    rows = cohort(count, seed)
    split_manifest = make_split_manifest(
        rows, "label", SplitSpec(folds=(3, 5), holdouts=(2, 0.2), seed=seed)
    )
    assert len(split_manifest.held_out) == round(0.15 * count)
    everyone = set(rows.patients.tolist())
    for scheme, folds in split_manifest.schemes.items():
        for fold in folds:
            assert not set(fold.learn) & set(fold.judge)
            assert set(fold.learn) | set(fold.judge) == everyone - set(split_manifest.held_out)
        if scheme.endswith("-fold"):
            assert sorted(one for fold in folds for one in fold.judge) == sorted(
                everyone - set(split_manifest.held_out)
            )
    assert all(min(counts) > 0 for counts in split_manifest.counts.values())


@given(st.integers(0, 20))
def test_a_split_manifest_does_not_depend_on_the_order_of_the_rows(seed: int) -> None:
    rows = cohort(70)
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    mixed = made_rows(rows.patients[order].tolist(), rows.labels[order].tolist())
    assert (
        make_split_manifest(rows, "label", SplitSpec()).hash
        == make_split_manifest(mixed, "label", SplitSpec()).hash
    )


def test_a_split_manifest_is_the_same_for_ever() -> None:
    patients = [f"p{one % 83}" for one in range(1245)]
    rows = made_rows(patients, [int(one * one % 7 < 2) for one in range(1245)])
    split_manifest = make_split_manifest(rows, "label", SplitSpec(folds=(3, 5, 10)))
    assert split_manifest.hash.startswith("b5f9d745ca064591")


def test_few_patients_are_all_needed_to_learn_from() -> None:
    assert make_split_manifest(cohort(59), "label", SplitSpec()).held_out == ()
    assert len(make_split_manifest(cohort(59), "label", SplitSpec(test_share=0.2)).held_out) == 12
    assert make_split_manifest(cohort(80), "label", SplitSpec(test_share=0.0)).held_out == ()


def test_the_held_out_are_like_the_rest_in_number_and_classes() -> None:
    for seed in range(20):
        rows = cohort(200, seed)
        chosen = np.isin(rows.patients, choose_groups(rows.patients, rows.labels, 0.15, str(seed)))
        assert 0.11 < chosen.mean() < 0.19
        assert abs(rows.labels[chosen].mean() - rows.labels[~chosen].mean()) < 0.06


def test_another_seed_chooses_others() -> None:
    rows = cohort(100)
    held_out = {
        make_split_manifest(rows, "label", SplitSpec(seed=seed)).held_out for seed in range(5)
    }
    assert len(held_out) == 5


def test_leave_one_out_has_a_fold_a_group() -> None:
    rows = cohort(23)
    folds = make_split_manifest(rows, "label", SplitSpec(folds=(), leave_one_out=True)).schemes[
        "leave-one-out"
    ]
    assert [len(fold.judge) for fold in folds] == [1] * 23
    assert all(len(fold.learn) == 22 for fold in folds)


def test_slides_of_one_patient_on_both_sides_are_rejected_unless_named() -> None:
    patients = [f"p{one // 4}" for one in range(48)]
    slides = [f"s{one // 2}" for one in range(48)]
    rows = made_rows(patients, [one % 2 for one in range(48)], slides)
    with pytest.raises(DataError, match="both sides of 3-fold") as rejected:
        make_split_manifest(rows, "label", SplitSpec(by="slide"))
    assert "--allow-leak p" in str(rejected.value)
    everyone = tuple(sorted(set(patients)))
    leaks = make_split_manifest(rows, "label", SplitSpec(by="slide", allowed=everyone)).leaks
    assert leaks
    assert all(leak.startswith("patient p") for leak in leaks)


def test_a_column_that_is_not_full_is_rejected() -> None:
    with pytest.raises(DataError, match="have none"):
        make_split_manifest(cohort(30), "label", SplitSpec(by="site"))
    with pytest.raises(DataError, match="no such column"):
        make_split_manifest(cohort(30), "label", SplitSpec(by="colour"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 640 synthetic patches of 64 patients: enough for a test set."""
    out = tmp_path_factory.mktemp("many") / "shards"
    write_shards("64:640:3", out, "synthetic", workers=1)
    return out


def test_a_written_split_manifest_reads_as_it_was(many: Path) -> None:
    rows = load_rows(str(many))
    split_manifest = make_split_manifest(rows, "label", SplitSpec(folds=(3, 5)))
    split_manifest.write(Folder(many), "twice")
    assert read_split_manifest(Folder(many), "twice", rows.fingerprint) == split_manifest
    with pytest.raises(DataError, match="of other shards"):
        read_split_manifest(Folder(many), "twice", "0" * 64)
    with pytest.raises(DataError, match="no such split manifest"):
        read_split_manifest(Folder(many), "none", rows.fingerprint)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_a_split_manifest_with_any_byte_changed_is_rejected(many: Path, suffix: str) -> None:
    rows = load_rows(str(many))
    name = f"changed-{suffix}"
    make_split_manifest(rows, "label", SplitSpec()).write(Folder(many), name)
    (path,) = [one for one in (many / "splits").glob(f"{name}*") if one.suffix == f".{suffix}"]
    whole = path.read_bytes()
    rejected = 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            again = read_split_manifest(Folder(many), name, rows.fingerprint)
        except DataError:
            rejected += 1
        else:  # a byte that says nothing, such as a space
            assert again == make_split_manifest(rows, "label", SplitSpec())
    assert rejected > 20
    for left in (many / "splits").glob(f"{name}*"):
        left.unlink()


def test_rows_that_are_not_those_of_the_split_manifest_are_rejected(many: Path) -> None:
    rows = load_rows(str(many))
    split_manifest = make_split_manifest(rows, "label", SplitSpec())
    counts = count_classes(rows.patients, rows.labels, 2, split_manifest)
    reject_unlike(split_manifest, counts)
    flipped = rows.labels.copy()
    flipped[0] = 1 - flipped[0]
    with pytest.raises(DataError, match="when it was written"):
        reject_unlike(split_manifest, count_classes(rows.patients, flipped, 2, split_manifest))


def test_a_split_manifest_grows_by_folds_and_keeps_its_seal(many: Path) -> None:
    first, new = split_manifest_for(str(many), None, "label", ("3-fold",))
    assert new
    first.write(Folder(many), "label")
    again, new = split_manifest_for(str(many), None, "label", ("3-fold",))
    assert (again, new) == (first, False)
    more, new = split_manifest_for(str(many), None, "label", ("3-fold", "7-fold"))
    assert new
    assert more.held_out == first.held_out
    assert more.schemes[kfold_name(3)] == first.schemes[kfold_name(3)]
    assert len(more.schemes[kfold_name(7)]) == 7


def test_held_out_rows_are_nowhere_in_what_a_node_maps(many: Path, tmp_path: Path) -> None:
    everything = load_patches(str(many), tmp_path)
    split_manifest = make_split_manifest(load_rows(str(many)), "label", SplitSpec())
    view = View(held_out=split_manifest.held_out)
    seen = load_patches(str(many), tmp_path, view)
    inside = np.isin(everything.patients, split_manifest.held_out)
    assert 0 < inside.sum() == len(everything.labels) - len(seen.labels)
    assert np.array_equal(seen.pixels, everything.pixels[~inside])
    assert np.array_equal(seen.labels, everything.labels[~inside])
    assert np.array_equal(load_rows(str(many), view).patients, seen.patients)
    content = (tmp_path / "pixels" / f"{seen.fingerprint}-{view.key}.npy").read_bytes()
    assert len(content) < len(everything.pixels.tobytes())
    for row in np.flatnonzero(inside):
        assert everything.pixels[row].tobytes() not in content


@given(st.integers(0, 30))
def test_a_share_of_the_patients_is_part_of_every_larger_one_and_has_every_class(seed: int) -> None:
    rows = cohort(40, seed)
    learned = np.flatnonzero(rows.patients > "p0009")
    fractions = {
        fraction: take_fraction(rows.patients, rows.labels, learned, fraction)
        for fraction in (0.1, 0.5, 1.0)
    }
    assert set(fractions[0.1]) <= set(fractions[0.5]) <= set(fractions[1.0])
    assert np.array_equal(fractions[1.0], learned)
    assert len(np.unique(rows.patients[fractions[0.5]])) == 15
    for found in fractions.values():
        assert set(rows.labels[found].tolist()) == {0, 1}
        whole = np.isin(rows.patients[learned], rows.patients[found])
        assert np.array_equal(learned[whole], found)


def test_three_lists_of_patients_are_an_official_split(tmp_path: Path) -> None:
    rows = cohort(40)
    names = sorted(set(rows.patients.tolist()))
    parts = {"train": names[:20], "val": names[20:30], "test": names[30:35]}
    for part, some in parts.items():
        (tmp_path / f"cases_{part}.txt").write_text("\n".join([*some, "unknown", ""]))
    lists = [str(tmp_path / f"cases_{part}.txt") for part in parts]
    split_manifest = official_split_manifest(rows, "label", SplitSpec(), lists)
    assert split_manifest.held_out == tuple(parts["test"])
    (fold,) = split_manifest.schemes["official"]
    assert (fold.learn, fold.judge) == (tuple(parts["train"]), tuple(parts["val"]))
    (tmp_path / "cases_val.txt").write_text(names[0])
    with pytest.raises(DataError, match="stands in two"):
        official_split_manifest(rows, "label", SplitSpec(), lists)
    with pytest.raises(DataError, match="cannot be read"):
        official_split_manifest(rows, "label", SplitSpec(), [str(tmp_path / "nowhere_train.txt")])


def test_breakhis_lists_leak_patients_and_are_taken_only_with_their_names(tmp_path: Path) -> None:
    slides = ["SOB_M_DC-14-13412", "SOB_M_LC-14-13412", "SOB_B_A-14-1", "SOB_B_F-14-2"] * 3
    patients = ["13412", "13412", "1", "2"] * 3
    rows = made_rows(patients, [1, 1, 0, 0] * 3, slides)
    lines = [f"{slide}-100-001.png|100|1|{'train' if one % 2 else 'test'}" for one, slide in
             enumerate(slides[:4])]  # fmt: skip
    (tmp_path / "dsfold1.txt").write_text("\n".join(lines))
    source = [str(tmp_path / "dsfold1.txt")]
    with pytest.raises(DataError, match="--by slide"):
        official_split_manifest(rows, "label", SplitSpec(), source)
    with pytest.raises(DataError, match="patient 13412: both sides"):
        official_split_manifest(rows, "label", SplitSpec(by="slide"), source)
    split_manifest = official_split_manifest(
        rows, "label", SplitSpec(by="slide", allowed=("13412",)), source
    )
    assert split_manifest.leaks == ("patient 13412: both sides of official, fold 0",)
    assert isinstance(split_manifest, SplitManifest)


def several_tasks(tmp_path: Path) -> str:
    """Shards of 72 patients, of which 30 have a label in a further task."""
    images = tmp_path / "images"
    images.mkdir()
    lines = ["path,label,patient,slide,label_grade"]
    for number in range(144):
        noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{number}.png")
        patient = number // 2
        grade = "low" if number % 2 else "high"
        lines.append(
            f"{number}.png,{'no' if number % 2 else 'yes'},p{patient},s{number},"
            f"{grade if patient < 30 else ''}"
        )
    (images / "list.csv").write_text("\n".join(lines) + "\n")
    write_shards(str(images / "list.csv"), tmp_path / "shards", None, workers=1)
    return str(tmp_path / "shards")


def test_every_task_of_a_set_keeps_the_same_patients_aside(tmp_path: Path) -> None:
    data = several_tasks(tmp_path)
    graded, _new = split_manifest_for(data, None, "grade", ("2-fold",))
    whole, _new = split_manifest_for(data, None, "label", ("3-fold",))
    assert len(whole.held_out) == 11
    some = set(load_rows(data, View("grade")).patients.tolist())
    assert set(graded.held_out) == set(whole.held_out) & some != set()
    rows = load_rows(data)
    aside = patients_aside(data, held_out_patients(data), 0)
    slides = make_split_manifest(rows, "label", SplitSpec(by="slide", folds=()), aside)
    inside = np.isin(rows.slides, slides.held_out)
    assert set(rows.patients[inside].tolist()) == set(whole.held_out)
    other = make_split_manifest(rows, "label", SplitSpec(seed=5))
    other.write(Folder(data), "first")
    assert other.held_out != whole.held_out
    assert split_manifest_for(data, None, "label", ("3-fold",))[0].held_out == other.held_out
    assert held_out_patients(data) == set(other.held_out)


def test_folds_that_are_added_go_by_the_split_manifests_own_seed(many: Path) -> None:
    rows = load_rows(str(many))
    split_spec = SplitSpec(folds=(3,), seed=7)
    make_split_manifest(rows, "label", split_spec).write(Folder(many), "seven")
    grown, new = split_manifest_for(str(many), "seven", "label", ("5-fold",))
    assert new
    both = make_split_manifest(rows, "label", SplitSpec(folds=(3, 5), seed=7))
    assert grown.schemes == both.schemes


def test_a_split_manifest_that_came_meanwhile_is_joined_or_rejected(many: Path) -> None:
    rows, folder = load_rows(str(many)), Folder(many)
    first = make_split_manifest(rows, "label", SplitSpec(folds=(3,)))
    second = make_split_manifest(rows, "label", SplitSpec(folds=(5,)))
    add_split_manifest(first, folder, "meanwhile")
    add_split_manifest(second, folder, "meanwhile")
    found = read_split_manifest(folder, "meanwhile", rows.fingerprint)
    assert found == make_split_manifest(rows, "label", SplitSpec(folds=(3, 5)))
    with pytest.raises(DataError, match="written by somebody else meanwhile"):
        add_split_manifest(
            make_split_manifest(rows, "label", SplitSpec(seed=1)), folder, "meanwhile"
        )
    assert read_split_manifest(folder, "meanwhile", rows.fingerprint) == found


def test_a_split_manifest_that_leaks_gets_no_further_folds(tmp_path: Path) -> None:
    data = several_tasks(tmp_path)
    rows = load_rows(data)
    everyone = tuple(set(rows.patients.tolist()))
    leaky = SplitSpec(by="slide", folds=(2,), test_share=0.0, allowed=everyone)
    make_split_manifest(rows, "label", leaky).write(Folder(data), "leaky")
    assert split_manifest_for(data, "leaky", "label", ("2-fold",))[1] is False
    with pytest.raises(DataError, match=r"both sides, and has no 3-fold.*raysearch split"):
        split_manifest_for(data, "leaky", "label", ("3-fold",))


def test_lists_that_fit_nothing_are_rejected_and_a_mark_at_their_start_is_none(
    tmp_path: Path,
) -> None:
    rows = cohort(12)
    names = sorted(set(rows.patients.tolist()))
    lists = {"train": names[:6], "val": names[6:9], "test": names[9:]}
    for part, some in lists.items():
        (tmp_path / f"cases_{part}.txt").write_text("\n".join(some), encoding="utf-8-sig")
    sources = [str(tmp_path / f"cases_{part}.txt") for part in lists]
    found = official_split_manifest(rows, "label", SplitSpec(), sources)
    assert list(found.held_out) == names[9:]
    (tmp_path / "cases_test.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"cases_test\.txt: none of its patients"):
        official_split_manifest(rows, "label", SplitSpec(), sources)
    parts = np.where(np.arange(len(rows.labels)) % 2 == 0, "train", "testing")
    with pytest.raises(DataError, match="'testing' is none of train, valid, test"):
        official_split_manifest(replace(rows, parts=parts), "label", SplitSpec(), ["split"])
