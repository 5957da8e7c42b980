"""What the PTQ benchmarks compute from their measurements; nothing is timed."""

import numpy as np
import pytest

from .test_harness import load

harness = load("harness")
work = load("ptq_work")
load("ptq_classifiers")


def test_ratios_are_to_float_inference_of_the_same_kind_and_side():
    module = load("bench_ptq_time")

    def row(side, case, seconds):
        return {"side": side, "case": case, "cpu": [seconds], "wall": [2 * seconds]}

    rows = [row("slimkit", "cls float", 1.0), row("slimkit", "cls PTQ hist", 1.5)]
    rows += [row("slimkit", "det float", 4.0), row("slimkit", "det PTQ hist", 2.0)]
    rows += [row("peer", "det float", 1.0), row("peer", "det PTQ hist", 9.0)]
    module.ratios(rows, ["cls", "det"])
    assert [r["ratio"] for r in rows] == [1.0, 1.5, 1.0, 0.5, 1.0, 9.0]
    assert [r["wall_ratio"] for r in rows] == [1.0, 1.5, 1.0, 0.5, 1.0, 9.0]


def test_peak_memory_is_read_in_megabytes():
    module = load("bench_ptq_memory")
    assert module.peak_mb("VmPeak:\t 9 kB\nVmHWM:\t  1000000 kB\nVmRSS:\t 5 kB\n") == 1024.0
    with pytest.raises(SystemExit, match="VmHWM"):
        module.peak_mb("VmRSS: 5 kB\n")
    found = module.row("slimkit", 8, {"float": [3.0, 1.0, 2.0], "PTQ": [9.0, 5.0, 7.0]})
    assert (found["float"], found["PTQ"], found["beyond"], found["PTQ runs"]) == (2.0, 7.0, 5.0, [9.0, 5.0, 7.0])


def test_batches_come_back_in_order(tmp_path):
    batches = [np.full((2, 1), i, np.float32) for i in range(12)]
    np.savez(tmp_path / "b.npz", *batches)
    assert [int(b[0, 0]) for b in work.read_batches(str(tmp_path / "b.npz"))] == list(range(12))


def test_a_shared_picture_is_noticed():
    module = load("bench_ptq_accuracy")
    pictures = np.random.RandomState(0).rand(4, 3, 2, 2).astype(np.float32)
    first, second = [{"x": pictures[:2]}], [{"x": pictures[2:3]}, {"x": pictures[3:]}]
    assert module.disjoint(first, second)
    assert not module.disjoint(first, [*second, {"x": pictures[1:2]}])


def test_points_and_cells_of_the_accuracy_table():
    module = load("bench_ptq_accuracy")
    assert module.points(0.905, 0.92) == 1.5 and module.points(0.93, 0.92) == -1.0
    row = {"model": "rec", "by": "slimkit hist", "runtime": "onnx", "metric": "exact_match", "accuracy": 0.905,
           "lost": 1.5, "size": 2.731, "seconds": 0.0, "latency": 12.5, "ratio": 0.5}  # fmt: skip
    figures = ["90.50", "1.50", "2.73", "12.50", "0.50", ""]
    assert module.cells(row) == ["rec", "slimkit hist", "onnx", "exact_match", *figures]
    failed = module.cells({"model": "rec", "by": "NNCF mixed", "runtime": "onnx", "failed": "no"})
    assert len(failed) == len(module.HEAD) and failed[3] == "failed: no"
