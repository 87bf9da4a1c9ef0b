"""Storms on files and SQLite: ten thousand vms boot within a minute behind one address, or come back after a day.

`python -m tests.bench.bench_storm --vms 10000 --within 60`. Each claims its secret, opens it and sends its first report
with the token from it; or sends a day of hourly samples that nobody took. The vms run on the same cores as the server.
"""

import argparse
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import output
from tests.bench.figures import number
from tests.bench.serving import cpu_seconds, peak_memory_mib, serving
from tests.support import boot_storm
from tests.support.boot_storm import Vm

AIM_SECONDS = 120
KINDS: dict[str, Callable[[Path, int], list[Vm]]] = {
    "boots: claim, open, first report": boot_storm.boots,
    "back after a day: 24 samples each": boot_storm.returns,
}
HEADERS = ("storm", "vms", "all done s", "p50 s", "p99 s", "slowest s", "refused", "server CPU s", "server MiB", "")


@dataclass(frozen=True)
class Outcome:
    """What became of a storm, in seconds; refusals by the status of the answer, 0 where there was none."""

    storm: str
    vms: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    slowest_seconds: float
    refusals: dict[int, int]
    server_cpu_seconds: float
    server_mib: float

    @property
    def is_met(self) -> bool:
        """Return whether all were done in time and none was refused."""
        return self.seconds <= AIM_SECONDS and not self.refusals


def measure(kind: str, vms: int, within_seconds: float) -> Outcome:
    """Let a storm come over a fresh server."""
    with serving(**boot_storm.SETTINGS) as server:
        coming = KINDS[kind](server.home, vms)
        cpu_before = cpu_seconds(server.pid)
        storm = boot_storm.run(server.port, coming, within_seconds)
        quantiles = [storm.quantile_seconds(share) for share in (0.5, 0.99, 1.0)]
        used = (cpu_seconds(server.pid) - cpu_before, peak_memory_mib(server.pid))
        return Outcome(kind, vms, storm.seconds, *quantiles, dict(storm.refusals), *used)


def cells(outcome: Outcome) -> tuple[str, ...]:
    """Return a row of the table."""
    refused = ", ".join(f"{count} × {status or 'no answer'}" for status, count in sorted(outcome.refusals.items()))
    times = (outcome.seconds, outcome.p50_seconds, outcome.p99_seconds, outcome.slowest_seconds)
    used = (number(outcome.server_cpu_seconds), number(outcome.server_mib))
    verdict = "met" if outcome.is_met else "missed"
    return outcome.storm, f"{outcome.vms:,}", *map(number, times), refused or "none", *used, verdict


def main() -> int:
    """Let each kind of storm come; return 1 where one could not be lived through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=10_000)
    parser.add_argument("--within", type=float, default=60, help="seconds within which they all begin")
    output.add_options(parser)
    options = parser.parse_args()
    machine, outcomes = output.machine(), []
    output.say(machine)
    for kind in KINDS:
        try:
            outcomes.append(measure(kind, options.vms, options.within))
        except Exception:  # noqa: BLE001  # A storm that fails costs not the other.
            traceback.print_exc()
    title = f"all begin within {options.within:.0f} s; aim: all done in {AIM_SECONDS} s, none refused; {machine}"
    output.show(title, HEADERS, map(cells, outcomes), as_markdown=options.markdown)
    kept = {"machine": machine, "within_seconds": options.within, "outcomes": [asdict(outcome) for outcome in outcomes]}
    output.say(str(output.keep("storm", kept)))
    return 0 if len(outcomes) == len(KINDS) else 1


if __name__ == "__main__":
    sys.exit(main())
