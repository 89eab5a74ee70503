"""Tune starts a trial again after each kind of loss of its worker."""

from collections.abc import Iterator
from typing import Any

import pytest
from ray.air.execution import FixedResourceManager, ResourceRequest
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    LocalRayletDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from raysearch.search.engine.ray_session import ray_session
from raysearch.search.engine.tune_failures import handle_all_losses


@pytest.fixture(scope="module", autouse=True)
def _local_ray() -> Iterator[None]:
    """Ray on this machine alone.

    Tune's managers would start Ray by themselves, and join a cluster that ended long ago if its
    address is still in Ray's folder.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        with ray_session():
            yield


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Task was killed due to the node running low on memory."),
        WorkerCrashedError(),
        LocalRayletDiedError(),
        RayActorError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_worker_is_a_failure_of_its_trial_and_not_of_the_search(error: RayError) -> None:
    handle_all_losses()
    failures: list[tuple[Any, Exception]] = []
    actor = TrackedActor(1, on_error=lambda lost, failure: failures.append((lost, failure)))
    resources, request = FixedResourceManager({"CPU": 1}), ResourceRequest([{"CPU": 1}])
    resources.request_resources(request)
    manager = RayActorManager(resource_manager=resources)
    worker = (object(), resources.acquire_resources(request))
    manager._live_actors_to_ray_actors_resources[actor] = worker
    manager._actor_task_failed(TrackedActorTask(actor), error)
    ((lost, failure),) = failures
    assert lost is actor
    assert isinstance(failure, RayActorError)
    assert str(failure) == str(error)


def test_an_error_that_is_no_loss_is_still_raised() -> None:
    handle_all_losses()
    manager = RayActorManager(resource_manager=FixedResourceManager({"CPU": 1}))
    task = TrackedActorTask(TrackedActor(1))
    with pytest.raises(RuntimeError, match="unexpected"):
        manager._actor_task_failed(task, ValueError("a fault of Tune"))
