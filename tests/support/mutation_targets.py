"""The files that the mutation tests mutate, with the readers of the product.

A reader may raise a `UserError`, which is printed in one line, and nothing else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from raysearch.champion.model_artifact import ModelArtifact, pack_model_artifact
from raysearch.champion.training_record import TrainingDataRecord
from raysearch.config.space_file import read_space
from raysearch.data.audit.train_test_overlap import read_origins
from raysearch.data.files import Folder
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import View, load_rows
from raysearch.data.shards.shard_manifest import MANIFEST_FILE, read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.csv_table import list_csv
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import UserError
from raysearch.inference.model_loading import model_from_artifact
from raysearch.reports.evaluation_page import read_score_table
from raysearch.reports.model_card import read_card_answers
from raysearch.reports.published_results import check_published, read_published
from raysearch.search.journal.codec import event_to_json
from raysearch.search.journal.events import (
    ChampionDecision,
    ChampionSelected,
    Event,
    FoldReport,
    ModelCosts,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    TrialWarning,
)
from raysearch.search.journal.history import History, leaderboard
from raysearch.search.journal.journal import FORMAT, Journal
from raysearch.search.study.plan import Plan, Split, load_plan
from raysearch.training.checkpoint import pack, unpack, unpack_checkpoint
from support.mutations import (
    Random,
    Tree,
    dump_json,
    mutate_bytes,
    mutate_table,
    mutate_tree,
)
from support.spaces import FULL, full_space

SHARD = "part-00000.parquet"
ARTIFACT = ModelArtifact(
    study="first",
    study_identity="0123",
    trial="t0007",
    hparams={"architecture": "cnn", "width": 2, "convolutions": 1, "preprocess": "reinhard"},
    shape=(32, 32, 3),
    class_names=("negative", "positive"),
    temperature=1.5,
    threshold=0.25,
)
TRAINING_DATA = TrainingDataRecord("key", ("12", "34"), np.arange(3))
EVENTS: tuple[Event, ...] = (
    StudyLaunched("host", 7),
    TrialStarted("t0000", "trial", {"width": 8, "learning_rate": 0.01}, 3, 2),
    TrialStarted("t0001", "trial", {"width": 4, "learning_rate": 0.02}, 4, 2),
    FoldReport("t0000", 0, 1, 0.7, {"auroc": 0.7}, 0.5, 1.0, True, costs=ModelCosts(8, 9, 10)),
    TrialPaused("t0000"),
    FoldReport("t0001", 0, 1, 0.6, {"auroc": None}, 0.5, 1.0, True, samples=10),
    TrialEnded("t0001", "stopped", "rung"),
    TrialPromoted("t0000"),
    FoldReport("t0000", 1, 2, 0.8, {"auroc": 0.8}, 0.4, 1.0, dollars=0.1, inference_ms=1.5),
    TrialWarning("t0000", "a warning"),
    TrialEnded("t0000", "finished", "all folds done"),
    ChampionSelected(
        "t0000", ChampionDecision(0.005, "refit", 1, 1.2, 0.4, "f1", None, None), (0.5,)
    ),
)
CSV = """path,label,patient,slide,x,y,split,label_grade
a/1.png,benign,p1,s1,0,0,train,1
a/2.png,benign,p1,s1,32,0,train,2
b/3.png,malignant,"p,2",s2,0,64,val,
b/4.png,,p3,,,,test,1
"""
SCORES = """path,patient,x,y,label,score_benign,score_malignant
1.png,p1,0,0,benign,0.75,0.25
2.png,p1,0,0,malignant,0.5,0.5
3.png,p2,,,benign,0.125,0.875
"""
FIGURES = """name: authors
rows: 200
classes:
  benign: {precision: "0.90", recall: 0.80, f1-score: 0.85, support: 100}
  malignant: {precision: 0.82, recall: 0.91, f1-score: 0.86, support: 100}
