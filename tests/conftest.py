"""What the tests share: synthetic shards, a Ray cluster of two nodes, and a way to run commands."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from raysearch import cli
from raysearch.data.child_processes import descendants, kill_processes
from raysearch.data.files import Folder
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.folds import fold_indices, stratified_group_kfold
from raysearch.search.study.study import Study
from raysearch.training.training_data import TrainingData
from support.champion_studies import SLIDE_HPARAMS, study_with_champion
from support.image_folders import write_image_folders
from support.slide_files import slide_shards

settings.register_profile("raysearch", deadline=None)
settings.load_profile("raysearch")
# What a user may have set, and a test wants to say itself.
RAY_SETTINGS = ("RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS")
SETTINGS = (
    *("RAYSEARCH_STUDIES", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS"),
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    "JPY_PARENT_PID",
)

RAY_CLUSTER = "ray-cluster"
# Groups and tests that take a minute or more, the longest first, by a part of their name. A
# parallel run starts with them: no process is left with one at the end.
LONGEST = (
    *(
        RAY_CLUSTER,
        "commands_of_the_guides",
        "lost_processes_are_named",
        "a_launch_without_a_space",
    ),
    *("commands_of_the_tutorial", "damaged_checkpoint"),
    *("one_slot", "a_killed_study", "weights_of_a_champion", "served_loaded", "test_postgresql"),
    *("test_other_accounts", "lost_workers", "names_the_license", "in_thousands_of_ways"),
    *("messages_of_a_launch", "test_the_doctor", "no_packet_leaves", "test_tracker"),
    *("test_model_registry", "test_clean_repository", "test_documentation", "test_mutations"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a parallel run, one process runs a group of tests, and the longest groups start first.

    The scheduler of pytest-xdist reads a group from the test's id. What xdist itself adds to an id
    for `xdist_group`, pytest 9.2 ignores (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    if not config.getoption("loadgroup", False):
        return  # the tests of a file stay together, and share the fixtures of its module
    items.sort(key=rank)
    for item in items:
        if group := group_of(item):
            item._id = item.id.parse(f"{item.nodeid}@{group}")


def group_of(item: pytest.Item) -> str:
    """The group of a test: those that use the Ray cluster, or the tests of its file.

    It is empty, and the test runs in any process, if it is slow and shares no fixture of its file.
    """
    is_slow = item.get_closest_marker("slow") is not None
    if is_slow and "cluster" in getattr(item, "fixturenames", ()):
        return RAY_CLUSTER
    shares_fixture = any(scope == "module" for scope in fixture_scopes(item))
    return "" if is_slow and not shares_fixture else str(item.path)


def fixture_scopes(item: pytest.Item) -> list[str]:
    """The scopes of the fixtures that a test uses."""
    assert isinstance(item, pytest.Function)
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return [overriding[-1].scope for overriding in definitions]


def rank(item: pytest.Item) -> int:
    """The place of a test's group among the longest; 0 is the longest."""
    name = f"{item.nodeid} {group_of(item)}"
    return next((place for place, part in enumerate(LONGEST) if part in name), len(LONGEST))


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 240 synthetic patches of 12 patients."""
    out = tmp_path_factory.mktemp("shards") / "small"
    write_shards("12:240:3", out, "synthetic", workers=1)
    return out


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 60 patients, of whom a split manifest seals nine."""
    out = tmp_path_factory.mktemp("shards") / "many"
    write_shards("60:480:1", out, "synthetic", workers=1)
    return out


