"""The main job on this very machine: `make run`.

Starts every function on one port, then does what a scheduler and a vm do: deposit a secret, fetch vm.py, claim,
open, benchmark, report; shows the statement; and leaves the dashboard up while vm.py goes on reporting.
"""

import argparse
import base64
import json
import os
import platform
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from skytally.cli.terminal import show

HERE = Path(__file__).resolve().parent
CLOUD = "this-machine"
PAYLOAD = b"a certificate, a token or a password would be here\n"
console = Console(highlight=False)


def main() -> int:
    """Take this machine through a vm's life, then wait; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--port",
        default=os.environ.get("PORT", "8080"),
        help="the dashboard's port, 0 for any free one (default PORT, else 8080)",
    )
    parser.add_argument(
        "--once", action="store_true", help="end after the statement instead of leaving the dashboard up"
    )
    options = parser.parse_args()
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    home = Path(os.environ.get("SKYTALLY_HOME", ".skytally")).absolute()
    with server(home, options.port) as base:
        live(base, home)
        show_statement(base, home)
        console.print(
            f"\n[bold]dashboard[/bold]  {base}/function/dashboard   (this machine reports on while this runs; Ctrl-C "
            "ends it)"
        )
        return 0 if options.once else report_on(base, home)


@contextmanager
def server(home: Path, port: str) -> Iterator[str]:
    """Run the local server, its dashboard open to whoever reaches this machine's loopback; yields its base URL."""
    environment = {**os.environ, "SKYTALLY_HOME": str(home), "SKYTALLY_OPEN_DASHBOARD": "true"}
    command = [sys.executable, str(HERE / "serve.py"), "--port", port]
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with (
        log.open("w") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            yield address_of(process, log)
        finally:
            process.terminate()


def address_of(process: "subprocess.Popen[str]", log: Path) -> str:
    """Wait for the server's ready line; where it ends instead, show what it said."""
    assert process.stdout is not None  # noqa: S101
    line = process.stdout.readline()
    if not line.startswith("ready "):
        process.wait()
        said = log.read_text().strip().splitlines()
        raise SystemExit(
            f"the server did not start: {said[-1] if said else 'no reason given'} (`PORT=0 make run` takes a free port)"
        )
    return line.split()[1].partition("/function/")[0]


def live(base: str, home: Path) -> None:
    """Do what a scheduler and a vm do, a line a step."""
    with step("scheduler leaves a secret for this machine"):
        body = {"vm": vm_name(), "cloud": CLOUD, "payload": base64.b64encode(PAYLOAD).decode(), "cores": os.cpu_count()}
        claim = call(base, home, "scheduler", "secret-deposit", body)
    with step("vm downloads vm.py and checks its digest"):
        script = download_agent(base, home)
    with step("vm claims and opens the secret, measures itself for 8 s, and reports"):
        boot(base, home, script, claim["token"])


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show a step while it lasts, and how long it took."""
    began = datetime.now(UTC)
    with console.status(title):
        yield
    console.print(f"[green]✓[/green] {title}  [dim]{(datetime.now(UTC) - began).total_seconds():.1f} s[/dim]")


def vm_name() -> str:
    """Name this machine as a vm."""
    return platform.node() or "localhost"


def call(base: str, home: Path, role: str, path: str, body: Any = None) -> Any:
    """Call a function with one of the operator's tokens."""
    headers = {"Authorization": f"Bearer {(home / 'tokens' / role).read_text()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/function/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def download_agent(base: str, home: Path) -> Path:
    """Fetch vm.py as a vm does, and refuse it where its digest is not the published one."""
    script, digests = (fetch(f"{base}/function/agent/{name}") for name in ("vm.py", "SHA256SUMS"))
    if f"{sha256(script).hexdigest()}  vm.py" not in digests.decode().splitlines():
        raise SystemExit("vm.py does not have the digest that SHA256SUMS says")
    path = home / "vm" / "vm.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(script)
    return path


def fetch(url: str) -> bytes:
    """Read a public file."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        data: bytes = answer.read()
        return data


def agent(base: str, home: Path, script: Path, verb: str) -> list[str]:
    """Write the command line of vm.py for this machine."""
    return [sys.executable, str(script), verb, "--base", base, "--state", str(home / "vm")]


def boot(base: str, home: Path, script: Path, token: str) -> None:
    """Run vm.py as at a vm's boot; the claim token goes over standard input, never on a command line."""
    command = [*agent(base, home, script, "boot"), "--claim-file", "-", "--payload", str(home / "vm" / "payload")]
    done = subprocess.run(command, input=token, text=True, capture_output=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"vm.py ended with {done.returncode}:\n{done.stderr.strip()}")
    if (home / "vm" / "payload").read_bytes() != PAYLOAD:
        raise SystemExit("the payload that vm.py opened is not the one that was left")


def show_statement(base: str, home: Path) -> None:
    """Print this month's statement with this machine on it."""
    month = f"{datetime.now(UTC):%Y-%m}"
    statement = call(base, home, "reader", f"statement?month={month}&cloud={CLOUD}&detail=boots")
    columns = ("vm", "boot", "core hours", "CPU hours", "score a core", "coverage")
    rows = []
    for row in statement["boots"]:
        score, coverage = row["benchmark_score"], row["coverage"]
        hours = (f"{row[name] / 3600:.3f}" for name in ("core_seconds", "cpu_seconds"))
        words = (f"{score:.2f}" if score else "–", f"{coverage:.0%}" if coverage is not None else "–")
        rows.append([row["vm"], row["boot_at"], *hours, *words])
    show(columns, rows, right=columns[2:], title=f"statement {month}, {statement['state']}")


def report_on(base: str, home: Path) -> int:
    """Let vm.py report until somebody ends this."""
    command = agent(base, home, home / "vm" / "vm.py", "run")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            console.print("stopped: the state stays in", str(home))
        finally:
            process.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
