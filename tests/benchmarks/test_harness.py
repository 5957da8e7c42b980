"""The benchmarks' common part: turns, medians, ratios, files; with cases that take no time."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name):
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


harness = load("harness")

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import harness

def prepare(seconds):
    print("noise on stdout")
    return lambda: harness.Measured(seconds, 2 * seconds)

def broken():
    raise ValueError("no such luck")

cases = [harness.Case("one", lambda: prepare(1.0)), harness.Case("two", lambda: prepare(3.0), repeats=2, warmups=0)]
if "broken" in sys.argv:
    cases.append(harness.Case("bad", broken))
harness.serve(cases, {{"python": "x"}})
"""


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "case_script.py"
    file.write_text(SCRIPT.format(folder=str(FOLDER)))
    return str(file)


def test_cases_are_run_in_turns_in_a_worker(script, tmp_path, capsys):
    worker = harness.Worker(script, "peer", sys.executable, 1, [])
    try:
        rows = harness.measure([worker], repeats=3)
    finally:
        worker.close()
    assert [(r["case"], r["runs"], r["cpu_median"], r["wall_min"]) for r in rows] == [
        ("one", 3, 1.0, 2.0),
        ("two", 2, 3.0, 6.0),
    ]
    harness.add_ratios(rows, "one")
    assert [r["ratio"] for r in rows] == [1.0, 3.0]
    target = tmp_path / "result.json"
    harness.finish("a title", rows, [worker], argparse.Namespace(threads=1, json=str(target)))
    written = json.loads(target.read_text())
    assert written["rows"][1]["ratio"] == 3.0 and written["about"] == {"peer": {"python": "x"}}
    assert "| peer | two | 2 | 3.000 | 3.000 | 6.000 | 3.000 |" in capsys.readouterr().out


def test_a_worker_that_fails_shows_its_error(script):
    worker = harness.Worker(script, "peer", sys.executable, 1, ["broken"])
    with pytest.raises(SystemExit, match="no such luck"):
        worker.run("bad")
    worker.close()


def test_ratios_are_paired_by_turn():
    rows = [
        {"side": "slimkit", "case": "float", "cpu": [1.0, 2.0, 4.0]},
        {"side": "slimkit", "case": "QAT", "cpu": [1.1, 2.2, 8.0]},
    ]
    harness.add_ratios(rows, "float")
    assert rows[1]["ratio"] == pytest.approx(1.1)


def test_table_of_pact_against_qat():
    module = load("bench_pact_vs_qat")

    def report(top1, last):
        return {
            "results": [{"model": "float", "top1": 0.9}, {"model": "simulated", "top1": top1}, {"model": "int8"}],
            "curves": {
                "evaluations": [{"top1": top1, "step": 1, "samples": 5}, {"top1": last, "step": 20, "samples": 5}]
            },
            "seconds": {"train": 3.0},
        }

    rows = [module.summary("plain QAT", s, report(0.7 + s / 100, 0.6)) for s in (0, 1)]
    rows += [module.summary("PACT", s, report(0.8, 0.8)) for s in (0, 1)]
    text = module.table(rows, [0, 1])
    assert "| plain QAT | 70.00 | 71.00 | 70.50 | 0.71 | 60.00 |" in text
    assert "| PACT | 80.00 | 80.00 | 80.00 | 0.00 | 80.00 |" in text
    assert "W4A4, 20 steps each; float 90.00" in text


def test_the_configs_compared_differ_in_pact_alone():
    module = load("bench_pact_vs_qat")
    from slimkit.recipe.config_file import load_config

    dumped = [
        load_config(str(module.REPOSITORY / file), list(module.OVERRIDES)).model_dump()
        for file in module.METHODS.values()
    ]
    for values in dumped:
        values["run"].pop("output")
    assert dumped[0].pop("pact") is None and dumped[1].pop("pact") is not None
    assert dumped[0] == dumped[1]
    assert dumped[0]["quant"]["weight_bits"] == dumped[0]["quant"]["activation_bits"] == 4
