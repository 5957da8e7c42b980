from __future__ import annotations

import os
import sys
import textwrap

import numpy as np
import pytest

from slimkit.deploy.native_messages import ended_with, essence, hint_for
from slimkit.deploy.session import WORKERS, WorkerSession, named_feed
from slimkit.deploy.workers.worker_protocol import time_rounds
from slimkit.errors import DataError, RuntimeFailedError

X = np.ones((2, 3), "float32")


@pytest.fixture
def worker(tmp_path):
    """A worker script whose commands misbehave on demand."""
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys, time
        sys.path.insert(0, {str(WORKERS)!r})
        import worker_protocol as protocol
        replies = protocol.set_up(sys.argv[1:4])

        def abort():
            os.write(2, b"W0101 00:00:00.1 1 x.cc:1] starting\\nFatal: kernel of op foo is missing\\n")
            os.abort()

        def fail():
            raise ValueError("(InvalidArgument) Wrong rank. [Hint: Expected a == b.] (at /paddle/a.cc:1)")

        def chatty():
            print("native noise", flush=True)
            protocol.mark("here")
            return {{"threads": os.environ["OMP_NUM_THREADS"], "glog": os.environ.get("GLOG_v")}}

        commands = dict(abort=abort, fail=fail, chatty=chatty, hang=lambda: time.sleep(60), leave=lambda: os._exit(3))
        commands["where"] = lambda: {{"folder": os.getcwd()}}
        protocol.serve(replies, commands)
        """)
    )
    return str(script)


def test_native_abort_is_one_sentence(worker):
    with WorkerSession(worker, "Toy") as session:
        with pytest.raises(RuntimeFailedError) as caught:
            session.call("abort", subject="m.pdmodel")
    message = str(caught.value)
    assert "SIGABRT" in message and "kernel of op foo is missing" in message and "m.pdmodel" in message
    assert "\n" not in message


def test_python_error_loses_its_location(worker):
    with WorkerSession(worker, "Toy") as session:
        with pytest.raises(RuntimeFailedError, match=r"^Toy failed to fail m: Wrong rank\.$"):
            session.call("fail", subject="m")
        assert session.call("chatty")["ok"]  # it lives on


def test_exit_code_is_told(worker):
    with WorkerSession(worker, "Toy") as session:
        with pytest.raises(RuntimeFailedError, match="ended with code 3"):
            session.call("leave")


def test_timeout_ends_the_process(worker):
    with WorkerSession(worker, "Toy", timeout=1.0) as session:
        with pytest.raises(RuntimeFailedError, match="no answer within 1 s"):
            session.call("hang")


def test_native_output_goes_to_the_log(worker, monkeypatch):
    monkeypatch.setenv("GLOG_v", "3")
    with WorkerSession(worker, "Toy", threads=2) as session:
        reply = session.call("chatty")
        assert (reply["threads"], reply["glog"]) == ("2", None)
        assert session.log.index("native noise") < session.log.index("@slimkit-mark here")


def test_files_disappear_and_cwd_is_left_alone(worker):
    before = set(os.listdir("."))
    with WorkerSession(worker, "Toy") as session:
        folder = session.folder
        assert os.path.samefile(session.call("where")["folder"], folder)
    assert not folder.exists() and set(os.listdir(".")) == before


def test_interpreter_that_is_not_there(worker):
    with pytest.raises(RuntimeFailedError, match="could not be started with /nowhere/python"):
        WorkerSession(worker, "Toy", python="/nowhere/python")


def test_script_that_does_not_start(tmp_path):
    (tmp_path / "w.py").write_text("import not_a_module")
    with pytest.raises(RuntimeFailedError, match=r"did not start.*No module named 'not_a_module'"):
        WorkerSession(str(tmp_path / "w.py"), "Toy", python=sys.executable)


@pytest.mark.parametrize("batch", [X, [X], {"x": X}, {"x": X, "more": X}])
def test_named_feed_forms(batch):
    assert list(named_feed(batch, ["x"])) == ["x"]


@pytest.mark.parametrize(("batch", "says"), [([X, X], "2 arrays.*takes 1: x"), ({"y": X}, "no array for input 'x'")])
def test_named_feed_refuses(batch, says):
    with pytest.raises(DataError, match=says):
        named_feed(batch, ["x"])


def test_rounds_alternate_in_order():
    calls: list[str] = []
    times = time_rounds({n: (lambda n=n: calls.append(n)) for n in "ab"}, warmup=1, rounds=3, budget_seconds=0)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert all(len(times[n]["cpu_ms"]) == 3 and times[n]["wall_ms"][0][0] >= 0 for n in "ab")


SUMMARY = """
C++ Traceback (most recent call last):
0   paddle::AnalysisPredictor::Run()
----------------------
Error Message Summary:
----------------------
InvalidArgumentError: Unsupported number quantization bits: 4, only 8 is supported now.
  [Hint: Expected bit_length == 8, but received bit_length:4 != 8:8.] (at /paddle/x_pass.cc:163)
"""


def test_essence_of_a_traceback():
    wanted = "InvalidArgumentError: Unsupported number quantization bits: 4, only 8 is supported now"
    assert essence(SUMMARY) == wanted
    assert "activation_bits 8" in hint_for(SUMMARY)


def test_essence_of_a_long_log_keeps_what_tells():
    log = "\n".join(f"I0101 00:00:00.{i} 1 pass.cc:{i}] running pass {i}" for i in range(50)) + "\nCheck failed: x > 0"
    assert essence(log) == "Check failed: x > 0"
    assert len(essence("error " * 500)) <= 320


def test_ended_with_names_the_signal():
    assert ended_with(-11) == "was killed by SIGSEGV (signal 11)"
    assert ended_with(-200) == "was killed by signal 200"
    assert hint_for("all is well") is None