confusion: [[80, 20], [9, 91]]
metrics: {accuracy: 0.855}
fractions: [{name: sensitivity, reported: 0.91, count: 91, total: 100}]
by_confidence: {0.9: {coverage: 0.7, accuracy: 0.95}}
"""
CARD = "funding: none\nlimitations: one hospital\n"


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        read: Reads the content by the product's readers; returns something comparable.
        content: A valid content.
        forge: Returns a mutated content that has the right hashes; for a file that people write,
            any mutated content.
        has_hash: Whether a content that is only damaged is rejected, or read as it was.
        max_lines: The lines of a message; a file that people write has one for each error.
    """

    read: Callable[[bytes], object]
    content: bytes
    forge: Callable[[Random], bytes]
    has_hash: bool
    max_lines: int = 1


@dataclass(frozen=True)
class Outcome:
    """What reading a mutated file ended with: `read`, `rejected`, or an error.

    `message` is that of a rejection, or says what the error is.
    """

    kind: str
    message: str = ""

    @property
    def error(self) -> str:
        """What the error is; empty if there is none."""
        return self.message if self.kind == "error" else ""


def read_mutation(target: Target, number: int, seed: int = 0) -> Outcome:
    """Read a mutated content of `target`: every other one is forged, the others are damaged."""
    rng = np.random.default_rng([seed, number])
    is_forged = bool(number % 2)
    content = target.forge(rng) if is_forged else mutate_bytes(target.content, rng)
    try:
        result = target.read(content)
    except UserError as error:
        num_lines = len(str(error).splitlines())
        if not 1 <= num_lines <= target.max_lines:
            return Outcome("error", f"a message of {num_lines} lines: {error}"[:300])
        return Outcome("rejected", str(error))
    except Exception as error:  # a user would see the traceback of any other exception
        return Outcome("error", f"{type(error).__name__}: {error}"[:300])
    if target.has_hash and not is_forged and result != target.read(target.content):
        return Outcome("error", "silently wrong")
    return Outcome("read")


def make_targets(folder: Path) -> Mapping[str, Target]:
    """Return every kind of file, by its name; `folder` is a scratch folder."""
    return {
        **_shard_targets(folder),
        "plan": _plan_target(),
        "journal": _journal_target(folder),
        "checkpoint": _checkpoint_target(),
        "model": _model_target(),
        "space": _written(folder / "space.yaml", FULL, read_space),
        "csv": _csv(folder / "source.csv", CSV, lambda path: list_csv(str(path), SourceOptions())),
        "scores": _csv(folder / "scores.csv", SCORES, read_score_table),
        "figures": _written(folder / "figures.yaml", FIGURES, _check_figures),
        "card": _written(folder / "card.yaml", CARD, read_card_answers),
    }


def _check_figures(path: Path) -> object:
    return check_published(read_published(path))


def _written(path: Path, text: str, read: Callable[[Path], object]) -> Target:
    """Return the target of a YAML file that people write."""
    tree = yaml.safe_load(text)

    def forge(rng: Random) -> bytes:
        return dump_json(mutate_tree(tree, rng)).encode("utf-8", "surrogatepass")

    read_content = partial(_read_file, path, read)
    return Target(read_content, text.encode(), forge, has_hash=False, max_lines=60)


def _csv(path: Path, text: str, read: Callable[[Path], object]) -> Target:
    rows = list(csv.reader(io.StringIO(text)))

    def forge(rng: Random) -> bytes:
        mutated = io.StringIO(newline="")
        tree = mutate_tree(rows, rng)
        lines = [row if isinstance(row, list) else [row] for row in tree]
        csv.writer(mutated).writerows([[str(cell) for cell in row] for row in lines])
        return mutated.getvalue().encode("utf-8", "surrogatepass")

    return Target(partial(_read_file, path, read), text.encode(), forge, has_hash=False)


def _read_file(path: Path, read: Callable[[Path], object], content: bytes) -> object:
    path.write_bytes(content)
    return read(path)


