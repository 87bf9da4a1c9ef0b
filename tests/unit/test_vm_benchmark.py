"""vm.py's benchmark as the server takes it: whatever a kernel,
a clock or the HEP Benchmark Suite says costs a field, or the benchmark.
"""

import json
import math
import sys
import threading
import time
import types

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytally.core import records
from tests.support.agent_lab import Lab, at, load_agent, serve

vm = load_agent()
NOW = at("2026-11-25T10:00:00")
WHOLE = {
    "kernel": "zbs",
    "kernel_version": "1",
    "score_wall": 20.0,
    "score_cpu": 21.0,
    "score_hs23": 19.0,
    "copies": 4,
    "steal_fraction": 0.01,
    "duration_seconds": 9.2,
    "interpreter": "cpython 3.11.2",
    "cpu_model": "Imaginary CPU",
    "measured_at": "2026-11-25T09:00:00Z",
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=600),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=5,
)
NEARLY = st.sampled_from([
    -0.0003, -0.0, 0, 1, 1.0001, 1e6, 1.1e6, 5e-324, math.inf, math.nan, 65_536, 65_537, 2**63, 10**400, True,
    "", "x" * 255, "x" * 513,
    "\x1b[31m", "\ud800", "é", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "2026-11-25T10:00:00", "2026-11-25T10:00:00+14:00", "2026-13-45T99:99:99Z", "2026-11-26T10:00:00Z",
    "2026-11-26T10:00:01Z", "2000-01-01T00:00:00Z", "1999-12-31T23:59:59Z",
])  # fmt: skip


def as_the_server_reads(block):
    """Return a benchmark as it arrives, by the server's own type; raises where it is not one."""
    return msgspec.json.decode(json.dumps(block).encode(), type=records.Benchmark)


def checked(block):
    """Return what vm.py passes on, or None."""
    try:
        return vm.checked(block, NOW)
    except ValueError:
        return None


def test_a_whole_benchmark_passes_unchanged():
    assert checked(WHOLE) == WHOLE


@settings(max_examples=1_000, deadline=None)
@given(odd=st.dictionaries(st.sampled_from(sorted(WHOLE)), ANYTHING | NEARLY, max_size=4))
def test_whatever_a_field_holds_the_server_takes_what_is_passed_on(odd):
    block = checked({**WHOLE, **odd})
    if block is None:
        assert {"kernel", "score_wall", "score_cpu"} & odd.keys()
        return
    taken = as_the_server_reads(block)
    assert taken.score_wall or taken.score_cpu
    assert all(block[name] == WHOLE[name] for name in WHOLE.keys() - odd.keys())


@pytest.mark.parametrize(
    "name",
    ["kernel_version", "copies", "steal_fraction", "duration_seconds", "interpreter", "cpu_model", "measured_at"],
)
def test_an_odd_field_that_may_be_missing_costs_itself_and_is_said_once(name, capfd):
    block = checked({**WHOLE, name: ["odd"]})
    assert block == {**WHOLE, name: None}
    (line,) = capfd.readouterr().err.splitlines()
    assert f"goes without {name} (['odd'])" in line


def test_without_any_score_there_is_no_benchmark():
    assert checked({**WHOLE, "score_wall": math.nan, "score_cpu": 0}) is None
    assert checked({**WHOLE, "score_wall": None})["score_cpu"] == 21.0
    assert checked({**WHOLE, "kernel": None}) is None


@pytest.mark.parametrize(
    ("steal", "core", "share"),
    [
        (-0.01, 36, 0.0),
        (0, 36, 0.0),
        (3.6, 36, 0.1),
        (36.3, 36, 1.0),
        (184467440737.0, 36, 0.0),
        (-184467440737.0, 36, 0.0),
    ],
)
def test_steal_that_runs_backwards_or_underflows_counts_as_none(steal, core, share):
    assert vm.steal_share(steal, core) == share


@pytest.mark.parametrize(
    ("relative", "score"), [([1.0, 1.0], 10.0), ([2.0, 0.5], 10.0), ([0.0, 1.0], None), ([-1.0, 1.0], None)]
)
def test_a_clock_that_stands_still_makes_no_score(relative, score):
    assert vm.score(relative) == score


