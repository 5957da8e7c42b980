"""A native runtime in a process of its own: an abort there becomes one sentence here.

A :class:`WorkerSession` starts a worker script, sends it requests and hands arrays over as ``.npz`` files in a
temporary folder that disappears with the session. Being separate also keeps latency clean: its own threads,
pinned, no Python work beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, Union

import numpy as np

from slimkit.deploy.native_messages import ended_with, essence, hint_for
from slimkit.errors import DataError, RuntimeFailedError

__all__ = ["Feed", "WorkerSession", "named_feed"]

Feed = Union[Mapping[str, np.ndarray], Sequence[np.ndarray], np.ndarray]

WORKERS = Path(__file__).parent / "workers"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def named_feed(batch: Feed, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """Turns a batch in any accepted form into ``{input name: array}``.

    Args:
        batch: a dict by input name, a sequence in input order, or one array for a model with one input.
        names: the model's inputs, in order.

    Raises:
        DataError: the inputs given are not the inputs the model has.
    """
    if isinstance(batch, Mapping):
        missing = [name for name in names if name not in batch]
        if missing:
            raise DataError(
                f"The batch has no array for input {missing[0]!r}; it has {', '.join(map(str, batch))} and the model "
                f"takes {', '.join(names)}."
            )
        return {name: np.asarray(batch[name]) for name in names}
    arrays = [batch] if isinstance(batch, np.ndarray) else list(batch)
    if len(arrays) != len(names):
        raise DataError(f"The batch has {len(arrays)} arrays but the model takes {len(names)}: {', '.join(names)}.")
    return {name: np.asarray(array) for name, array in zip(names, arrays)}


class WorkerSession:
    """A running worker process; use it as a context manager.

    Args:
        script: a file of ``slimkit/deploy/workers``.
        runtime: the runtime's name for messages, e.g. "Paddle Inference".
        python: the interpreter; by default the current one.
        threads: threads the runtime may use; the process is pinned to as many CPUs when ``pin``.
        environment: variables to add.
        timeout: seconds a single request may take.
    """

    def __init__(
        self,
        script: str,
        runtime: str,
        *,
        python: Optional[str] = None,
        threads: int = 1,
        pin: bool = True,
        environment: Optional[Mapping[str, str]] = None,
        timeout: float = 1800.0,
    ) -> None:
        self.runtime = runtime
        self.timeout = timeout
        self.inputs: Dict[str, List[str]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="slimkit-")
        self.folder = Path(self._folder.name)
        self._log = self.folder / "native.log"
        # Under `slimkit run` a worker is no process of the user's script: it needs no paddleslim, and Paddle as it is.
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("GLOG_", "SLIMKIT_AS_"))}
        variables.update({name: str(threads) for name in THREAD_VARIABLES})
        variables.update(environment or {})
        command = [python or sys.executable]
        if python is not None:  # another interpreter: this one's PYTHON* variables are not meant for it
            command += ["-E", "-s"]
        command += [str(WORKERS / script), str(self._log), str(threads), "pin" if pin else "free"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=variables,
                cwd=self.folder,
            )
        except OSError as error:
            self._folder.cleanup()
            raise RuntimeFailedError(
                f"{runtime} could not be started with {command[0]}: {error.strerror}; check that interpreter."
            ) from None
        try:
            self._receive("start")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What native code has printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def call(self, command: str, *, subject: str = "", **fields: Any) -> Dict[str, Any]:
        """Sends one request and waits for its reply.

        Args:
            command: a command of the worker.
            subject: what is being worked on, for messages: a model's file.
            fields: the request's fields, JSON values.

        Raises:
            RuntimeFailedError: the runtime raised, aborted, or took longer than the timeout.
        """
        try:
            requests = self._process.stdin
            if requests is not None:
                requests.write(json.dumps({"do": command, **fields}) + "\n")
                requests.flush()
        except OSError:
            pass  # it has died; reading says how
        return self._receive(command, subject)

    def load(self, key: str, **fields: Any) -> Dict[str, Any]:
        """Builds a predictor under ``key``; see the worker's ``load``."""
        reply = self.call("load", subject=str(fields.get("model", "")), key=key, **fields)
        self.inputs[key] = list(reply["inputs"])
        return reply

    def run(self, key: str, batch: Feed, *, subject: str = "") -> List[np.ndarray]:
        """Runs one batch; returns the outputs in the model's order."""
        feeds, out = self._write_feed("in.npz", batch, key), self.folder / "out.npz"
        self.call("run", subject=subject, key=key, feeds=str(feeds), out=str(out))
        with np.load(out) as arrays:
            outputs = [arrays[f"o{i}"] for i in range(len(arrays.files))]
        out.unlink()
        return outputs

    def bench(
        self, keys: Sequence[str], batch: Feed, *, warmup: int = 3, rounds: int = 10, budget_seconds: float = 2.0
    ) -> Dict[str, Any]:
        """Times the loaded models in alternating rounds; see ``worker_protocol.time_rounds``."""
        feeds = self._write_feed("bench.npz", batch, keys[0])
        reply = self.call(
            "bench", keys=list(keys), feeds=str(feeds), warmup=warmup, rounds=rounds, budget_seconds=budget_seconds
        )
        return reply["times"]

    def close(self) -> None:
        """Ends the process and removes its files."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            pass  # it has died with a request unread
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._folder.cleanup()

    def _write_feed(self, name: str, batch: Feed, key: str) -> Path:
        path, arrays = self.folder / name, named_feed(batch, self.inputs[key])
        try:
            np.savez(path, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise RuntimeFailedError(
                f"{self.runtime} could not be given a batch of {sum(a.nbytes for a in arrays.values()) / 1e6:.0f} MB: "
                f"{self.folder}: {error.strerror or error}; free space there, or set TMPDIR to another folder."
            ) from None
        return path

    def _receive(self, command: str, subject: str = "") -> Dict[str, Any]:
        timer = threading.Timer(self.timeout, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline() if self._process.stdout is not None else ""
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
        if line:
            reply = json.loads(line)
            if reply["ok"]:
                return reply
            raise self._failed(command, subject, reply["error"])
        returncode = self._process.wait()
        if timed_out:
            raise self._failed(command, subject, f"no answer within {self.timeout:.0f} s")
        stderr = self._process.stderr.read() if self._process.stderr is not None else ""
        tail = essence((self.log + "\n" + stderr)[-8000:])
        end = f"its process {ended_with(returncode)}"
        raise self._failed(command, subject, f"{end}: {tail}" if tail else end)

    def _failed(self, command: str, subject: str, native: str) -> RuntimeFailedError:
        doing = {"start": "did not start", "load": "refused", "run": "failed on", "bench": "failed on"}
        what = f"{doing.get(command, f'failed to {command}')}{' ' + subject if subject else ''}"
        hint = hint_for(native)
        return RuntimeFailedError(f"{self.runtime} {what}: {essence(native)}{'; ' + hint if hint else ''}.")
