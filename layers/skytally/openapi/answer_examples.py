"""Examples of the HTTP description: what callers send, and what they get. Each is valid by its schema."""

from typing import Any

from skytally.core.records import Claim, Deposit, HeartbeatReport, Placements, Revocation, Samples

CLAIM, EXPIRES = "x5q0n2v7c1k8m4z9p3s6t0w2ab", 1_793_448_000
MOMENT, BOOT_AT = "2026-10-31T12:00:00Z", "2026-10-31T11:00:00Z"
VM, CLOUD = "belle-uvic-4f2a", "uvic"


def _counters(wall_seconds: float) -> dict[str, float]:
    """Return what a vm of eight cores, half busy, counts."""
    core_seconds = wall_seconds * 8
    parts = {"user_seconds": 0.45, "system_seconds": 0.05, "idle_seconds": 0.5}
    times = {"wall_seconds": wall_seconds, "core_seconds": core_seconds}
    return times | {name: core_seconds * share for name, share in parts.items()}


SAMPLE = {
    "vm": VM,
    "boot_id": "0b7c5f43-94c5-4f0e-9c0a-5f6f4f1f4f5e",
    "boot_at": BOOT_AT,
    "sampled_at": MOMENT,
    "uptime_seconds": 3_600,
    "month": "2026-10",
    "cores": 8,
    "counters": _counters(3_600),
    "month_start": _counters(0),
}
BODIES: dict[type, Any] = {
    Deposit: {
        "cloud": CLOUD,
        "vm": VM,
        "payload": "aHVudGVyMg==",
        "sources": ["192.0.2.0/24"],
        "expires_in_seconds": 3_600,
    },
    Claim: {"claim": CLAIM, "expires": EXPIRES, "public_key": "H4sIAAAAAAAA…", "proof": "0" * 64},
    Revocation: {"claim": CLAIM, "expires": EXPIRES},
    Samples: {"samples": [SAMPLE]},
    HeartbeatReport: {"vm": VM, "jobs": ["123456"], "seen_at": MOMENT},
    Placements: {
        "vms": [{"vm": VM, "cloud": CLOUD, "cores": 8, "started_at": BOOT_AT}],
        "jobs": [
            {"batch_id": "condor.example.org#42.0#1793440000", "vm": VM, "started_at": BOOT_AT, "state": "running"}
        ],
    },
}
_RECEIPT = {"accepted": 1, "stale": 0, "rejected": [], "server_time": MOMENT}
_STATEMENT = {
    "month": "2026-10",
    "state": "provisional",
    "revision": 0,
    "generated_at": MOMENT,
    "clouds": [
        {
            "cloud": CLOUD,
            "vm_count": 1,
            "boot_count": 1,
            "wall_hours": 1.0,
            "core_hours": 8.0,
            "cpu_hours": 4.0,
            "efficiency": 0.5,
            "hs23_hours": 96.0,
            "scored_core_hours": 8.0,
            "hs23_complete": True,
            "energy_kwh": None,
            "co2_kg": None,
            "cost": 0.32,
            "currency": "EUR",
            "coverage": 1.0,
            "silent_vms": 0,
            "estimated_edges": 0,
            "anomalies": 0,
            "quarantined_benchmarks": 0,
            "state": "provisional",
            "revision": 0,
            "unsettled_core_hours": None,
            "unsettled_hs23_hours": None,
            "unsettled_cost": None,
            "unsettled_vms": None,
            "unsettled": None,
        }
    ],
}
_POINT = {
    "at": BOOT_AT,
    "until": MOMENT,
    "cloud": CLOUD,
    "core_hours": 8.0,
    "cpu_hours": 4.0,
    "efficiency": 0.5,
    "hs23_hours": 96.0,
    "vm_count": 1,
    "silent_vms": 0,
}
_SERIES = {
    "view": "usage",
    "from": BOOT_AT,
    "until": MOMENT,
    "step_seconds": 300.0,
    "generated_at": MOMENT,
    "series": [_POINT],
    "table": [],
    "row_count": 0,
    "open_alarms": 0,
}
JSON = "application/json"
ANSWERS: dict[tuple[str, str], Any] = {
    ("secret_deposit", JSON): {
        "claim": CLAIM,
        "token": f"{CLAIM}.{EXPIRES}.a-secret-of-the-claim",
        "expires_at": MOMENT,
    },
    ("secret_revoke", JSON): {"state": "revoked"},
    ("usage_report", JSON): _RECEIPT,
    ("job_heartbeat", JSON): _RECEIPT,
    ("placement_report", JSON): _RECEIPT
    | {"rejected": [{"index": 1, "code": "malformed_time", "message": "ended_at is before started_at"}]},
    ("statement", JSON): _STATEMENT,
    ("dashboard/data", JSON): _SERIES,
    ("dashboard/access", JSON): {"token_needed": True},
    ("secret_sweep", JSON): {"state": "done", "expired": 2, "forgotten": 0},
    ("panda_collect", JSON): {"state": "done", "jobs": 412, "unreadable": 0, "failed_queues": 0, "behind_seconds": 0},
    ("dirac_collect", JSON): {"state": "done", "running": 40, "asked": 12, "final": 7, "unreadable": 0},
    ("alarm_raise", JSON): {"state": "done", "open": 3, "raised": 1, "resolved": 0},
    ("documents_forget", JSON): {"state": "not_due"},
    ("{function}/healthz", JSON): {"state": "up"},
    ("{function}/_/health", JSON): {"state": "up"},
    ("{function}/_/ready", JSON): {"state": "ready", "deployment": "2026-10-31"},
}


def of(kind: type) -> dict[str, Any]:
    """Return the example of a body."""
    return {"example": BODIES[kind]}


def answer(name: str, media: str) -> dict[str, Any]:
    """Return the example of an answer, where there is one."""
    example = ANSWERS.get((name, media))
    return {} if example is None else {"example": example}
