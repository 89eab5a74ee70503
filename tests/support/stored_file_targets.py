"""The other files that a study and the cache of a machine store, as targets of mutations.

Each is read in its place, beside the valid other files. A file that is only a copy of what can be
computed or fetched again is read unchanged, or not used, which counts as a rejection.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.analysis.stored_importances import stored_importances, write_importances
from raysearch.champion.stored_champion import load_champion, load_refit_weights
from raysearch.config.json_values import dump_checked
from raysearch.data.cache_folder import content_hash
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import key_in
from raysearch.data.shards import patches
from raysearch.data.shards.patches import load_patches
from raysearch.data.splits.access_log import (
    TestSetAccess,
    read_test_set_accesses,
    record_test_set_access,
)
from raysearch.errors import UserError
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.interval import Interval
from raysearch.models.weights import weights_cache
from raysearch.search.engine.precision_probe import read_settings
from raysearch.search.journal.codec import record_to_json
from raysearch.search.journal.events import RepeatTrained
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold, repeat_out_of_fold
from raysearch.search.study.launcher_lock import check_no_launcher
from raysearch.search.study.lease_lock import LeaseLock
from raysearch.search.study.stored_study import load_study, read_splits
from raysearch.search.study.study import Study
from raysearch.search.study.study_archive import export_archive, import_archive
from raysearch.selection.stored_intervals import (
    StoredInterval,
    StoredIntervals,
    read_intervals,
    scores_hash,
)
from raysearch.testing.test_results import (
    RECORD,
    EvaluationRecord,
    ScoredTestSet,
    read_evaluation_scores,
    read_evaluations,
    write_evaluation,
)
from raysearch.training.checkpoint import unpack
from support.champion_studies import (
    ENSEMBLE_DECISION,
    REPEAT_SEED,
    study_with_champion,
    train_repeat,
)
from support.mutation_targets import Target, pack_mutated
from support.mutations import Random, dump_json, mutate_bytes, mutate_table, mutate_tree

STORED_FILES = (
    *("trial_scores", "repeat_scores", "repeat_network", "champion", "splits", "journal_head"),
    *(
        "evaluation",
        "evaluation_scores",
        "importances",
        "pseudonym_key",
        "test_access",
        "intervals",
    ),
    *("lock", "lease", "pixels", "pixel_rows", "pixel_hashes", "shard_cache"),
    *("weights", "other_weights", "weights_hash", "precision", "archive"),
)
SEALED = b"sealed"
RECORDED = EvaluationRecord(
    "external", "/data/x", "ab", "m", "t0000", "2026-01-01", ("negative", "positive"), 0.5
)
LEASE = {"host": "host", "pid": 7, "token": "ab", "renewed": 1.0}


class NotUsedError(UserError):
    """The file is not used; what it stores is computed or fetched again."""


def make_stored_file_targets(folder: Path, shards: Path) -> Mapping[str, Target]:
    """Return each kind of stored file by its name.

    Args:
        folder: A scratch folder.
        shards: Shards of a few patches.
    """
    study = study_with_champion(shards, folder / "studies" / "first")
    trial = study.history.trials["t0000"]
    train_repeat(study, trial)
    return {
        **_trained_file_targets(study, trial),
        **_record_targets(study, shards),
        **_lock_targets(study.folder, folder),
        **_pixel_targets(shards, folder / "pixel-cache"),
        **_cached_file_targets(shards, folder),
        "archive": _archive_target(study.folder, folder),
    }


def _in_place(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    """Return a reader of contents of the file at `path`, which then has its own content again."""
    original = path.read_bytes()

    def read_content(content: bytes) -> object:
        path.write_bytes(content)
        # A new process has checked no file yet.
        patches._CHECKED.clear()
        weights_cache._CHECKED.clear()
        try:
            return read()
        finally:
            path.write_bytes(original)

    return read_content


def _target(
    path: Path, read: Callable[[], object], forge: Callable[[Random], bytes], *, has_hash: bool
) -> Target:
    return Target(_in_place(path, read), path.read_bytes(), forge, has_hash)


def _sealed(
    path: Path, read: Callable[[str | None], object], forge: Callable[[Random], bytes]
) -> Target:
    """Return the target of a file whose hash the journal has.

    `read` gets the hash that a forged journal would have; None for that of the valid journal.
    """

    def read_content(content: bytes) -> object:
        is_sealed = content.startswith(SEALED)
        content = content.removeprefix(SEALED)
        sha256 = hashlib.sha256(content).hexdigest() if is_sealed else None
        return _in_place(path, lambda: read(sha256))(content)

    return Target(read_content, path.read_bytes(), lambda rng: SEALED + forge(rng), has_hash=True)


def _forged_table(path: Path) -> Callable[[Random], bytes]:
    table, content = pq.read_table(path), path.read_bytes()

    def forge(rng: Random) -> bytes:
        sink = pa.BufferOutputStream()
        try:
            pq.write_table(mutate_table(table, rng), sink)
        except (pa.ArrowException, NotImplementedError):  # a table that Parquet cannot store
            return mutate_bytes(content, rng)
        return bytes(sink.getvalue()) if rng.integers(0, 4) else mutate_bytes(content, rng)

    return forge


def _forged_json(tree: object) -> Callable[[Random], bytes]:
    return lambda rng: dump_json(mutate_tree(tree, rng)).encode("utf-8", "surrogatepass")


def _comparable(record: object) -> str:
    arrays = {
        name: (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value
        for name, value in vars(record).items()
    }
    return repr(sorted(arrays.items()))


def _trained_file_targets(study: Study, trial: Trial) -> dict[str, Target]:
    folder, plan = study.folder, study.plan
    scores = folder.local / folder.scores("t0000", 4, trial.score_hashes[4])
    repeat_scores = folder.local / folder.repeat_scores("t0000", REPEAT_SEED, 1)
    network = folder.local / folder.repeat_network("t0000", REPEAT_SEED, 1)
    champion = folder.local / folder.CHAMPION
    history = load_study(folder).history
    repeated = trial.repeats[REPEAT_SEED, 1]

    def read_scores(sha256: str | None) -> object:
        if sha256 is None:
            return _comparable(out_of_fold(folder, plan, trial))
        forged = folder.local / folder.scores("t0000", 4, sha256)
        hashes = {**trial.score_hashes, 4: sha256}
        forged.write_bytes(scores.read_bytes())
        try:
            return _comparable(out_of_fold(folder, plan, replace(trial, score_hashes=hashes)))
        finally:
            if forged != scores:
                forged.unlink()

    def with_repeat(changed: RepeatTrained) -> Trial:
        return replace(trial, repeats={**trial.repeats, (REPEAT_SEED, 1): changed})

    def read_repeat_scores(sha256: str | None) -> object:
        forged = with_repeat(replace(repeated, scores=sha256 or repeated.scores))
        rows = repeat_out_of_fold(folder, plan, forged, REPEAT_SEED, (0, 1))
        if rows is None:
            raise NotUsedError("trained again")
        return _comparable(rows)

    def read_network(sha256: str | None) -> object:
        history.trials["t0000"] = with_repeat(replace(repeated, network=sha256 or repeated.network))
        history.champion, history.champion_decision = "t0000", ENSEMBLE_DECISION
        _artifact, classifier = load_champion(folder, plan, history)
        return str(classifier.state_dict())

    def read_champion(sha256: str | None) -> object:
        refitted = replace(trial, refit_hash=sha256 or trial.refit_hash)
        try:
            return str(load_refit_weights(folder, refitted))
        except ValueError as error:  # it is trained again
            raise NotUsedError(str(error)) from None

    return {
        "trial_scores": _sealed(scores, read_scores, _forged_table(scores)),
        "repeat_scores": _sealed(repeat_scores, read_repeat_scores, _forged_table(repeat_scores)),
        "repeat_network": _sealed(network, read_network, _forged_network(network)),
        "champion": _sealed(champion, read_champion, _forged_network(champion)),
    }


def _forged_network(path: Path) -> Callable[[Random], bytes]:
    tree = unpack(path.read_bytes())
    return lambda rng: pack_mutated(tree, rng)


def _record_targets(study: Study, shards: Path) -> dict[str, Target]:
    folder, plan = study.folder, study.plan
    rows = load_patches(str(shards))
    probabilities = np.random.default_rng(0).dirichlet((1, 1), len(rows.labels))
    scored = ScoredRows(rows.labels, probabilities, rows.patients, RECORDED.class_names, 0.5)
    write_evaluation(folder, ScoredTestSet(rows, scored, RECORDED))
    write_importances(folder, plan, study.history)
    key_in(folder, folder.PSEUDONYM_KEY)
    data = Folder(folder.local / "data")
    assert study.history.champion_decision is not None
    decision = study.history.champion_decision
    record_test_set_access(TestSetAccess.now("x", "id", "t0000", decision), data, "label")
    (access,) = (data.local / "splits/test_access/label").iterdir()
    evaluation = folder.local / folder.evaluation("external")
    (scores,) = evaluation.glob("scores-*.parquet")
    stored = StoredInterval(Interval(0.1, 0.2, 0.3), scores_hash(study.history.trials["t0000"]))
    intervals = record_to_json(StoredIntervals({"t0000": stored}))
    folder.write(folder.INTERVALS, dump_checked(intervals))
    importances = json.loads(folder.read(folder.IMPORTANCES))
    record = json.loads((evaluation / RECORD).read_bytes())
    del importances["checksum"], record["checksum"]

    def read_stored_importances() -> object:
        stored = stored_importances(folder)
        if stored is None:
            raise NotUsedError("computed again")
        return stored

    def read_stored_intervals() -> object:
        intervals = read_intervals(folder, study.history)
        if not intervals:
            raise NotUsedError("not shown")
        return intervals

    def forge_checked(tree: object) -> Callable[[Random], bytes]:
        def forge(rng: Random) -> bytes:
            mutated = mutate_tree(tree, rng)
            return dump_checked(mutated if isinstance(mutated, dict) else {"x": mutated})

        return forge

    def read_scores() -> object:
        return _comparable(read_evaluation_scores(folder, RECORDED))

    return {
        "splits": _target(
            folder.local / folder.SPLITS,
            lambda: repr(read_splits(folder, plan)),
            _forged_json(json.loads(folder.read(folder.SPLITS))),
            has_hash=True,
        ),
        "journal_head": _target(
            folder.local / folder.JOURNAL_HEAD,
            lambda: load_study(folder).events,
            lambda rng: mutate_bytes(folder.read(folder.JOURNAL_HEAD), rng),
            has_hash=True,
        ),
        "evaluation": _target(
            evaluation / RECORD,
            lambda: repr(read_evaluations(folder)),
            forge_checked(record),
            has_hash=True,
        ),
        "evaluation_scores": _target(scores, read_scores, _forged_table(scores), has_hash=True),
        "importances": _target(
            folder.local / folder.IMPORTANCES,
            read_stored_importances,
            forge_checked(importances),
            has_hash=True,
        ),
        "intervals": _target(
            folder.local / folder.INTERVALS,
            read_stored_intervals,
            forge_checked(intervals),
            has_hash=True,
        ),
        "pseudonym_key": _target(
            folder.local / folder.PSEUDONYM_KEY,
            lambda: key_in(folder, folder.PSEUDONYM_KEY).secret,
            lambda rng: rng.bytes(32).hex().encode(),
            has_hash=True,
        ),
        "test_access": _target(
            access,
            lambda: read_test_set_accesses(data, "label"),
            _forged_json(json.loads(access.read_bytes())),
            has_hash=True,
        ),
    }


def _lock_targets(folder: StudyFolder, scratch: Path) -> dict[str, Target]:
    """The lock that another process holds on a disk, and the lease of one on an object store."""
    path = folder.local / folder.LOCK
    path.write_bytes(b"process 7 on host")
    path.chmod(0o600)

    def read_held_lock() -> object:
        descriptor = os.open(path, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            check_no_launcher(folder)
        finally:
            os.close(descriptor)
        raise AssertionError("two launchers")

    def read_lock(content: bytes) -> object:
        try:
            return _in_place(path, read_held_lock)(content)
        except UserError as error:  # the name of the holder may be damaged
            return "study 'first' is being run by" in str(error)

    remote = StudyFolder(f"memory://{scratch}/locked")

    def read_lease(content: bytes) -> object:
        remote.write(remote.LOCK, content)
        LeaseLock(remote).inspect()
        return None

    return {
        "lock": Target(
            read_lock, path.read_bytes(), lambda rng: mutate_bytes(b"x\n" * 9, rng), has_hash=True
        ),
        "lease": Target(
            read_lease, json.dumps(LEASE).encode(), _forged_json(LEASE), has_hash=False
        ),
    }


def _archive_target(folder: StudyFolder, scratch: Path) -> Target:
    path = scratch / "first.zip"
    export_archive(folder, path, lambda _done, _total: None)
    content = path.read_bytes()

    def read() -> object:
        studies = scratch / "imported"
        shutil.rmtree(studies, ignore_errors=True)
        imported = import_archive(path, str(studies), lambda _done, _total: None)
        return {name: imported.read(name) for name in imported.file_names()}

    return _target(path, read, lambda rng: mutate_bytes(content, rng), has_hash=True)


def _pixel_targets(shards: Path, cache: Path) -> dict[str, Target]:
    load_patches(str(shards), cache)
    (pixels,) = (cache / "pixels").glob("*.npy")
    rows, hashes = pixels.with_suffix(".parquet"), pixels.with_suffix(".json")
    stored = json.loads(hashes.read_bytes())

    def read() -> object:
        return _comparable(load_patches(str(shards), cache))

    def sealed(path: Path, forge: Callable[[Random], bytes]) -> Target:
        def read_sealed(sha256: str | None) -> object:
            changed = {**stored, path.suffix: content_hash(path)} if sha256 else stored
            return _in_place(hashes, read)(json.dumps(changed).encode())

        return _sealed(path, read_sealed, forge)

    content = pixels.read_bytes()
    return {
        "pixels": sealed(pixels, lambda rng: mutate_bytes(content[:128], rng) + content[128:]),
        "pixel_rows": sealed(rows, _forged_table(rows)),
        "pixel_hashes": _target(hashes, read, _forged_json(stored), has_hash=True),
    }


def _cached_file_targets(shards: Path, scratch: Path) -> dict[str, Target]:
    """Shards of a remote address, weights with a hash in their name or beside them, settings."""
    remote, cache = f"memory://{scratch}/shards", scratch / "shard-cache"
    for path in shards.iterdir():
        if path.is_file():
            Folder(remote).write(path.name, path.read_bytes())

    def read_remote() -> object:
        shutil.rmtree(cache / "pixels", ignore_errors=True)
        return _comparable(load_patches(remote, cache))

    read_remote()
    (shard,) = (cache / "shards").glob("*.parquet")
    weights = np.random.default_rng(0).bytes(5000)
    places = scratch / "weights-cache"
    named = places / f"net-{hashlib.sha256(weights).hexdigest()[:8]}.pth"
    beside = places / "hub.bin"

    def read_weights(path: Path) -> bytes:
        def fetch() -> None:
            path.write_bytes(weights)

        return weights_cache.download_once(path, "x", fetch).read_bytes()

    for path in (named, beside):
        read_weights(path)
    settings = Folder(scratch / "numerics")
    settings.write("x.json", dump_checked({"precision": "bfloat16"}))
    precision = settings.local / "x.json"

    def read_precision() -> object:
        chosen = read_settings(settings, "x.json")
        if chosen is None:
            raise NotUsedError("chosen again")
        return chosen

    def mutated(path: Path) -> Callable[[Random], bytes]:
        content = path.read_bytes()
        return lambda rng: mutate_bytes(content, rng)

    hash_file = beside.with_name("hub.bin.sha256")
    return {
        "shard_cache": _target(shard, read_remote, mutated(shard), has_hash=True),
        "weights": _target(named, lambda: read_weights(named), mutated(named), has_hash=True),
        "other_weights": _target(
            beside, lambda: read_weights(beside), mutated(beside), has_hash=True
        ),
        "weights_hash": _target(
            hash_file, lambda: read_weights(beside), mutated(hash_file), has_hash=True
        ),
        "precision": _target(precision, read_precision, mutated(precision), has_hash=True),
    }
