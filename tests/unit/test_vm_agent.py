"""vm.py piece by piece, and under every CPython from 3.6 on that is found here."""

import ast
import base64
import io
import json
import os
import resource
import shutil
import ssl
import stat
import subprocess
import sys
import tarfile
import time
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import agent_lab, recording_server
from tests.support.agent_lab import VM_PY, Lab, at, interpreters, load_agent, serve
from tests.support.bundles import CLAIM, EXPIRES, SECRET, Deposit
from tests.support.tcp_proxy import TunnelProxy, running

STAT = """cpu  4705 356 584 3699176 23060 15 6 1000 240 10
cpu0 1393280 32966 572056 13343292 6130 0 17875 500 120 5
cpu1 1335498 28005 573218 13343292 6130 0 17875 500 120 5
cpu11 1335498 28005 573218 13343292 6130 0 17875 500 120 5
intr 1462898 4 3
cputhing 12
btime 1769041476
"""
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000     10    0    0    0     0          0         0    1000      10    0    0    0     0       0          0
  eth0:1234567 89    0    0    0     0          0         0 7654321     98    0    0    0     0       0          0
br-1f2e: 5     1    0    0    0     0          0         0    6      1    0    0    0     0       0          0
eth0.100: 7     1    0    0    0     0          0         0    8      1    0    0    0     0       0          0
"""  # noqa: E501


@pytest.fixture(scope="module")
def vm():
    return load_agent()


@pytest.fixture
def lab(tmp_path):
    one = Lab(tmp_path)
    one.world.run(60)
    with serve(one.office) as base:
        one.base = base
        yield one


# ---- what it is ----


def test_it_is_small_enough_to_be_read():
    assert VM_PY.stat().st_size <= 53 * 1_024


def test_it_needs_the_standard_library_only_and_says_what_every_function_promises():
    tree = ast.parse(VM_PY.read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert ast.get_docstring(node), node.name


def test_what_a_report_does_not_need_is_not_loaded_to_start_one():
    code = "import sys, vm; vm.CONSOLE = '/dev/null'; vm.main(['report', '--patience', 'x']); print(*sys.modules)"
    path = {"PYTHONPATH": str(VM_PY.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=os.environ | path, capture_output=True, text=True, check=True
    )
    heavy = {"multiprocessing", "shlex", "shutil", "subprocess", "tempfile", "urllib.request"}
    assert "http.client" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


# ---- every interpreter ----


def test_several_interpreters_are_found():
    assert len(interpreters()) >= 1


@pytest.mark.parametrize("python", interpreters())
def test_boot_report_month_jobs_and_stop_under_every_interpreter(python, tmp_path):
    lab = Lab(tmp_path, "2026-11-30T22:30:00")
    lab.world.run(60)
    pid = lab.folder / "proc/4242"
    pid.mkdir()
    (pid / "cmdline").write_bytes(b"basf2\0steering.py\0")
    (pid / "environ").write_bytes(b"HOME=/\0DIRACJOBID=987654\0")
    with serve(lab.office) as lab.base:
        for verb, seconds in (("boot", 3600), ("report", 3600), ("report", 60), ("jobs", 0), ("stop", 0)):
            done = lab.spawn(python, verb)
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
            lab.world.run(seconds)
    assert [s["month"] for s in lab.office.samples] == ["2026-11", "2026-11", "2026-11", "2026-12", "2026-12"]
    assert lab.office.samples[-1]["final"] is True
    assert lab.booked() == pytest.approx({"2026-11": 5400, "2026-12": 1920}, abs=2)
    assert lab.office.overlaps() == []
    assert lab.office.heartbeats[0]["jobs"] == ["987654"]


@pytest.mark.parametrize("python", interpreters())
def test_help_has_an_example_and_the_exit_codes_under_every_interpreter(python):
    done = subprocess.run([python, "-B", str(VM_PY), "--help"], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert "vm.py boot --base" in done.stdout
    assert "Exit codes" in done.stdout


def test_the_benchmark_prints_the_wire_form(tmp_path):
    lab = Lab(tmp_path, cores=2)
    lab.constants = lambda real=lab.constants: {**real(), "BENCHMARK_SECONDS": 0.2}
    done = lab.spawn(sys.executable, "benchmark", "--benchmark-report", "")
    assert done.returncode == 0, done.stderr
    block = json.loads(done.stdout)
    assert {
        "kernel",
        "kernel_version",
        "score_wall",
        "score_cpu",
        "copies",
        "steal_fraction",
        "duration_seconds",
        "interpreter",
        "measured_at",
    } <= set(block)
    assert block["copies"] == 2
    assert 0 < block["score_wall"] < 1000
    assert 0 < block["score_cpu"] < 1000


# ---- the command line ----


@pytest.mark.parametrize("words", [[], ["dance"], ["report", "--colour", "red"], ["report", "--patience"]])
def test_what_the_command_line_does_not_know_is_exit_code_2(words):
    done = subprocess.run(
        [sys.executable, "-B", str(VM_PY), *words], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_a_report_to_nowhere_is_exit_code_2(lab, capfd):
    assert lab.do("report", "--base", "") == 2
    assert "give --base URL" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("base", "more"),
    [
        ("sky.example.org", ()),
        ("sky.example.org:8080", ()),
        ("https://", ()),
        ("ftp://127.0.0.1", ()),
        ("http://sky.example.org", ()),
        ("http://127.0.0.1.example.org", ()),
        ("http://localhost.example.org", ()),
        ("http://localhost:80@sky.example.org", ()),
        ("sky.example.org", ("--insecure", "yes")),
    ],
)
def test_nothing_is_sent_to_a_base_that_is_no_url_or_in_clear(lab, base, more, capfd):
    assert lab.do("report", "--base", base, *more) == 2
    assert "https://" in capfd.readouterr().err


@pytest.mark.parametrize("base", ["http://localhost:1", "http://[::1]:1/x", "http://127.1.2.3:1/"])
def test_this_machine_needs_no_tls(lab, base):
    assert lab.do("report", "--base", base) == 5


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://sky.example.org/", "https://sky.example.org/function/usage-report"),
        ("https://{function}.sky.example.org", "https://usage-report.sky.example.org"),
    ],
)
def test_a_function_is_below_the_base_or_has_a_host_of_its_own(base, url):
    assert load_agent().url_of(types.SimpleNamespace(base=base, insecure=None), "usage-report") == url


@pytest.mark.parametrize("more", [("--proc", "/nowhere"), ("--token-file", "/nowhere"), ("--ca", "/nowhere")])
def test_what_the_machine_lacks_is_exit_code_6_and_one_sentence(lab, capfd, more):
    assert lab.do("report", *more) == 6
    assert "this machine lacks something" in capfd.readouterr().err


def test_options_may_come_from_the_environment(lab, monkeypatch):
    monkeypatch.setenv("SKYTALLY_BASE", lab.base)
    monkeypatch.setenv("SKYTALLY_VM", "from-the-environment")
    settings = lab.argv("report")
    for name in ("--base", "--vm"):
        at_index = settings.index(name)
        del settings[at_index : at_index + 2]
    assert lab.agent().main(settings) == 0
    assert lab.office.samples[0]["vm"] == "from-the-environment"


def test_without_a_token_it_is_refused_and_nothing_is_lost(lab):
    assert lab.do("report", "--token-file", "") == 3
    assert lab.do("report") == 0
    assert len(lab.office.samples) == 2


def test_a_refused_token_keeps_the_samples_and_shows_on_the_console(lab):
    lab.office.token = "another"
    assert lab.do("report") == 3
    assert "401" in lab.console.read_text()
    assert len(lab.kept["pending"]) == 1


def test_the_name_in_the_token_is_the_vms_name_when_none_is_given(lab):
    readable = (
        base64.urlsafe_b64encode(json.dumps({"role": "reporter", "vm": "named-by-the-scheduler"}).encode())
        .decode()
        .rstrip("=")
    )
    (lab.folder / "token").write_text(f"{readable}.signature")
    lab.office.token = f"{readable}.signature"
    assert lab.do("report", "--vm", "") == 0
    assert lab.office.samples[0]["vm"] == "named-by-the-scheduler"


@pytest.mark.parametrize("token", ["", "x", "....", "!!!.x", "bnVsbA.x", None])
def test_a_token_without_a_readable_name_is_no_problem(vm, token):
    assert vm.name_in(token) is None


# ---- time ----


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1795602003.999, "2026-11-25T10:20:03Z"), (-0.5, "1969-12-31T23:59:59Z")],
)
def test_moments_are_written_in_utc(vm, seconds, text):
    assert vm.iso(seconds) == text


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/St_Johns", "Pacific/Kiritimati"])
def test_a_local_zone_and_its_summer_time_change_nothing(zone):
    code = f"import sys; sys.path.insert(0, {str(VM_PY.parent)!r}); import vm; "
    code += "print(vm.iso(1793494800), vm.unix('2026-11-01T01:00:00Z'), vm.month_at(1793494800, 1))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], check=False, capture_output=True, text=True, env={"TZ": zone}, timeout=30
    )
    assert done.stdout.split() == ["2026-11-01T01:00:00Z", "1793494800.0", "1796083200"]


@pytest.mark.parametrize("text", ["2026-11-25T10:20:03Z", "2026-11-25T10:20:03.0Z", "2026-11-25T10:20:03.000000Z"])
def test_moments_are_read_with_and_without_fractions(vm, text):
    assert vm.unix(text) == at("2026-11-25T10:20:03")


@pytest.mark.parametrize("text", ["", "soon", "2026-11-25", "2026-11-25T10:20:03+01:00", "2026-13-25T10:20:03Z"])
def test_what_is_no_moment_in_utc_is_refused(vm, text):
    with pytest.raises(ValueError):
        vm.unix(text)


@pytest.mark.parametrize(
    ("moment", "begin", "end"),
    [
        ("2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("2027-02-01T00:00:00", "2027-02-01T00:00:00", "2027-03-01T00:00:00"),
        ("2026-01-31T00:00:00", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    ],
)
def test_months_begin_and_end(vm, moment, begin, end):
    assert vm.month_at(at(moment)) == at(begin)
    assert vm.month_at(at(moment), 1) == at(end)


# ---- /proc ----


def test_stat_is_read_with_guest_time_inside_user_and_only_cores_that_are_online(vm):
    hertz = os.sysconf("SC_CLK_TCK")
    seconds, cores = vm.parse_stat(STAT)
    assert [round(one * hertz) for one in seconds] == [4705, 356, 584, 3699176, 23060, 15, 6, 1000]
    assert cores == 3


def test_stat_of_an_old_kernel_has_fewer_columns(vm):
    assert vm.parse_stat("cpu  100 200 300 400\n") == ([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0], 1)


def test_interfaces_are_read_whatever_their_names_and_widths(vm):
    assert vm.parse_interfaces(NET_DEV) == {"eth0": [1234567, 7654321], "br-1f2e": [5, 6], "eth0.100": [7, 8]}


@pytest.mark.parametrize("text", ["", "Inter-|\n face |bytes\n", "lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"])
def test_no_interface_is_no_traffic(vm, text):
    assert vm.parse_interfaces(text) == {}


def test_what_is_not_indispensable_may_be_missing(lab):
    for name in ("net/dev", "cpuinfo", "meminfo"):
        (lab.folder / "proc" / name).unlink()
    assert lab.do("report") == 0
    assert lab.office.samples[0]["counters"]["network_sent_bytes"] == 0
    assert lab.office.samples[0]["cpu_model"] == os.uname().machine


def test_the_real_proc_is_measured(tmp_path, lab):
    agent = load_agent()
    vm = types.SimpleNamespace(
        **{
            **agent.BLANK,
            **agent.OPTIONS,
            "verb": "report",
            "points": [],
            "state": str(tmp_path),
            "boot_id": "x",
            "written": 0,
        }
    )
    agent.RUN = str(lab.run_dir)
    agent.measure(vm)
    counters = vm.measured["counters"]
    assert 0 < counters["wall_seconds"] <= vm.measured["up"]
    used = sum(counters[name] for name in agent.TICKED)
    assert used == pytest.approx(counters["core_seconds"], rel=0.1)
    assert counters["wall_seconds"] + counters["suspended_seconds"] == pytest.approx(vm.measured["up"], abs=0.1)


# ---- DIRAC jobs ----

PAYLOAD = "python\0steering.py\0"


@pytest.mark.parametrize(
    ("command_line", "environ", "job"),
    [
        (PAYLOAD, "HOME=/\0DIRACJOBID=123\0DIRACSITE=LCG.Home.org\0", "123"),
        (PAYLOAD, "DIRACJOBID=123\0JOBID=456\0DIRACSITE=X\0", "123"),
        (PAYLOAD, "JOBID=456\0DIRACSITE=LCG.Home.org\0", "456"),
        (PAYLOAD, "JOBID=456\0", None),
        (PAYLOAD, "JOBID=456\0DIRACSITES=no\0", None),
        (PAYLOAD, "DIRACSITE=LCG.Home.org\0", None),
        (PAYLOAD, "HTCONDOR_JOBID=9.0\0CONDOR_JOBID=9\0PILOT_JOBID=9\0", None),
        (PAYLOAD, "XDIRACJOBID=9\0", None),
        (PAYLOAD, "TEXT=DIRACJOBID=9\0", None),
        ("python\0/scratch/7/job/Wrapper/Wrapper_77\0", "", "77"),
        ("python\0-u\0/scratch/7/job/Wrapper/Wrapper_77.json\0", "", "77"),
        ("/usr/bin/python /a/job/Wrapper/Wrapper_77 \0", "", "77"),
        ("python\0/scratch/7/job/Wrapper/Wrapper_77\0", "DIRACJOBID=5\0", "77"),
        ("vi\0/scratch/7/job/Wrapper/Wrapper_77.log\0", "", None),
        (
            "python\0/scratch/7/job/Wrapper/Wrapper_77\0-o\0LogLevel=INFO\0-o\0/DIRAC/Security/UseServerCertificate=no\0",
            "",
            "77",
        ),
        ("/cvmfs/dirac/bin/python3.11\0-u\0/a/job/Wrapper/Wrapper_77\0--cfg\0/a/pilot.cfg\0", "", "77"),
        ("less\0/scratch/7/job/Wrapper/Wrapper_77\0", "", None),
        ("python\0edit.py\0/scratch/7/job/Wrapper/Wrapper_77\0", "", None),
        ("python\0/scratch/7/job/Wrapper/Wrapper_77x\0", "", None),
        ("python\0/scratch/7/Wrapper/Wrapper_77\0", "", None),
        ("python\0dirac-pilot.py\0-S\0Belle\0", "JOBID=456\0DIRACSITE=X\0", None),
        ("/bin/bash\0/x/dirac-pilot.sh\0", "DIRACJOBID=456\0", None),
        ("/x/dirac-pilot-7/python\0/x/dirac-pilot-7/job/Wrapper/Wrapper_8\0", "", "8"),
        *(
            (PAYLOAD, f"DIRACJOBID={bad}\0", None)
            for bad in ("0", "-1", "007", "12 34", "1" * 20, "../1", "", "1\n", "１２", "1e3")
        ),
        (PAYLOAD, "DIRACJOBID=" + "9" * 18 + "\0", "9" * 18),
        ("python\0/a/job/Wrapper/Wrapper_007\0", "", None),
        ("", "", None),
        ("\0\0", "=\0=\0\0A\0", None),
    ],
)
def test_a_process_belongs_to_a_job_by_its_environment_or_its_wrapper(vm, command_line, environ, job):
    assert vm.job_of(command_line, environ) == job


def process(proc: Path, pid: int, command_line: bytes, environ: bytes | None) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(command_line)
    if environ is None:
        (proc / str(pid) / "environ").mkdir()
    else:
        (proc / str(pid) / "environ").write_bytes(environ)


def test_jobs_are_a_set_and_the_report_says_what_could_be_read(lab):
    proc = lab.folder / "proc"
    process(proc, 1, b"init\0", None)
    process(proc, 20, b"python\0/x/job/Wrapper/Wrapper_9\0", None)
    process(proc, 21, b"basf2\0", b"DIRACJOBID=9\0")
    process(proc, 22, b"basf2\xff\0", b"A=\xff\xfe\0DIRACJOBID=10\0")
    process(proc, 23, b"x\0", b"DIRACJOBID=../1\0")
    (proc / "24").mkdir()
    assert lab.do("jobs") == 0
    (beat,) = lab.office.heartbeats
    assert beat["jobs"] == ["9", "10"]
    assert beat["sources"] == {"processes": 6, "cmdline": 5, "environ": 3}
    assert beat["vm"] == "vm-1"
    assert abs(at(beat["seen_at"]) - lab.world.now) < 2


def test_the_time_of_a_heartbeat_is_the_servers_once_it_is_known(lab):
    lab.world.clock_error = 7200
    assert lab.do("report") == 0
    assert lab.do("jobs") == 0
    assert abs(at(lab.office.heartbeats[0]["seen_at"]) - lab.world.now) < 2


def test_refused_jobs_are_said_and_the_others_go_through(lab, capfd):
    assert lab.do("report") == 0
    refused = {"index": 0, "code": "malformed", "message": "no such job"}
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(1, 0, [refused])).encode()))
    assert lab.do("jobs") == 0
    assert "no such job" in capfd.readouterr().err


def named(lab, *job_ids):
    """Let these jobs, and no others, run."""
    for folder in (lab.folder / "proc").glob("77*"):
        shutil.rmtree(folder)
    for job_id in job_ids:
        process(lab.folder / "proc", int(f"77{job_id}"), b"basf2\0", f"DIRACJOBID={job_id}\0".encode())


def told(lab):
    """Return what was told, and when the vm says that it was so, in seconds before now."""
    return [(beat["jobs"], round(lab.world.now - at(beat["seen_at"]))) for beat in lab.office.heartbeats]


def quarters(lab, *codes):
    """Name job 1, then 2, and so on, each for a quarter of an hour."""
    for number, code in enumerate(codes, 1):
        named(lab, str(number))
        assert lab.do("jobs") == code
        lab.world.run(900)


def test_what_was_not_taken_is_told_again_oldest_first_with_its_own_time(lab):
    assert lab.do("report") == 0
    lab.office.away = True
    quarters(lab, 5, 5)
    lab.office.away = False
    quarters(lab, 0, 0)
    assert [jobs for jobs, _ in told(lab)] == [["1"], ["2"], ["1"], ["2"]]
    assert [seconds for _, seconds in told(lab)] == pytest.approx([3600, 2700, 1800, 900], abs=3)
    assert lab.kept["beats"] == []


def test_what_is_kept_outlives_the_boot(lab):
    assert lab.do("report") == 0
    lab.office.away = True
    quarters(lab, 5)
    lab.world.boot(600)
    lab.office.away = False
    quarters(lab, 0)
    assert told(lab) == [(["1"], pytest.approx(2400, abs=3)), (["1"], pytest.approx(900, abs=3))]


def test_a_lost_answer_is_told_again_with_the_same_time(lab):
    assert lab.do("report") == 0

    def lose(office, _path, headers, body):
        office.beat(json.loads(body))
        return 0, {}, b""

    lab.office.script.append(lose)
    quarters(lab, 0)
    first, again = lab.office.heartbeats
    assert first == again


def test_what_was_seen_before_anybody_told_the_time_is_dated_by_the_server(lab):
    lab.world.clock_error = -7200
    lab.office.script.extend([(503, {"Date": "", "Retry-After": "2"}, b"away")] * 9)
    assert lab.do("jobs") == 5
    lab.office.script.clear()
    lab.world.run(900)
    assert lab.do("jobs") == 0
    assert [seconds for _, seconds in told(lab)] == pytest.approx([900, 0], abs=5)


def test_a_token_that_is_refused_costs_no_heartbeat(lab):
    assert lab.do("report") == 0
    right, lab.office.token = lab.office.token, "another"
    quarters(lab, 3)
    lab.office.token = right
    quarters(lab, 0)
    assert len(told(lab)) == 2


def test_no_more_is_kept_than_two_days_hold_and_the_oldest_goes_first(lab):
    assert lab.do("report") == 0
    lab.direct = lab.office.away = True
    lab.agent().SPOOL_BEATS = 3
    quarters(lab, 5, 5, 5, 5)
    assert [named["jobs"] for _, _, named in lab.kept["beats"]] == [["2"], ["3"], ["4"]]
    lab.world.run(2 * 86400 - 3000)
    lab.office.away = False
    quarters(lab, 0)
    assert [jobs for jobs, _ in told(lab)] == [["3"], ["4"], ["1"]]


def test_a_heartbeat_is_on_disk_before_anything_is_sent(lab):
    """So that a kill at any moment costs none."""
    assert lab.do("report") == 0
    kept = []
    lab.office.script.append(lambda *_: (kept.extend(lab.kept["beats"]), (503, {}, b""))[1])
    quarters(lab, 0)
    assert [named["jobs"] for _, _, named in kept] == [["1"]]
    assert lab.kept["beats"] == []


# ---- files ----


def tar_of(*members: tuple[str, bytes, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode = kind, len(content), 0o777
            info.linkname = "etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_a_payload_is_unpacked_with_the_mode_that_was_asked_for(vm, tmp_path):
    payload = tar_of(
        (".", tarfile.DIRTYPE, b""),
        ("a", tarfile.REGTYPE, b"1"),
        ("./sub/b", tarfile.REGTYPE, b"2"),
        ("empty", tarfile.DIRTYPE, b""),
    )
    vm.unpack(payload, str(tmp_path / "out"), 0o440, None)
    assert (tmp_path / "out/a").read_bytes() == b"1"
    assert (tmp_path / "out/sub/b").read_bytes() == b"2"
    assert (tmp_path / "out/empty").is_dir()
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o440


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/absolute", tarfile.REGTYPE),
        ("../above", tarfile.REGTYPE),
        ("a/../../above", tarfile.REGTYPE),
        ("a/..", tarfile.DIRTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE),
        ("block", tarfile.BLKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("planted/out", tarfile.REGTYPE),
    ],
)
def test_one_bad_member_and_nothing_of_a_payload_is_written(vm, tmp_path, name, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/planted").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(vm.Stop):
        vm.unpack(tar_of(("good", tarfile.REGTYPE, b"1"), (name, kind, b"")), str(tmp_path / "out"), 0o600, None)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["planted"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_absolute_name_is_refused_even_if_it_points_inside(vm, tmp_path):
    with pytest.raises(vm.Stop):
        vm.unpack(tar_of((f"{tmp_path}/x", tarfile.REGTYPE, b"1")), str(tmp_path), 0o600, None)


@pytest.mark.parametrize("payload", [b"", b"no tar", b"\x1f\x8b\x08\x00garbage"])
def test_a_payload_that_is_no_tar_is_refused(vm, tmp_path, payload):
    with pytest.raises(vm.Stop):
        vm.unpack(payload, str(tmp_path), 0o600, None)


def test_a_file_appears_whole_with_its_mode_and_owner_or_not_at_all(vm, tmp_path):
    target = tmp_path / "f"
    vm.write_file(str(target), b"one", 0o640, f"{os.getuid()}" if os.getuid() else "root:root")
    assert target.read_bytes() == b"one"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    with pytest.raises(LookupError):
        vm.write_file(str(target), b"two", 0o600, "nobody-of-that-name")
    assert target.read_bytes() == b"one"


def test_a_file_is_nobody_elses_business_while_it_is_written(vm, tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(vm.os, "fsync", lambda fd: modes.append(stat.S_IMODE(os.fstat(fd).st_mode)))
    vm.write_file(str(tmp_path / "f"), b"one", 0o644)
    assert modes == [0o600]


# ---- boot ----


def claim_once(lab, *more):
    (lab.folder / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}\n")
    return lab.do("boot", "--token-file", "", "--claim-file", str(lab.folder / "claim"), "--vm", "", *more)


def test_a_machine_claims_once_however_often_it_boots(lab):
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    lab.office.script.append(Deposit(tar_of(("cert.pem", tarfile.REGTYPE, b"certificate"))))
    assert claim_once(lab, "--unpack", str(lab.folder / "grid"), "--mode", "0400") == 0
    assert (lab.folder / "grid/cert.pem").read_bytes() == b"certificate"
    assert stat.S_IMODE((lab.folder / "grid/cert.pem").stat().st_mode) == 0o400
    assert stat.S_IMODE((lab.folder / "grid").stat().st_mode) == 0o755
    assert list((lab.folder / "secret").iterdir()) == []
    assert claim_once(lab) == 0
    lab.world.boot(60)
    lab.world.run(30)
    assert claim_once(lab) == 0
    assert len([path for _, path, _, _ in lab.office.requests if path.endswith("/secret-claim")]) == 1
    assert len({s["boot_id"] for s in lab.office.samples}) == 2


def test_the_first_sample_after_a_claim_needs_no_other_request_to_know_the_time(lab):
    lab.world.clock_error = 5 * 3600
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    lab.office.script.append(Deposit(b"x"))
    assert claim_once(lab) == 0
    assert [path.rsplit("/", 1)[1] for _, path, _, _ in lab.office.requests] == ["secret-claim", "usage-report"]
    assert at(lab.office.samples[0]["boot_at"]) == pytest.approx(lab.world.booted_at, abs=2)


def test_the_claim_file_may_be_stdin(lab, monkeypatch):
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    lab.office.script.append(Deposit(b"x"))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CLAIM}.{EXPIRES}.{SECRET}\n"))
    assert lab.do("boot", "--token-file", "", "--claim-file", "-") == 0
    assert (lab.state / "payload").read_bytes() == b"x"


def test_the_first_report_carries_the_benchmark_and_the_later_ones_too(lab):
    report = lab.folder / "suite.json"
    report.write_text(json.dumps({"profiles": {"DB12": {"value": 21.5}}, "_timestamp_end": "2026-11-25T09:00:00Z"}))
    assert lab.do("boot", "--benchmark-report", str(report)) == 0
    lab.world.run(3600)
    assert lab.do("report") == 0
    assert [s["benchmark"]["score_wall"] for s in lab.office.samples] == [21.5, 21.5]


def of_the_suite(vm, report):
    """Return what vm.py makes of its command line where the HEP Benchmark Suite has left a report."""
    return types.SimpleNamespace(**{**vm.BLANK, **vm.OPTIONS, "benchmark_report": str(report), "heard": False})


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ({"profiles": {"hepscore": {"score": 100.0}}}, {"kernel": "HEPscore", "score_hs23": 100.0}),
        (
            {"profiles": {"DB12": {"value": 20}, "hepscore": {"score": 50.0}}},
            {"kernel": "HEPscore", "score_hs23": 50.0},
        ),
        ({"profiles": {"DB12": {"value": 20}}}, {"kernel": "DB12", "score_wall": 20}),
    ],
)
def test_the_benchmark_suites_report_becomes_a_block(vm, tmp_path, suite, expected):
    (tmp_path / "r.json").write_text(json.dumps({**suite, "_timestamp_end": "2026-11-24T10:00:00Z"}))
    block = vm.benchmark_block(of_the_suite(vm, tmp_path / "r.json"))
    if "score_hs23" in expected:
        expected["score_hs23"] /= os.cpu_count()
        assert block["score_wall"] == block["score_hs23"]
    assert {name: block[name] for name in expected} == expected
    assert block["measured_at"] == "2026-11-24T10:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"profiles": {}}',
        '{"profiles": {"hepscore": {"score": NaN}}}',
        '{"profiles": {"DB12": {"value": 0}}, "_timestamp_end": "T"}',
    ],
)
def test_a_report_that_says_nothing_useful_costs_the_benchmark_and_no_more(vm, tmp_path, text, capfd):
    (tmp_path / "r.json").write_text(text)
    assert vm.benchmark_block(of_the_suite(vm, tmp_path / "r.json")) is None
    assert "no benchmark" in capfd.readouterr().err


# ---- the wire ----


def certificate(folder: Path) -> Path:
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "server.pem"


def test_tls_is_verified_always(tmp_path):
    lab = Lab(tmp_path)
    lab.world.run(60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with serve(lab.office, context) as lab.base:
        assert lab.do("report") == 5
        assert lab.office.requests == []
        assert lab.do("report", "--ca", str(tmp_path / "ca.pem")) == 0


def test_what_is_encrypted_goes_by_the_proxy_of_the_environment(tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    lab = Lab(tmp_path)
    lab.world.run(60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with serve(lab.office, context) as lab.base:
        server = lab.base.removeprefix("https://")
        with running(TunnelProxy(("127.0.0.1", int(server.rpartition(":")[2])))) as proxy:
            monkeypatch.setenv("https_proxy", f"http://us%40er:word@127.0.0.1:{proxy.port}/")
            assert lab.do("report", "--ca", str(tmp_path / "ca.pem")) == 0
            tunnels = len(proxy.heads)
            assert tunnels >= 1
            for head in proxy.heads:
                assert head.startswith(f"CONNECT {server} HTTP/1.".encode())
                assert b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(b"us@er:word") in head
                assert b"Bearer" not in head
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert lab.do("report", "--ca", str(tmp_path / "ca.pem")) == 0
            assert len(proxy.heads) == tunnels
    assert len(lab.office.samples) == 2


def test_a_redirect_is_not_followed(lab):
    lab.office.script.extend([(302, {"Location": lab.base + "/stolen"}, b"")] * 9)
    assert lab.do("report") == 5
    assert {path for _, path, _, _ in lab.office.requests} == {"/function/usage-report"}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>login</html>",
        b"[]",
        b"{}",
        b"null",
        b'{"accepted": 1, "stale": 0, "rejected": [], "server_time": "soon"}',
    ],
)
def test_a_200_that_is_no_receipt_loses_nothing(lab, answer):
    assert lab.do("report") == 0
    lab.office.script.append((200, {}, answer))
    lab.world.run(60)
    assert lab.do("report") == 5
    assert len(lab.kept["pending"]) == 1
    lab.world.run(60)
    assert lab.do("report") == 0
    assert len(lab.office.samples) == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("-5", 0),
        ("3600", 120),
        ("9" * 400, 120),
        ("Wed, 25 Nov 2026 10:01:40 GMT", 40),
        ("Wednesday, 25-Nov-26 10:01:40 GMT", 40),
        ("Wed Nov 25 10:01:40 2026", 40),
        ("Wed, 25 Nov 2026 10:00:00 GMT", 0),
        ("Thu, 26 Nov 2026 10:00:00 GMT", 120),
        ("soon", 0),
        ("1.5", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_every_form_of_retry_after_is_waited_for_by_the_server_s_clock_and_at_most_two_minutes(lab, value, seconds):
    lab.world.clock_error = 3600
    lab.office.script.append((503, {} if value is None else {"Retry-After": value}, b""))
    assert lab.do("jobs", "--patience", "120") == 0
    assert lab.slept == []  # the first request asks for no more than the time
    lab.office.script.append((503, {} if value is None else {"Retry-After": value}, b""))
    assert lab.do("jobs", "--patience", "120") == 0
    (waited,) = lab.slept
    assert seconds - 1 <= waited <= seconds * 1.25 + 2


def test_patience_counts_from_the_last_answer_and_ends_all_the_same(lab):
    assert lab.do("report") == 0
    before = lab.world.now
    lab.office.script.extend([(503, {"Retry-After": "120"}, b"")] * 99)
    assert lab.do("report", "--patience", "120") == 5
    assert len(lab.slept) >= 2
    assert lab.world.now - before <= 480
    assert len({round(wait, 6) for wait in lab.slept}) == len(lab.slept)


def test_an_answer_that_comes_a_byte_now_and_then_is_ended(lab, monkeypatch):
    def trickle(handler):
        for _ in range(600):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    monkeypatch.setattr(recording_server.Handler, "do_POST", trickle)
    lab.constants = lambda real=lab.constants: {**real(), "REQUEST_SECONDS": 1}
    assert lab.do("report") == 5
    assert "no whole answer in time" in lab.console.read_text()


def test_a_report_is_gzip_and_carries_the_token_only_in_its_header(lab):
    assert lab.do("report") == 0
    method, path, headers, body = lab.office.requests[-1]
    assert (method, path) == ("POST", "/function/usage-report")
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer t0"
    assert body[:2] == b"\x1f\x8b"


def test_an_hour_costs_less_than_a_cpu_second(lab):
    assert lab.do("report") == 0
    lab.world.run(3600)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert lab.spawn(sys.executable, "report").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.8


# ---- installation ----


ODD = """/a path/100%/%n '"$HOME" \\ `id` ; ä"""