def _shard_targets(folder: Path) -> dict[str, Target]:
    write_shards("4:12:1", folder / "valid", "synthetic", workers=1)
    manifest = read_manifest(Folder(folder / "valid"))
    manifest_content = manifest.dump()
    shard_content = (folder / "valid" / SHARD).read_bytes()
    table = pq.read_table(folder / "valid" / SHARD)
    mutated = folder / "mutated"
    mutated.mkdir()

    def read_set(manifest_bytes: bytes, shard_bytes: bytes) -> object:
        (mutated / MANIFEST_FILE).write_bytes(manifest_bytes)
        (mutated / SHARD).write_bytes(shard_bytes)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        patches = load_patches(str(mutated), folder / "cache")
        rows = load_rows(str(mutated))
        hashes = read_origins(str(mutated)).pixel_hashes
        return _comparable(patches) + _comparable(rows) + (hashes.tobytes(),)

    def forge_manifest(rng: Random) -> bytes:
        values = json.loads(manifest_content)
        del values["fingerprint"], values["checksum"]
        mutated = mutate_tree(values, rng)
        try:
            fields = json.loads(dump_json(mutated))
        except (ValueError, RecursionError):
            return dump_json(mutated).encode()
        return _signed_manifest(fields) if isinstance(fields, dict) else json.dumps(fields).encode()

    def read_shard(content: bytes) -> object:
        is_sealed = content.startswith(b"sealed")
        content = content.removeprefix(b"sealed")
        if not is_sealed:
            return read_set(manifest_content, content)
        (shard,) = manifest.shards
        sha256 = hashlib.sha256(content).hexdigest()
        shard = replace(shard, bytes=len(content), sha256=sha256)
        return read_set(replace(manifest, shards=(shard,)).dump(), content)

    def forge_shard(rng: Random) -> bytes:
        if rng.integers(0, 4) == 0:
            return b"sealed" + mutate_bytes(shard_content, rng)
        sink = pa.BufferOutputStream()
        try:
            pq.write_table(mutate_table(table, rng), sink, write_page_checksum=True)
        except (pa.ArrowException, NotImplementedError):  # a table that Parquet cannot store
            return b"sealed"
        return b"sealed" + bytes(sink.getvalue())

    return {
        "manifest": Target(
            lambda content: read_set(content, shard_content),
            manifest_content,
            forge_manifest,
            has_hash=True,
        ),
        "parquet": Target(read_shard, shard_content, forge_shard, has_hash=True),
    }


def _signed_manifest(fields: dict[str, Tree]) -> bytes:
    """Return a manifest with `fields` and the hashes that its writer would add."""

    def digest(content: dict[str, Tree]) -> str:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    content = {name: value for name, value in fields.items() if name != "source"}
    signed = {**fields, "fingerprint": digest(content)}
    return json.dumps({**signed, "checksum": digest(signed)}).encode()


def _comparable(rows: object) -> tuple[object, ...]:
    values = []
    for name, value in sorted(vars(rows).items()):
        is_array = isinstance(value, np.ndarray)
        values.append((name, (value.dtype.str, value.tobytes()) if is_array else value))
    return tuple(values)


