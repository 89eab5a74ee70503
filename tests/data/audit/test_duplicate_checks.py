"""Planted duplicates are reported with the severity that their effect has."""

import numpy as np
import pytest

from raysearch.data.audit.duplicates import dihedral_transforms
from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.splits.split_creation import SplitSpec, create_split_manifest
from support.audit_sets import Images, ImageSet, audit_by_key, error_keys, finding_files


def test_identical_pixels_of_other_patients_and_labels_are_errors(
    image_set: ImageSet, patches: Images
) -> None:
    copy = image_set.add(patches[3], "p5", "yes")
    mislabeled = image_set.add(patches[4], "p0", "yes")
    audit, findings = audit_by_key(image_set.shard())
    assert error_keys(findings) == {"duplicates-patients", "duplicates-labels"}
    assert finding_files(audit, findings["duplicates-patients"]) == [["003.png", copy]]
    assert finding_files(audit, findings["duplicates-labels"]) == [["004.png", mislabeled]]


@pytest.mark.parametrize("transform", range(1, 8))
def test_a_rotated_or_flipped_copy_is_a_duplicate(
    image_set: ImageSet, patches: Images, transform: int
) -> None:
    copy = image_set.add(list(dihedral_transforms(patches[9]))[transform], "p5", "yes")
    audit, findings = audit_by_key(image_set.shard())
    assert finding_files(audit, findings["duplicates-patients"]) == [["009.png", copy]]
    assert audit.exact_duplicates[0].kind == "rotated or flipped"


def test_a_rotated_copy_of_a_padded_patch_is_a_duplicate(
    image_set: ImageSet, patches: Images
) -> None:
    small = patches[50][:30, :20]
    names = [image_set.add(small, "p1", "no"), image_set.add(np.rot90(small), "p2", "no")]
    audit, findings = audit_by_key(image_set.shard())
    assert finding_files(audit, findings["duplicates-patients"]) == [names]


def test_copies_of_one_patient_and_of_a_single_color_are_warnings(
    image_set: ImageSet, patches: Images
) -> None:
    image_set.add(patches[0], "p0", "no")
    white = np.full((50, 50, 3), 255, np.uint8)
    image_set.add(white, "p1", "no")
    image_set.add(white, "p2", "yes")
    _audit, findings = audit_by_key(image_set.shard())
    assert error_keys(findings) == set()
    assert findings["duplicates-within-patient"].count == 1
    assert findings["duplicates-single-color"].count == 1


def test_a_patch_with_slight_noise_is_a_near_duplicate(
    image_set: ImageSet, patches: Images
) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (50, 50, 3))
    noisy = (patches[7] + noise).clip(0, 255).astype(np.uint8)
    copy = image_set.add(noisy, "p4", "no")
    audit, findings = audit_by_key(image_set.shard())
    assert finding_files(audit, findings["near-duplicates-across"]) == [["007.png", copy]]
    assert error_keys(findings) == set()


def test_duplicates_on_both_sides_of_a_split_manifest_are_errors(
    image_set: ImageSet, patches: Images
) -> None:
    image_set.add(patches[0], "p5", "no")
    data = image_set.shard()
    rows = load_rows(data)
    split_manifest = create_split_manifest(rows, "label", SplitSpec(folds=(), leave_one_out=True))
    split_manifest.write(Folder(data), "mine")
    _audit, findings = audit_by_key(data)
    assert "duplicates-split-manifest" in error_keys(findings)
    assert "leave-one-out, fold 0" in findings["duplicates-split-manifest"].explanation
