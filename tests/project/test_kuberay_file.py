"""`clusters/kuberay.yaml` is valid for KubeRay, Kubernetes and Ray, and so is its image.

No Kubernetes is reached: the file is compared with the published schemas.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from raysearch.cli.command_table import load_command
from raysearch.config.space_file import read_space
from raysearch.config.telemetry import NO_TELEMETRY
from raysearch.data.cache_folder import private_folder
from raysearch.errors import DataError
from raysearch.search.engine.cluster_jobs import STUDY
from support.kubernetes_objects import object_errors

TOP = Path(__file__).parents[2]
FILE = TOP / "clusters" / "kuberay.yaml"
DOCKERFILE = TOP / "clusters" / "Dockerfile"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
# The maps whose keys the user chooses; a key that does not exist is no error in them.
FREE_MAPS = (
    *("labels", "annotations", "matchLabels", "rayStartParams", "limits", "requests"),
    "spec.metadata",
)
KeyPath = tuple[str | int, ...]


def objects() -> dict[str, dict[str, Any]]:
    """The objects of the file by kind; each part is one of its own."""
    items = yaml.safe_load(FILE.read_text())["items"]
    return {item["kind"]: copy.deepcopy(item) for item in items}


def cluster() -> dict[str, Any]:
    spec: dict[str, Any] = objects()["RayCluster"]["spec"]
    return spec


def pods() -> dict[str, dict[str, Any]]:
    """The specifications of the Pods of the head and of the workers."""
    (group,) = cluster()["workerGroupSpecs"]
    head = cluster()["headGroupSpec"]["template"]["spec"]
    return {"head": head, "worker": group["template"]["spec"]}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (first,) = pod["containers"]
    result: dict[str, Any] = first
    return result


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(pod)["env"]}


def key_paths(part: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path to every key at any depth."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield (*path, key)
            yield from key_paths(value, (*path, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from key_paths(value, (*path, index))


def part_at(part: Any, path: KeyPath) -> Any:
    for step in path:
        part = part[step]
    return part


def is_free(path: KeyPath) -> bool:
    """Whether a key is in a map whose keys the user chooses."""
    names = ".".join(str(step) for step in path[:-1])
    return any(names == name or names.endswith(f".{name}") for name in FREE_MAPS)


@pytest.mark.parametrize("kind", objects())
def test_every_object_fulfils_its_published_schema(kind: str) -> None:
    assert object_errors(objects()[kind]) == []


@pytest.mark.parametrize("kind", objects())
def test_every_misspelt_field_is_an_error_at_any_depth(kind: str) -> None:
    content = objects()[kind]
    # The cluster of a RayJob is the RayCluster's, whose fields are misspelt there.
    content["spec"].pop("rayClusterSpec", None)
    paths = [path for path in key_paths(content) if not is_free(path)]
    accepted = []
    for path in paths:
        if path in {("kind",), ("apiVersion",)}:  # they select the schema
            continue
        parent, key = part_at(content, path[:-1]), path[-1]
        value = parent.pop(key)
        parent[f"{key}x"] = value
        if not object_errors(content):
            accepted.append(path)
        del parent[f"{key}x"]
        parent[key] = value
    assert accepted == []
    assert object_errors(content) == []
    assert kind != "RayCluster" or len(paths) > 150


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "authOptions", "mode"), "password"),
        (("spec", "autoscalerOptions", "version"), "v3"),
        (("spec", "autoscalerOptions", "idleTimeoutSeconds"), "300"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "headGroupSpec", "template", "spec", "enableServiceLinks"), "no"),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "4"),
        (("spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "env", 0), "A=1"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error(path: KeyPath, value: object) -> None:
    content = objects()["RayCluster"]
    part_at(content, path[:-1])[path[-1]] = value
    assert object_errors(content)


def test_the_study_runs_on_a_cluster_like_the_one_that_stays() -> None:
    assert objects()["RayJob"]["spec"]["rayClusterSpec"] == cluster()


def test_rays_own_autoscaler_reads_the_cluster_as_it_is_meant() -> None:
    from ray.autoscaler._private.kuberay import autoscaling_config

    content = {**objects()["RayCluster"]}
    content["metadata"]["namespace"] = "default"
    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(content)
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    resources = types["gpu"]["resources"]
    assert (resources["CPU"], resources["GPU"], resources["memory"]) == (4, 1, 16 * 2**30)
    assert (types["gpu"]["min_workers"], config["max_workers"]) == (0, 4)
    # As in cluster.yaml.
    aws = yaml.safe_load((TOP / "cluster.yaml").read_text())
    assert config["idle_timeout_minutes"] == aws["idle_timeout_minutes"]


def test_the_versions_are_those_of_the_lock_and_of_the_project() -> None:
    lock = (TOP / "requirements.lock").read_text()
    assert f"\nray=={cluster()['rayVersion']} " in lock
    images = {container(pod)["image"] for pod in pods().values()}
    (image,) = images
    assert image.endswith(f"/raysearch:{PROJECT['version']}")
    assert image in DOCKERFILE.read_text()


def test_the_token_is_required_and_in_no_file_and_the_dashboard_is_not_published() -> None:
    assert cluster()["authOptions"] == {"mode": "token"}
    head = cluster()["headGroupSpec"]
    assert (head["serviceType"], head["enableIngress"]) == ("ClusterIP", False)
    assert "Secret" not in objects()
    for pod in pods().values():
        assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(environment(pod))
        assert not pod.get("hostNetwork", False)
        assert not [port for port in container(pod).get("ports", ()) if "hostPort" in port]
        # Every login is a reference to a Secret.
        assert container(pod)["envFrom"] == [
            {"secretRef": {"name": "raysearch-login", "optional": True}}
        ]
    text = FILE.read_text()
    assert not re.search("type: (LoadBalancer|NodePort)", text)
    assert not re.search(r"(?i)(password|secret_access_key): *\S", text)


def test_only_nodes_and_kuberay_reach_the_pods() -> None:
    policy = objects()["NetworkPolicy"]["spec"]
    labels = policy["podSelector"]["matchLabels"]
    (group,) = cluster()["workerGroupSpecs"]
    for spec in (cluster()["headGroupSpec"], group):
        assert labels.items() <= spec["template"]["metadata"]["labels"].items()
    nodes, operator = policy["ingress"]
    assert nodes == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert operator["ports"] == [{"port": 8265}]
    assert policy["policyTypes"] == ["Ingress"]


def test_no_pod_runs_as_root_or_gains_privileges() -> None:
    uid = int(re.search(r"^USER (\d+):\d+$", DOCKERFILE.read_text(), re.MULTILINE)[1])  # type: ignore[index]
    contexts = [container(pod)["securityContext"] for pod in pods().values()]
    contexts.append(cluster()["autoscalerOptions"]["securityContext"])
    for context in contexts:
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for pod in pods().values():
        account = pod["securityContext"]
        assert account["runAsNonRoot"]
        assert account["runAsUser"] == account["fsGroup"] == uid > 0
    # Only the container of the head's autoscaler has the account that calls Kubernetes.
    for pod in pods().values():
        assert pod["automountServiceAccountToken"] is False
        assert "account" not in {mount["name"] for mount in container(pod)["volumeMounts"]}
    (mount,) = cluster()["autoscalerOptions"]["volumeMounts"]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mount["name"] in {volume["name"] for volume in pods()["head"]["volumes"]}


@pytest.mark.parametrize("name", ["head", "worker"])
def test_every_mount_has_its_volume_and_shared_memory_is_memory(name: str) -> None:
    pod = pods()[name]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {
        mount["mountPath"]: volumes[mount["name"]] for mount in container(pod)["volumeMounts"]
    }
    assert len(mounts) == len(volumes.keys() - {"account"})  # that is the autoscaler's
    shared_memory = mounts["/dev/shm"]["emptyDir"]
    assert shared_memory["medium"] == "Memory"
    group = {"head": cluster()["headGroupSpec"], "worker": cluster()["workerGroupSpecs"][0]}[name]
    store = int(group["rayStartParams"]["object-store-memory"])
    assert store <= 2**30 == 2**30 * int(shared_memory["sizeLimit"].removesuffix("Gi"))
    claim = mounts["/shared"]["persistentVolumeClaim"]["claimName"]
    assert claim == objects()["PersistentVolumeClaim"]["metadata"]["name"]
    assert environment(pod)["RAYSEARCH_STUDIES"].startswith("/shared/")


def test_the_cache_is_in_a_folder_of_the_volume_that_only_the_account_can_write(
    tmp_path: Path,
) -> None:
    for pod in pods().values():
        mounts = {mount["mountPath"] for mount in container(pod)["volumeMounts"]}
        assert str(Path(environment(pod)["RAYSEARCH_CACHE"]).parent) in mounts
    # Kubernetes makes the volume so; the cache itself is rejected there.
    volume = tmp_path / "cache"
    volume.mkdir()
    volume.chmod(0o2777)
    with pytest.raises(DataError, match="other users can write"):
        private_folder(volume / "pixels")
    assert private_folder(volume / "raysearch" / "pixels").is_dir()


def test_no_pod_uses_more_than_it_requests() -> None:
    sizes = [container(pod)["resources"] for pod in pods().values()]
    for size in [*sizes, cluster()["autoscalerOptions"]["resources"]]:
        assert size["limits"] == size["requests"]


def test_a_worker_has_time_to_announce_its_end_and_the_head_to_save_a_stopped_study() -> None:
    worker = pods()["worker"]
    drain = float(environment(worker)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    # After it, Ray ends its processes.
    assert 60 <= drain <= worker["terminationGracePeriodSeconds"] - 15
    from ray._private import ray_constants

    assert hasattr(ray_constants, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")
    # The health checks, and the time of a stopped study, are those of the other clusters.
    aws = (TOP / "cluster.yaml").read_text()
    same = {
        name: value
        for name, value in environment(pods()["head"]).items()
        if name.startswith(("RAY_health", "RAY_gcs", "RAY_JOB"))
    }
    assert len(same) == 5
    for name, value in same.items():
        assert re.search(rf"\b{name}={value}\b", aws)


def test_the_job_is_one_that_the_commands_find_and_that_kuberay_sends_again() -> None:
    job = objects()["RayJob"]["spec"]
    assert job["submissionMode"] == "HTTPMode"
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"]
    assert list(job["metadata"]) == [STUDY]


def run_entrypoint(folder: Path) -> list[list[str]]:
    """Run the entrypoint as Ray does; return the words of each command that it has run.

    Args:
        folder: Where its commands are recorded. `raysearch status` fails if there is no study.
    """
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    # A study that was only starting is gone after the wait.
    status = f"""
