"""Scenarios: the true life of vms and the reports that arrived of it, with the totals that must come out.

A file of tests/scenarios/ holds::

    title = "one sentence"
    [[vm]]                    name, cloud, cores, boot (ISO), busy (share of core time); boot_id = "same" shares it with
                              the vm before
    phases = [{ hours = 24, cores = 8, suspended = false, paused = false }, …]
                              after the boot, in order; the last one goes on.
                              No clock of a vm that its host pauses counts that time
    [[report]]                in the order of arrival; what is lost is not here
    vm = "…"  at = [hours after boot, …]     one sample each, in one request
    previous = [hours, …]     of each sample; "boot" is the default for the first, the sample before for others; "none"
                              is null
    month = "YYYY-MM"         for closing samples; default the month of the sample
    shift_hours = 3           the vm's clock is off: sampled_at is so much later
    uptime_shift_hours = -2   the vm was restored from a snapshot
    final, estimated, benchmark (a table), change (dotted path = value) …
    expect = { accepted = 1, stale = 0, rejected = ["code", …] }
    [boots."document key"]    expected rows of the statement with detail=boots (a subset of columns)
    [clouds."YYYY-MM".name]   expected rows of the clouds
"""

import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import builders

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
HOUR = timedelta(hours=1)


class Life:
    """A vm whose every counter at every moment is known."""

    def __init__(self, spec: dict[str, Any], before: "Life | None") -> None:
        self.vm, self.cloud = spec["name"], spec["cloud"]
        self.boot_at = datetime.fromisoformat(spec["boot"]) if isinstance(spec["boot"], str) else spec["boot"]
        self.boot_id = before.boot_id if spec.get("boot_id") == "same" and before else str(uuid.uuid4())
        self.busy, cores = spec.get("busy", 0.5), spec.get("cores", 8)
        self.phases = [*spec.get("phases", []), {"hours": 10**6, "cores": cores}]

    def counters(self, hours: float) -> dict[str, float]:
        """Add up the phases of a life until some hours after the boot."""
        wall = core = suspended = 0.0
        for phase, span in self._lived(hours):
            if phase.get("suspended"):
                suspended += span
            elif not phase.get("paused"):
                wall += span
                core += span * phase["cores"]
        user, system = core * self.busy * 0.9, core * self.busy * 0.1
        values = {
            "wall": wall,
            "core": core,
            "user": user,
            "system": system,
            "idle": core - user - system,
            "suspended": suspended,
        }
        return {f"{name}_seconds": round(value * 3_600, 3) for name, value in values.items()}

    def _lived(self, hours: float) -> Iterator[tuple[dict[str, Any], float]]:
        """List the phases of a life until some hours after the boot, each with the hours of it."""
        for phase in self.phases:
            span = min(hours, phase["hours"])
            hours -= span
            yield phase, span

    def uptime_seconds(self, hours: float) -> float:
        """Return the uptime some hours after the boot."""
        return round(sum(span for phase, span in self._lived(hours) if not phase.get("paused")) * 3_600, 3)

    def cores(self, hours: float) -> int:
        """Return the cores that the vm had some hours after its boot."""
        left, cores = hours, self.phases[-1]["cores"]
        for phase in self.phases:
            cores = phase.get("cores", cores)
            if left <= phase["hours"]:
                return cores
            left -= phase["hours"]
        return cores

    def moment(self, hours: float, shift_hours: float = 0.0) -> dict[str, Any]:
        """Describe a moment as a sample and its `previous` do."""
        at = self.boot_at + (hours + shift_hours) * HOUR
        return {
            "sampled_at": builders.stamp(at),
            "uptime_seconds": self.uptime_seconds(hours),
            "counters": self.counters(hours),
        }

    def sample(self, hours: float, previous: float | None, report: dict[str, Any]) -> dict[str, Any]:
        """Take a sample as a right agent does, then spoil it as the report says."""
        shift = report.get("shift_hours", 0.0)
        at = self.boot_at + (hours + shift) * HOUR
        month = report.get("month", f"{at.astimezone(UTC):%Y-%m}")
        edge = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
        edge_hours = max(0.0, (edge - self.boot_at) / HOUR - shift)
        sample = {
            "vm": self.vm,
            "boot_id": self.boot_id,
            "boot_at": builders.stamp(self.boot_at),
            "month": month,
            "cores": self.cores(hours),
            "month_start": self.counters(edge_hours),
            "previous": None if previous is None else self.moment(previous, shift if previous else 0.0),
            **self.moment(hours, shift),
            **{name: report[name] for name in ("final", "estimated", "benchmark") if name in report},
        }
        sample["uptime_seconds"] += report.get("uptime_shift_hours", 0) * 3_600
        for path, value in report.get("change", {}).items():
            *parents, last = path.split(".")
            place: Any = sample
            for parent in parents:
                place = place[parent]
            place[last] = value
        return sample


def load(path: Path) -> dict[str, Any]:
    """Read a scenario and bring its vms to life."""
    scenario = tomllib.loads(path.read_text())
    lives: dict[str, Life] = {}
    before = None
    for spec in scenario["vm"]:
        before = Life(spec, before)
        lives[spec.get("as", spec["name"])] = before
    scenario["lives"] = lives
    return scenario


def samples(life: Life, report: dict[str, Any]) -> list[dict[str, Any]]:
    """Take a report's samples."""
    times = report["at"]
    befores = report.get("previous") or [report.get("after", 0.0), *times[:-1]]
    return [
        life.sample(at, None if before == "none" else before, report) for at, before in zip(times, befores, strict=True)
    ]