def installed(lab, service):
    """Install below a folder; return the unit or cron table, and what the script hands to `run`."""
    root = lab.folder / "root"
    (root / service).parent.mkdir(parents=True)
    (lab.folder / "token").write_text("a-reporters-token")
    assert lab.do("install", "--root", str(root), "--claim-file", ODD, "--unpack", "/two\nlines", "--jobs", "yes") == 0
    script = (root / "etc/skytally/run").read_text()
    assert "a-reporters-token" not in script
    assert script.endswith(f"exec {sys.executable} {VM_PY} run\n")
    shown = subprocess.run(
        ["sh", "-c", script.replace("exec ", "exec env -0 # ")], env={}, capture_output=True, check=True
    ).stdout
    return (root / service).read_text(), dict(line.decode().partition("=")[::2] for line in shown.split(b"\0") if line)


def test_systemd_runs_it_from_boot_to_the_last_sample(lab):
    (lab.folder / "root/run/systemd/system").mkdir(parents=True)
    unit, environment = installed(lab, "etc/systemd/system/skytally.service")
    assert "ExecStart=/bin/sh /etc/skytally/run\n" in unit
    assert "RestartPreventExitStatus=2 3 4\n" in unit
    assert "%" not in unit
    assert (environment["SKYTALLY_CLAIM_FILE"], environment["SKYTALLY_UNPACK"]) == (ODD, "/two\nlines")
    assert environment["SKYTALLY_BASE"] == lab.base
    assert "SKYTALLY_ROOT" not in environment
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: systemd's own reading of the unit is not tested")
    path = lab.folder / "root/etc/systemd/system/skytally.service"
    done = subprocess.run(["systemd-analyze", "verify", path], check=False, capture_output=True, text=True, timeout=60)
    assert "skytally" not in done.stderr, done.stderr