def _plan_target() -> Target:
    space = full_space().with_folds(3)
    hparams = tuple(dict.fromkeys(hparam.name for hparam in space.hparams))
    space = replace(
        space,
        hparams=tuple(space.hyperparameter(name) for name in hparams),  # type: ignore[misc]
    )
    split = Split(3, "cd" * 32, (2, 2, 2), (10, 11, 12), (1, 2))
    plan = Plan(
        name="first",
        identity="0123",
        space=space,
        data="/data/shards",
        fingerprint="ab" * 32,
        shape=(32, 32, 3),
        class_names=("0", "1"),
        class_counts=(20, 13),
        splits=(split,),
        view=View("label", "patient", ("p9",)),
    )
    content = plan.dump()

    def read(content: bytes) -> object:
        plan = load_plan(content)
        folds = max(split.folds for split in plan.splits)
        summary = (plan.max_fold_epochs, plan.repeat_fold_epochs, plan.split(folds).rungs)
        return (plan, summary, plan.space.settings(), plan.space.schemes())

    def forge(rng: Random) -> bytes:
        fields = json.loads(content)
        del fields["hash"]
        mutated = mutate_tree(fields, rng)
        try:
            parsed = json.loads(dump_json(mutated))
        except (ValueError, RecursionError):
            return dump_json(mutated).encode()
        text = json.dumps(parsed, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return json.dumps({**parsed, "hash": digest} if isinstance(parsed, dict) else 1).encode()

    return Target(read, content, forge, has_hash=True)


def _journal_target(folder: Path) -> Target:
    journal = Journal(Folder(folder / "journal"))
    journal.append(*EVENTS)
    (path,) = (folder / "journal").iterdir()
    content = path.read_bytes()
    events = [event_to_json(event) for event in journal.events]

    def read(content: bytes) -> object:
        path.write_bytes(content)
        stored = Journal(Folder(folder / "journal"))
        history = History(stored.events)
        leaderboard(history, full_space())
        trials = list(history.trials.values())
        costs = [(trial.seconds, trial.costs, trial.objective, trial.epoch) for trial in trials]
        return (stored.events, costs, history.spent.clock_s, history.champion)

    def forge(rng: Random) -> bytes:
        checksum, lines = f"format {FORMAT}", []
        for event in mutate_tree(events, rng):
            text = dump_json(event)
            checksum = hashlib.sha256(f"{checksum} {text}".encode()).hexdigest()[:16]
            lines.append(f"{checksum} {text}\n")
        head = f"raysearch journal {FORMAT}: {len(lines)} events, the last {checksum}\n"
        return "".join([head, *lines]).encode()

    return Target(read, content, forge, has_hash=True)


def _checkpoint_target() -> Target:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    epoch = {"epoch": 1, "fold": 0, "objective": 0.5, "loss": 0.7, "metrics": {"auroc": None}}
    tree = {
        "epoch": 1,
        "history": [{**epoch, "seconds": 1.5, "samples": 10}],
        "model": net.state_dict(),
        "stage": 1,
        "optimizer": optimizer.state_dict(),
        "schedule": {"last_epoch": 3, "_last_lr": [0.1]},
        "score_hashes": {1: "ab" * 32},
    }
    content = pack(tree)

    def read(content: bytes) -> object:
        try:
            state = unpack_checkpoint(content)
        except ValueError as error:  # the trial then starts from its first epoch, with a warning
            raise UserError(str(error)) from None
        return (state.history, str(state.trainer), state.score_hashes)

    return Target(read, content, lambda rng: pack_mutated(tree, rng), has_hash=True)


def _model_target() -> Target:
    torch.manual_seed(0)
    content = pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained(), TRAINING_DATA)
    tree = unpack(content)

    def read(content: bytes) -> object:
        model = model_from_artifact(content, "the model")
        return (model.artifact, str(model.classifier.state_dict()))

    return Target(read, content, lambda rng: pack_mutated(tree, rng), has_hash=True)


def pack_mutated(tree: Tree, rng: Random) -> bytes:
    """Pack a mutated tree of tensors and values, or mutated bytes of torch's format."""
    mutated = mutate_tree(tree, rng)
    if isinstance(mutated, dict) and rng.integers(0, 4):
        return pack(mutated)
    packed = pack(tree)
    start = len(packed) - len(pack_payload(packed))
    payload = mutate_bytes(packed[start:], rng)
    magic = packed[: start - hashlib.sha256().digest_size]
    return magic + hashlib.sha256(payload).digest() + payload


def pack_payload(packed: bytes) -> bytes:
    """Return what `pack` wrote behind its hash."""
    return packed[packed.index(b"PK\x03\x04") :]
