"""What every worker process shares: requests as JSON lines on stdin, replies as JSON lines on stdout.

Native libraries print to the process's own stdout and stderr at any moment, so the two are turned into a log
file first, and replies go out on a private copy of the original stdout. Arrays travel as ``.npz`` files.
Run by the worker scripts only; no slimkit import is allowed here.
"""

import ctypes
import json
import os
import sys
import time
import traceback

MARK = "@slimkit-mark "


def set_up(arguments):
    """Pins this process and diverts native output.

    Args:
        arguments: ``[log file, threads, "pin" or "free"]``.

    Returns:
        The stream that replies are written to.
    """
    log_file, threads, pin = arguments[0], int(arguments[1]), arguments[2] == "pin"
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if pin and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[-threads:])
    return replies


def mark(label):
    """Writes a line into the log after everything that native code has printed so far."""
    sys.stdout.flush()
    try:
        ctypes.CDLL(None).fflush(None)
    except (OSError, TypeError, AttributeError):  # a platform without a global C runtime handle
        pass
    os.write(1, ("\n" + MARK + label + "\n").encode())


def time_rounds(runs, warmup, rounds, budget_seconds):
    """Times several callables in alternating rounds, so that noise and drift hit all of them alike.

    Args:
        runs: name -> callable that does one inference.
        warmup: untimed calls of each, the last of which sets how many calls a round has.
        rounds: rounds; the order of the callables flips in every other one.
        budget_seconds: about how long all of it may take for one callable.

    Returns:
        name -> ``{"wall_ms": [[per call] per round], "cpu_ms": [per round, per call]}``.
    """
    repeats = {}
    for name, run in runs.items():
        for _ in range(max(1, warmup)):
            start = time.perf_counter()
            run()
            last = time.perf_counter() - start
        repeats[name] = max(1, min(50, int(budget_seconds / rounds / max(last, 1e-6))))
    times = {name: {"wall_ms": [], "cpu_ms": []} for name in runs}  # type: dict
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(reversed(list(runs)))
        for name in order:
            wall = []
            cpu = time.process_time()
            for _ in range(repeats[name]):
                start = time.perf_counter()
                runs[name]()
                wall.append((time.perf_counter() - start) * 1e3)
            times[name]["cpu_ms"].append((time.process_time() - cpu) * 1e3 / repeats[name])
            times[name]["wall_ms"].append(wall)
    return times


def serve(replies, commands):
    """Answers requests until stdin closes.

    Args:
        replies: from :func:`set_up`.
        commands: name -> function of the request's other fields, returning the reply's fields.
    """

    def reply(fields):
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    reply({"ok": True, "ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("do")
        try:
            reply({"ok": True, **(commands[command](**request) or {})})
        except Exception as error:
            reply({"ok": False, "error": str(error) or repr(error), "trace": traceback.format_exc(limit=4)})
