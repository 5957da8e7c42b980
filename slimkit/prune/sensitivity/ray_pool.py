"""The same workers as actors on a Ray cluster (``pip install slimkit[ray]``)."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from slimkit.errors import RuntimeUnavailableError, SlimkitError
from slimkit.prune.sensitivity.job import Job, Server
from slimkit.prune.sensitivity.tasks import Measured, Task
from slimkit.prune.sensitivity.workers import broken, died

__all__ = ["RayPool"]


class _Actor:
    """A worker; made into an actor."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._server: Optional[Server] = None
        self._points: Iterator[Measured] = iter(())

    def start(self, task: Task) -> Union[Measured, SlimkitError, None]:
        """Takes a task and returns its first point."""
        try:
            self._server = self._server or Server(self._payload)
            self._points = self._server.measure(task)
        except SlimkitError as error:
            return error
        except Exception as error:
            return broken(task, error)
        return self.more()

    def more(self) -> Union[Measured, SlimkitError, None]:
        """The next point; None: there is none; or what went wrong, returned so that the sentence arrives as it is."""
        try:
            return next(self._points, None)
        except SlimkitError as error:
            return error
        except Exception as error:
            return broken(None, error)


class RayPool:
    """Actors, each with one core.

    The cluster is the one this process is connected to, else that of ``RAY_ADDRESS``; without either, one is started
    on this machine, and ended afterwards.

    Args:
        job: what each actor needs.
        workers: how many; as many as the cluster has cores at most.

    Raises:
        RuntimeUnavailableError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, job: Job, workers: int) -> None:
        try:
            import ray
        except ImportError:
            raise RuntimeUnavailableError(
                "Ray is not installed, which executor='ray' needs; pip install 'slimkit[ray]', or use executor='local'."
            ) from None
        from ray import cloudpickle

        payload = job.pickled(cloudpickle.dumps, "what it refers to must be picklable too")
        self._ray = ray
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}},
                )
            except Exception as error:
                reason = " ".join(str(error).split()).rstrip(".")
                raise RuntimeUnavailableError(
                    f"The Ray cluster cannot be reached: {reason}; check RAY_ADDRESS, or use executor='local'."
                ) from error
        cores = int(ray.cluster_resources().get("CPU", 1))
        self.size = max(1, min(workers, cores))
        held = ray.put(payload)
        actor = ray.remote(num_cpus=1)(_Actor)
        self._actors: List[Any] = [actor.remote(held) for _ in range(self.size)]
        self._pending: Dict[Any, int] = {}
        self._tasks: Dict[int, Task] = {}

    def start(self, worker: int, task: Task) -> None:
        self._tasks[worker] = task
        self._pending[self._actors[worker].start.remote(task)] = worker

    def messages(self) -> List[Tuple[int, Union[Measured, SlimkitError, None]]]:
        ready, _ = self._ray.wait(list(self._pending), num_returns=1)
        found: List[Tuple[int, Union[Measured, SlimkitError, None]]] = []
        for reference in ready:
            worker = self._pending.pop(reference)
            message = self._get(reference, worker)
            if isinstance(message, Measured):
                self._pending[self._actors[worker].more.remote()] = worker
            found.append((worker, message))
        return found

    def _get(self, reference: Any, worker: int) -> Union[Measured, SlimkitError, None]:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return died(worker, self._tasks.get(worker), _first_line(error))

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()


def _first_line(error: BaseException) -> str:
    """The first sentence of one of Ray's many-line errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].split(". ")[0].rstrip(".:")