@pytest.mark.parametrize("after", [50.0, 184467440737.0])
def test_a_kernel_whose_steal_jumps_meanwhile_costs_nothing(tmp_path, after):
    lab = Lab(tmp_path, cores=2)
    lab.constants = lambda real=lab.constants: {**real(), "BENCHMARK_SECONDS": 0.2}
    lab.world.used["steal_seconds"] = 100.0
    lab.world.run(60)

    def jump():
        time.sleep(0.5)
        lab.world.used["steal_seconds"] = after
        lab.world.publish()

    thread = threading.Thread(target=jump)
    with serve(lab.office) as lab.base:
        thread.start()
        done = lab.spawn(sys.executable, "boot", "--benchmark-report", "")
        thread.join()
    assert done.returncode == 0, done.stderr
    (sample,) = lab.office.samples
    assert sample["benchmark"]["steal_fraction"] == 0
    assert as_the_server_reads(sample["benchmark"]).score_wall > 0


@settings(max_examples=500, deadline=None)
@given(suite=ANYTHING | st.fixed_dictionaries({"profiles": st.fixed_dictionaries({}, optional={
    "hepscore": ANYTHING | st.fixed_dictionaries({"score": ANYTHING | NEARLY}),
    "DB12": ANYTHING | st.fixed_dictionaries({"value": ANYTHING | NEARLY}),
})}, optional={"_timestamp_end": ANYTHING | NEARLY}))  # fmt: skip
def test_whatever_the_benchmark_suite_has_written_costs_the_benchmark_at_most(tmp_path_factory, suite):
    report = tmp_path_factory.getbasetemp() / "suite.json"
    report.write_text(json.dumps(suite))
    options = types.SimpleNamespace(**{**vm.BLANK, **vm.OPTIONS, "benchmark_report": str(report), "heard": False})
    block = vm.benchmark_block(options)
    assert block is None or as_the_server_reads(block).score_wall > 0


def test_a_report_of_the_suite_without_its_time_is_still_a_benchmark(tmp_path):
    (tmp_path / "suite.json").write_text(json.dumps({"profiles": {"DB12": {"value": 21.5}}}))
    options = types.SimpleNamespace(
        **{**vm.BLANK, **vm.OPTIONS, "benchmark_report": str(tmp_path / "suite.json"), "heard": False}
    )
    assert vm.benchmark_block(options)["score_wall"] == 21.5


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\x00", '{"profiles": {"DB12": {"value": 1e999}}}'])
def test_a_report_that_is_no_json_costs_the_benchmark_only(tmp_path, text):
    lab = Lab(tmp_path)
    lab.world.run(60)
    (tmp_path / "suite.json").write_text(text)
    with serve(lab.office) as lab.base:
        assert lab.do("boot", "--benchmark-report", str(tmp_path / "suite.json")) == 0
    assert [sample["benchmark"] for sample in lab.office.samples] == [None]
    assert "no benchmark" in lab.console.read_text()


def test_a_benchmark_of_a_vm_whose_clock_is_in_1970_has_no_time(tmp_path):
    lab = Lab(tmp_path)
    lab.world.run(60)
    lab.world.clock_error = -lab.world.now + 3600
    lab.constants = lambda real=lab.constants: {**real(), "BENCHMARK_SECONDS": 0.1}
    with serve(lab.office) as lab.base:
        done = lab.spawn(sys.executable, "boot", "--benchmark-report", "")
    assert done.returncode == 0, done.stderr
    (sample,) = lab.office.samples
    assert sample["benchmark"]["measured_at"] is None
    assert as_the_server_reads(sample["benchmark"]).score_wall > 0


def test_a_processor_with_a_long_name_costs_nothing(tmp_path):
    lab = Lab(tmp_path)
    (tmp_path / "proc/cpuinfo").write_text(f"model name\t: {'x' * 5_000}\n")
    lab.world.run(60)
    with serve(lab.office) as lab.base:
        assert lab.do("report") == 0
    assert len(lab.office.samples[0]["cpu_model"]) == 255