@pytest.fixture
def champion_study(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study `first` over `many` with a champion; its held-out test set has no access yet."""
    monkeypatch.chdir(tmp_path)
    # Not the store of the working directory: this process would keep it open for other tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    for name in Folder(many).names("splits/test_access/label"):
        Folder(many).remove(f"splits/test_access/label/{name}")
    return study_with_champion(many, tmp_path / "studies" / "first")


@pytest.fixture(scope="session")
def small_champion_study(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study `first` over the small shards with a champion, to read from only."""
    return study_with_champion(shards, tmp_path_factory.mktemp("champion") / "studies" / "first")


@pytest.fixture(scope="session")
def session_slide_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study of `slide_study`."""
    folder = tmp_path_factory.mktemp("slides")
    shards = slide_shards(folder, 60)
    return study_with_champion(shards, folder / "studies" / "first", SLIDE_HPARAMS)


@pytest.fixture
def slide_study(
    session_slide_study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Study:
    """The study `first` of 60 slides with a champion, which may be tested already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setenv("RAYSEARCH_STUDIES", str(session_slide_study.folder.local.parent))
    return session_slide_study


@pytest.fixture
def studies(small_champion_study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The folder of `small_champion_study`; commands run in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    studies = str(Path(small_champion_study.folder.address).parent)
    monkeypatch.setenv("RAYSEARCH_STUDIES", studies)
    return studies


@pytest.fixture(scope="session")
def image_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 images in the layout of IDC in `idc`, and without labels in `plain`."""
    return write_image_folders(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def data(shards: Path) -> TrainingData:
    """What a training of two folds of the small shards reads."""
    torch.set_num_threads(1)
    patches = load_patches(str(shards))
    split = stratified_group_kfold(patches.patients, patches.labels, 2, 0)
    return TrainingData(
        torch.from_numpy(patches.pixels),
        torch.from_numpy(patches.labels),
        patches.patients,
        patches.shape,
        patches.class_names,
        tuple(fold_indices(patches.patients, split)),
    )


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pixel files of tests lie apart from the user's, and studies where each test says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAYSEARCH_SCHEMES", "memory")  # an object store without a server
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _ray_environment() -> Iterator[None]:
    """Remove what a command that ran in this process set for Ray: later tests start without it."""
    before = {name: os.environ.get(name) for name in RAY_SETTINGS}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real patches and splits; the test is skipped where there is none."""
    place = os.environ.get("RAYSEARCH_SHARED")
    if not place:
        pytest.skip("RAYSEARCH_SHARED does not name the folder with real patches")
    return Path(place)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of a bucket on an S3 server of our own, which every process here finds."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="raysearch")
        yield "s3://raysearch"
    server.stop()


@pytest.fixture(scope="session")
def cluster(bucket: str) -> Iterator[str]:
    """The address of a Ray cluster of two nodes, each a slot for one trial.

    Its nodes find the S3 server of `bucket`. On a loaded machine, Ray may start too slowly; it is
    then started once more.
    """
    assert bucket
    try:
        made = start_cluster()
    except Exception:  # Ray raises a bare Exception if a process is too slow
        made = start_cluster()
    try:
        yield made.address
    finally:
        made.shutdown()


def start_cluster() -> Any:
    """A Ray cluster of two nodes; nothing of it is left if it does not start."""
    from ray.cluster_utils import Cluster

    earlier = set(descendants(os.getpid()))
    made = Cluster()
    try:
        made.add_node(num_cpus=1, include_dashboard=False)  # the head
        made.add_node(num_cpus=1)
    except BaseException:
        kill_processes(descendants(os.getpid(), earlier))
        made.shutdown()
        raise
    return made


class Commands:
    """Runs `raysearch` as a user would, in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        # MLflow's `set_tracking_uri`, in the test before, sets one for this process's children too.
        here = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        self.environment = {**here, **environment}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A started `raysearch`, the leader of a session of its own."""
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("raysearch")), *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def here(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A finished command in this process, which has imported torch; of those without Ray."""
        out, err = io.StringIO(), io.StringIO()
        store = f"sqlite:///{self.folder}/mlflow.db"  # MLflow keeps the store of a relative address
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            for name in SETTINGS:
                patch.delenv(name, raising=False)
            for name, value in {"MLFLOW_TRACKING_URI": store, **self.environment}.items():
                patch.setenv(name, value)
            returned = cli.run([*words])
        assert returned == code, f"{returned}\n{out.getvalue()}\n{err.getvalue()}"
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A finished `raysearch` that ended with `code`."""
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, f"{process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, code, out, err)


def await_answer(address: str) -> None:
    """Wait until a server answers at `address`."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"nothing answers at {address}")


@pytest.fixture
def run(tmp_path: Path) -> Commands:
    """`raysearch` without a cluster."""
    return Commands(tmp_path, {})


@pytest.fixture
def run_on_cluster(tmp_path: Path, cluster: str) -> Commands:
    """`raysearch` on the shared cluster."""
    return Commands(tmp_path, {"RAY_ADDRESS": cluster})