def test_a_relative_path_is_kept_as_what_it_means_where_install_runs(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root/etc/cron.d").mkdir(parents=True)
    paths = ("--claim-file", "claim", "--unpack", "grid", "--ca", "ca.pem", "--benchmark-report", "none")
    assert lab.do("install", "--root", str(tmp_path / "root"), *paths) == 0
    script = (tmp_path / "root/etc/skytally/run").read_text()
    for name, path in {"CLAIM_FILE": "claim", "UNPACK": "grid", "CA": "ca.pem"}.items():
        assert f"export SKYTALLY_{name}={tmp_path / path}\n" in script
    assert "export SKYTALLY_BENCHMARK_REPORT=none\n" in script


def test_cron_runs_it_where_there_is_no_systemd(lab):
    table, environment = installed(lab, "etc/cron.d/skytally")
    assert (
        table == "@reboot root sh /etc/skytally/run\n"
    )  # and so no % of an option, which cron reads as the end of a line
    assert (environment["SKYTALLY_CLAIM_FILE"], environment["SKYTALLY_UNPACK"]) == (ODD, "/two\nlines")


def test_sigterm_ends_run_with_a_last_sample(tmp_path):
    lab = Lab(tmp_path)
    lab.world.run(60)
    with serve(lab.office) as lab.base:
        code = agent_lab.DRIVER.replace("vm.clock = ", "vm.clock = vm.clock; _ = ")
        settings = lab.folder / "lab.json"
        settings.write_text(json.dumps({"unix": 0, "monotonic": 0, "constants": lab.constants()}))
        running = subprocess.Popen(
            [sys.executable, "-B", "-c", code, str(VM_PY), str(settings), *lab.argv("run")], stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 20
        while not lab.office.samples and time.monotonic() < deadline:
            time.sleep(0.05)
        lab.world.run(1)
        running.terminate()
        _, errors = running.communicate(timeout=20)
    assert running.returncode == 0, errors
    # A signal that comes with an answer may make the vm send that sample again.
    assert {(s["counters"]["wall_seconds"], s["final"]) for s in lab.office.samples[:-1]} == {
        (lab.office.samples[0]["counters"]["wall_seconds"], False)
    }
    assert lab.office.samples[-1]["final"]
