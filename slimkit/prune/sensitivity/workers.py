"""Points measured by several workers at the same time: processes of this machine, or actors on a Ray cluster.

Each worker has the network and the evaluation, and takes one task after the other, in the order of the network; what
it keeps of the batches is brought forward as in one process. Every point comes back as it is measured.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections import deque
from contextlib import contextmanager
from multiprocessing import connection, get_context
from typing import Any, Deque, Dict, Generator, Iterator, List, Optional, Protocol, Sequence, Tuple, Union

from slimkit.errors import ConfigError, EvaluationError, SlimkitError, suggestion
from slimkit.prune.sensitivity.job import Job, Server
from slimkit.prune.sensitivity.tasks import Measured, Task

__all__ = ["EXECUTORS", "LocalPool", "Points", "Pool", "died", "measure_in_workers"]

#: What a worker says: a point; None when a task is done; what went wrong.
Message = Union[Measured, None, SlimkitError]

#: Tasks and their points, as they come.
Points = Generator[Tuple[Task, Measured], None, None]

EXECUTORS = ("local", "ray")


class Pool(Protocol):
    """Workers that have the job."""

    size: int

    def start(self, worker: int, task: Task) -> None:
        """Gives a worker that has none a task."""
        ...

    def messages(self) -> List[Tuple[int, Message]]:
        """Waits for what workers say; errors last.

        Raises:
            EvaluationError: a worker died.
        """
        ...

    def close(self) -> None:
        """Ends all workers."""
        ...


def measure_in_workers(job: Job, tasks: Sequence[Task], workers: int, executor: str) -> Points:
    """Measures tasks in workers.

    Args:
        job: what each worker needs.
        tasks: in the order of the network.
        workers: how many.
        executor: one of :data:`EXECUTORS`.

    Yields:
        A task and one of its points, as they come.

    Raises:
        ConfigError: there is no such executor, or the evaluation cannot be sent to a worker.
        EvaluationError: an evaluation failed, or a worker died.
        RuntimeUnavailableError: Ray is not installed.
    """
    if executor not in EXECUTORS:
        raise ConfigError(
            f"executor = {executor!r} is none of {', '.join(EXECUTORS)}{suggestion(str(executor), EXECUTORS)}"
        )
    if executor == "ray":
        from slimkit.prune.sensitivity.ray_pool import RayPool

        pool: Pool = RayPool(job, workers)
    else:
        pool = LocalPool(job, workers)
    try:
        yield from _deal(pool, deque(tasks))
    finally:
        pool.close()


def _deal(pool: Pool, waiting: Deque[Task]) -> Points:
    busy: Dict[int, Task] = {}
    for worker in range(min(pool.size, len(waiting))):
        busy[worker] = waiting.popleft()
        pool.start(worker, busy[worker])
    while busy:
        for worker, message in pool.messages():
            if isinstance(message, Measured):
                yield busy[worker], message
            elif message is not None:
                raise message
            else:
                del busy[worker]
                if waiting:
                    busy[worker] = waiting.popleft()
                    pool.start(worker, busy[worker])


def died(worker: int, task: Optional[Task], how: str) -> EvaluationError:
    """What is raised when a worker is gone."""
    at = f" while it measured '{task.group}'" if task is not None else " before it could measure"
    return EvaluationError(
        f"Worker {worker + 1} ended{at} ({how}); the points before are kept, and a new start goes on from them, with "
        "fewer workers if memory ran out."
    )


def broken(task: Optional[Task], error: BaseException) -> EvaluationError:
    """What is raised when a worker fails other than in the evaluation, such as for a module it does not find."""
    at = f"measure '{task.group}'" if task is not None else "begin"
    reason = " ".join(str(error).split()).rstrip(".")
    return EvaluationError(
        f"A worker could not {at}: {type(error).__name__}: {reason}; the points before are kept; workers need the "
        "modules of the evaluation and what it reads, at the same places."
    )


# ------------------------------------------------------------------------------------------------ processes


class LocalPool:
    """Processes of this machine, started anew (``spawn``), since a process with Paddle in it cannot be forked.

    Args:
        job: what each needs.
        workers: how many.
    """

    def __init__(self, job: Job, workers: int) -> None:
        payload = job.pickled(pickle.dumps, "with executor='ray', functions of any kind can be sent")
        context = get_context("spawn")
        self.size = workers
        self._tasks: Dict[int, Task] = {}
        self._ends: List[Any] = []
        self._processes: List[Any] = []
        try:
            with _threads(max(1, (os.cpu_count() or 1) // workers)):
                for _ in range(workers):
                    here, there = context.Pipe()
                    process = context.Process(target=_serve, args=(there, payload), daemon=True)
                    process.start()
                    there.close()
                    self._ends.append(here)
                    self._processes.append(process)
        except BaseException:
            self.close()
            raise

    def start(self, worker: int, task: Task) -> None:
        self._tasks[worker] = task
        try:
            self._ends[worker].send(task)
        except OSError:
            raise self._died(worker) from None

    def messages(self) -> List[Tuple[int, Message]]:
        found: List[Tuple[int, Message]] = []
        busy: Dict[Any, int] = {self._ends[worker]: worker for worker in self._tasks}
        for ready in connection.wait(list(busy)):
            end: Any = ready
            worker = busy[end]
            try:
                message: Message = end.recv()
            except (EOFError, OSError):
                message = self._died(worker)
            if message is None:
                del self._tasks[worker]
            found.append((worker, message))
        return sorted(found, key=lambda pair: isinstance(pair[1], SlimkitError))

    def _died(self, worker: int) -> EvaluationError:
        self._processes[worker].join(5)
        return died(worker, self._tasks.get(worker), f"exit code {self._processes[worker].exitcode}")

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for worker, process in enumerate(self._processes):
            if worker not in self._tasks:  # it waits for a task and ends by itself
                process.join(5)
            if process.is_alive():
                process.kill()
            process.join(5)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes started here get a share of the cores, unless the user said how many threads there are to be."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _serve(end: Any, payload: bytes) -> None:
    """What a process does: a task in, its points out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that deals the tasks
    server: Optional[Server] = None
    while True:
        try:
            task = end.recv()
        except EOFError:
            return
        try:
            server = server or Server(payload)
            for measured in server.measure(task):
                end.send(measured)
            end.send(None)
        except SlimkitError as error:
            end.send(error)
        except BrokenPipeError:
            return
        except Exception as error:
            end.send(broken(task, error))
