"""Split manifests that were changed, or have leaks, do not pass verification."""

from pathlib import Path

from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.splits.split_creation import SplitSpec, create_split_manifest
from support.audit_sets import CLASSES, Images, ImageSet, audit_by_key, error_keys


def test_a_changed_split_manifest_is_an_error(image_set: ImageSet) -> None:
    data = image_set.shard()
    split_manifest = create_split_manifest(load_rows(data), "label", SplitSpec(folds=(2,)))
    split_manifest.write(Folder(data), "mine")
    _audit, findings = audit_by_key(data)
    assert error_keys(findings) == set()
    assert "no-split-manifest" not in findings
    path = Path(data) / "splits" / "mine.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    audit, findings = audit_by_key(data)
    assert error_keys(findings) == {"split-manifest-invalid"}
    assert "restore the file" in audit.split_manifests[0].error


def test_an_allowed_leak_is_still_an_error(tmp_path: Path, patches: Images) -> None:
    image_set = ImageSet(tmp_path)
    for number in range(48):
        patient, slide = f"p{number // 8}", f"s{number // 4}"
        image_set.add(patches[number], patient, CLASSES[number % 2], slide=slide)
    data = image_set.shard()
    all_patients = tuple(f"p{number}" for number in range(6))
    split_spec = SplitSpec(by="slide", folds=(3,), allowed_leaks=all_patients)
    split_manifest = create_split_manifest(load_rows(data), "label", split_spec)
    split_manifest.write(Folder(data), "slides")
    _audit, findings = audit_by_key(data)
    assert error_keys(findings) == {"split-manifest-leaks"}