if [ "$0" = {commands}/sleep ] && [ -f {folder}/starting ]; then rm {folder}/starting; fi
[ "$1" != status ] || [ -d {folder}/study ] || [ -f {folder}/starting ]"""
    for name in ("raysearch", "sleep"):
        (commands / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/log\n{status}\n')
        (commands / name).chmod(0o755)
    (folder / "log").unlink(missing_ok=True)
    subprocess.run(
        objects()["RayJob"]["spec"]["entrypoint"],
        shell=True,
        env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
        check=True,
    )
    return [shlex.split(line) for line in (folder / "log").read_text().splitlines()]


def test_the_entrypoint_launches_a_study_and_resumes_one_that_exists(tmp_path: Path) -> None:
    status, second_status, launch = run_entrypoint(tmp_path)
    assert status == second_status
    study = objects()["RayJob"]["spec"]["metadata"][STUDY]
    assert status == ["raysearch", "status", study]
    load_command("launch").make_context("launch", launch[2:])  # its options exist
    assert launch[launch.index("--name") + 1] == study
    assert {"--events"} <= set(launch)
    assert "--resume" not in launch
    # The workers have one GPU and four cores: four trials run at once.
    (override,) = [word for word in launch if "=" in word]
    assert override == "resources.gpus=0.25"
    assert container(pods()["worker"])["resources"]["limits"]["nvidia.com/gpu"] == 1
    spaces = {path.name for path in (TOP / "searchspace").glob("*.yaml")}
    assert Path(launch[2]).name in spaces
    mounts = {mount["mountPath"] for mount in container(pods()["head"])["volumeMounts"]}
    assert str(Path(launch[2]).parent) in mounts
    # A file of a ConfigMap is a link.
    (tmp_path / "space.yaml").symlink_to(TOP / "searchspace" / Path(launch[2]).name)
    assert read_space(tmp_path / "space.yaml") == read_space(
        TOP / "searchspace" / Path(launch[2]).name
    )
    (tmp_path / "starting").touch()  # the head was lost before the study was stored
    _, wait, _, restarted = run_entrypoint(tmp_path)
    assert wait == ["sleep", "90"]
    assert restarted == launch
    (tmp_path / "study").mkdir()
    _, wait, _, resumed = run_entrypoint(tmp_path)
    assert wait == ["sleep", "90"]
    assert resumed == [*launch, "--resume"]


def test_lines_that_a_user_must_change_are_marked() -> None:
    marked = [line for line in FILE.read_text().splitlines()[1:] if "CHANGE" in line]
    assert 5 <= len(marked) <= 12
    for name in ("storageClassName", "image:", "RAYSEARCH_STUDIES", "MLFLOW_TRACKING_URI"):
        assert any(name in line for line in marked)


# The image


def instructions() -> list[list[str]]:
    """The instructions of the Dockerfile, each in words; comments are left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip()]


