"""One function as its image runs it: what it needs to start, when it is ready, and how it ends."""

import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localstack import fleet
from skytally.app import asgi, wiring
from skytally.deployment.catalog import FUNCTIONS
from tests.support import builders, slow_senders
from tests.support.slow_senders import ROOT, converse, head

ENDS_WITHIN_SECONDS = 25
# A server whose application says what garbage collections search when the first request may come.
COLLECTOR = """
import gc, os, threading
from skytally.app import asgi
from skytally.http.connections import Bounds
async def app(scope, receive, send):
    print(gc.get_freeze_count(), len(gc.get_objects()), gc.get_threshold()[0], flush=True)
    os._exit(0)
bounds = Bounds(head_seconds=1, idle_seconds=1, body_seconds=1, connections=1)
asgi.server(app, 1, bounds, stopping=threading.Event()).run(sockets=[asgi.listen("127.0.0.1", 0)])
"""
# A server whose application says how many arenas its threads have made; they begin at multiples of 64 MiB.
ARENAS = """
import os, threading
from skytally.app import asgi
from skytally.http.connections import Bounds
async def app(scope, receive, send):
    everybody, kept = threading.Barrier(20), []
    def allocate():
        kept.append(bytearray(50_000))
        everybody.wait()
    threads = [threading.Thread(target=allocate) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [line.split() for line in open("/proc/self/maps")]
    begins = [int(row[0].partition("-")[0], 16) for row in rows if row[1] == "rw-p" and len(row) == 5]
    print(sum(begin % (64 << 20) == 0 for begin in begins), flush=True)
    os._exit(0)
bounds = Bounds(head_seconds=1, idle_seconds=1, body_seconds=1, connections=1)
asgi.server(app, 1, bounds, stopping=threading.Event()).run(sockets=[asgi.listen("127.0.0.1", 0)])
"""
WRONG = [
    ("agent", {"SKYTALLY_TRUSTED_HOPS": "many"}, "SKYTALLY_TRUSTED_HOPS"),
    ("agent", {"SKYTALLY_OBJECTS": "swift://bucket"}, "SKYTALLY_OBJECTS"),
    ("agent", {"SKYTALLY_DOCUMENTS": "ftp://host"}, "SKYTALLY_DOCUMENTS"),
    ("agent", {"SKYTALLY_DOCUMENTS": "http://host:port"}, "SKYTALLY_DOCUMENTS"),
    ("agent", {"SKYTALLY_DOCUMENTS_API_KEY_FILE": "/nowhere"}, "SKYTALLY_DOCUMENTS_API_KEY_FILE"),
    ("panda_collect", {"SKYTALLY_PANDA_TOKEN_FILE": "/nowhere"}, "SKYTALLY_PANDA_TOKEN_FILE"),
    ("dirac_collect", {"SKYTALLY_DIRAC_CA_FILE": "/nowhere"}, "SKYTALLY_DIRAC_CA_FILE"),
    ("usage_report", {"SKYTALLY_KEYS": "/nowhere"}, "SKYTALLY_KEYS"),
    ("nothing", {}, "FUNCTION_TARGET"),
    ("agent", {"FUNCTION_SOURCE": "/nowhere"}, "FUNCTION_SOURCE"),
    ("agent", {"SKYTALLY_HOST": "192.0.2.1"}, "PORT"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "setting"), WRONG, ids=[f"{name} {setting}" for name, _, setting in WRONG]
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_78(home, name, settings, setting):
    environment = {
        "PATH": os.environ["PATH"],
        "SKYTALLY_HOME": str(home),
        "FUNCTION_TARGET": name,
        "PORT": "0",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-m", "skytally.app.asgi"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1), done.stderr
    assert done.stderr.startswith("skytally: ")
    assert setting in done.stderr


def test_a_function_is_alive_whatever_its_keys_and_ready_only_with_them(client, home):
    wiring.close()
    needs = {function.service: function.keys for function in FUNCTIONS}
    assert {client.get(f"{name}/_/ready").status_code for name in needs} == {200}
    (home / "keys").rename(home / "away")
    wiring.close()
    assert {client.get(f"{name}{path}").status_code for name in needs for path in ("/healthz", "/_/health")} == {200}
    assert {name: client.get(f"{name}/_/ready").status_code for name in needs} == {
        n: 503 if keys else 200 for n, keys in needs.items()
    }
    (home / "away").rename(home / "keys")
    assert client.get("statement/_/ready").status_code == 200


def test_a_broken_setting_is_never_ready_and_shows_nothing_of_it(client, monkeypatch):
    monkeypatch.setenv("SKYTALLY_S3_ENDPOINT", "http://[s3cret")
    wiring.close()
    answer = client.get("agent/_/ready")
    assert (answer.status_code, answer.json()["error"]["code"], "s3cret" in answer.text) == (503, "unavailable", False)
    assert client.get("agent/healthz").status_code == 200


def test_readiness_asks_no_store(client, monkeypatch):
    """An outage of a store must not take every function down."""
    monkeypatch.setenv("SKYTALLY_DOCUMENTS", "http://127.0.0.1:9")
    monkeypatch.setenv("SKYTALLY_OBJECTS", "s3://bucket")
    monkeypatch.setenv("SKYTALLY_S3_ENDPOINT", "http://127.0.0.1:9")
    wiring.close()
    assert {client.get(f"{function.service}/_/ready").status_code for function in FUNCTIONS} == {200}


def status_of(url):
    """Return the status of an answer, or None where nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


@pytest.mark.slow
def test_what_is_told_to_stop_is_not_ready_at_once_and_answers_what_it_has(home):
    """The report goes on for longer than the process listens."""
    body = json.dumps({"samples": [builders.FakeVm("vm-1").sample(datetime.now(UTC))]}).encode() + b" " * 400_000
    pieces = [body[n : n + 10_000] for n in range(0, len(body), 10_000)]

    async def run(server, token):
        begin = head(
            "/", f"Authorization: Bearer {token}", "Content-Type: application/json", f"Content-Length: {len(body)}"
        )
        sent_on = asyncio.create_task(converse(server.port, [begin, *pieces], 0.1))
        await asyncio.sleep(0.5)
        server.process.terminate()
        await asyncio.sleep(0.3)
        ready, alive = [await asyncio.to_thread(status_of, f"{server.base}/{path}") for path in ("_/ready", "healthz")]
        await asyncio.sleep(2.2)
        gone = await asyncio.to_thread(status_of, f"{server.base}/healthz")
        return ready, alive, gone, (await sent_on).status

    with slow_senders.served_alone("usage_report", home) as server:
        assert status_of(f"{server.base}/_/ready") == 200
        assert asyncio.run(run(server, fleet.reporter_tokens(home, ["uvic"])["uvic"])) == (503, 200, None, 200)
        assert server.process.wait(ENDS_WITHIN_SECONDS) == 0


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_while_it_loads_ends_at_once(home, tmp_path):
    gate, main = tmp_path / "gate", tmp_path / "agent" / "main.py"
    main.parent.mkdir()
    os.mkfifo(gate)
    main.write_text(f"open({str(gate)!r}).read()\n")
    environment = {
        "PATH": os.environ["PATH"],
        "FUNCTION_TARGET": "agent",
        "FUNCTION_SOURCE": str(tmp_path),
        "SKYTALLY_HOME": str(home),
    }
    with (
        subprocess.Popen(
            [sys.executable, "-m", "skytally.app.asgi"], cwd=ROOT, env={**environment, "PORT": "0"}
        ) as process,
        gate.open("w"),  # Opens once the function is being loaded.
    ):
        process.terminate()
        assert process.wait(ENDS_WITHIN_SECONDS) == 0


@pytest.mark.slow
def test_a_call_that_hangs_does_not_keep_the_process(home, tmp_path):
    """A platform kills whatever is there after 30 s."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "main.py").write_text(
        "import time\nimport functions_framework.aio\n\n@functions_framework.aio.http\ndef agent(request):\n    "
        "time.sleep(60)\n"
    )
    with (
        slow_senders.served_alone("agent", home, FUNCTION_SOURCE=str(tmp_path)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as caller,
    ):
        caller.sendall(head("/", method="GET"))
        time.sleep(0.5)
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(2 * ENDS_WITHIN_SECONDS) == 0
        assert 20 < time.monotonic() - began < ENDS_WITHIN_SECONDS


def test_garbage_collections_spare_what_was_loaded_before_the_first_request():
    done = subprocess.run(
        [sys.executable, "-c", COLLECTOR], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    frozen, searched, threshold = map(int, done.stdout.split())
    assert frozen > 100 * searched
    assert threshold == asgi.GARBAGE_OBJECTS


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_many_threads_share_few_arenas():
    done = subprocess.run(
        [sys.executable, "-c", ARENAS], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert int(done.stdout) <= asgi.ARENAS


@pytest.mark.slow
def test_a_local_server_that_can_print_nothing_serves_and_ends_as_it_is_told(home):
    port = slow_senders.free_port()
    command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", str(port)]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(command, env=os.environ, stdout=full, stderr=full)
    with process:
        for _ in range(200):
            if process.poll() is not None or status_of(f"http://127.0.0.1:{port}/function/agent/healthz") == 200:
                break
            time.sleep(0.1)
        assert process.poll() is None
        process.terminate()
        assert process.wait(ENDS_WITHIN_SECONDS) == 0