def test_the_image_copies_files_that_exist_and_that_docker_is_sent() -> None:
    copied = [word for first, *words in instructions() if first == "COPY" for word in words[:-1]]
    assert set(copied) >= {"src", "pyproject.toml", "README.md", "requirements.lock"}
    tracked = subprocess.run(
        ["git", "ls-files", "--", *copied], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in copied:
        assert any(path == name or path.startswith(f"{name}/") for path in tracked), name
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)


def test_the_image_has_the_python_of_the_other_clusters_pinned_by_its_version() -> None:
    (base,) = [words for first, *words in instructions() if first == "FROM"]
    match = re.fullmatch(r"python:((\d+\.\d+)\.\d+)-[a-z]+(@sha256:[0-9a-f]{64})?", base[0])
    assert match
    assert SpecifierSet(PROJECT["requires-python"]).contains(match[1])
    assert f"Programming Language :: Python :: {match[2]}" in PROJECT["classifiers"]
    assert f"--python {match[2]} " in (TOP / "cluster.yaml").read_text()


def test_the_image_installs_the_locked_versions_by_hash_and_nothing_else() -> None:
    runs = " && ".join(" ".join(words[1:]) for words in instructions() if words[0] == "RUN")
    installs = [command for command in runs.split("&&") if " install " in command]
    assert len(installs) == 3
    tools, packages, product = installs
    assert "pip install" in tools
    assert "--require-hashes -r requirements-build.lock" in tools
    assert "--require-hashes -r requirements.lock" in packages
    assert "--no-deps" in product
    assert "--require-build-hashes --build-constraints requirements-build.lock ." in product
    assert not re.search(r"\b(curl|wget|apt|apt-get|git)\b", runs)
    assert not [words for words in instructions() if words[0] == "ADD"]


def test_the_image_runs_as_an_account_and_sends_no_telemetry() -> None:
    last_user = [words[1] for words in instructions() if words[0] == "USER"][-1]
    assert last_user == "1000:1000"
    variables = [word for words in instructions() if words[0] == "ENV" for word in words[1:]]
    for name, value in NO_TELEMETRY.items():
        assert f"{name}={value}" in variables
