"""What has happened at the site until minutes before NOW: both clouds have one of everything, of the same names."""

import base64
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from httpx2 import Response

from skytally.accounting import closing, signature
from skytally.adapters.keys_files import KeyFiles
from skytally.app import wiring
from skytally.core.ports import JobState
from skytally.jobs import panda_rows
from tests.properties.deployment import DAY, HOUR, LABELS, MINUTE, NOW, A, B, Site, caller
from tests.support import builders
from tests.support.dirac_lab import Door

EDGE = datetime.fromisoformat("2026-11-01T00:00:00Z")
WEEK_SECONDS = 604_800
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
CLOUDS_TOML = "".join(
    f'[clouds.{cloud}]\nprice_per_core_hour = 0.01\ncurrency = "CAD"\nwatts_per_core = 7.0\nco2_grams_per_kwh = 12.0\n'
    for cloud in (A, B)
)
CLOUDS_TOML += '[apel]\nvirtual_organisations = { panda = "atlas", dirac = "belle" }\n'


def build(site: Site, folder: Path) -> None:
    """Let both clouds live."""
    (folder / "clouds.toml").write_text(CLOUDS_TOML)
    site.open(folder)
    KeyFiles(folder / "keys", site.clock).init()
    for cloud in (A, B):
        one = vm_1(cloud)
        report(
            site,
            cloud,
            EDGE + MINUTE,
            one.sample(EDGE, month="2026-10", month_start=builders.counters(0)),
            one.sample(EDGE + MINUTE, EDGE),
        )
    close_october(site)
    for cloud in (A, B):
        november(site, cloud)
        secrets(site, cloud)
        jobs(site, cloud)
    for name, answer in site.rounds(NOW - 6 * MINUTE).items():
        assert answer.json()["state"] == "done", (name, answer.text)
    wiring.close()


def go_on(site: Site, at: datetime) -> Iterator[Response]:
    """Let the other cloud do what it does next: a report, a new boot, a job, a claim, a revocation."""
    one, again = vm_1(B), vm(B, "vm-2", NOW - 5 * MINUTE)
    reporter, scheduler = caller("reporter", B), caller("scheduler", B)
    yield site.post(at, "usage_report", {"samples": [one.sample(at, NOW - 10 * MINUTE), again.sample(at)]}, reporter)
    over = {
        "vm": "vm-1",
        "cloud": B,
        "started_at": builders.stamp(NOW - 2 * HOUR),
        "ended_at": builders.stamp(at),
        "state": "completed",
    }
    vms = [{"vm": "vm-2", "cloud": B, "started_at": builders.stamp(again.boot_at)}]
    yield site.post(at, "placement_report", {"vms": vms, "jobs": [{"batch_id": batch_id(B, 19), **over}]}, scheduler)
    yield site.post(at, "job_heartbeat", {"vm": "vm-1", "jobs": [job_id(B, 3), job_id(B, 4)]}, reporter)
    yield claim(site, at, B, "coming")
    yield site.post(at, "secret_revoke", revocation_body(site, B, "withdrawing"), scheduler)


def vm(cloud: str, name: str, boot_at: datetime) -> builders.FakeVm:
    """Make a vm whose boot_id is the same in every run."""
    made = builders.FakeVm(name, boot_at=boot_at)
    made.boot_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{cloud}/{name}/{boot_at}"))
    return made


def vm_1(cloud: str) -> builders.FakeVm:
    """The one vm that runs since October."""
    return vm(cloud, "vm-1", datetime.fromisoformat("2026-10-20T08:00:00Z"))


def report(site: Site, cloud: str, at: datetime, *samples: dict[str, Any]) -> None:
    """Report good samples."""
    receipt = site.post(at, "usage_report", {"samples": samples}, caller("reporter", cloud)).json()
    assert receipt["accepted"] == len(samples), receipt


def close_october(site: Site) -> None:
    """Sign the statement of both."""
    key, site.clock.at = signature.new_key(), EDGE + 4 * DAY
    made = closing.close(
        "2026-10", (), wiring.documents(), wiring.site(), lambda text: signature.sign(text, key), site.clock.at
    )
    assert len(made) == 2


def benchmark(score: float) -> dict[str, Any]:
    """Say what a benchmark found."""
    return {
        "kernel": "zbs",
        "kernel_version": "1",
        "score_wall": score,
        "score_cpu": score,
        "score_hs23": score,
        "copies": 8,
    }


def november(site: Site, cloud: str) -> None:
    """Report of vms: two are well, one has a wrong clock, one is slow, one fell silent, and one went back in time."""
    late = NOW - 10 * MINUTE
    odd_clock = {"clock_offset_seconds": 300.0}
    for days, score, more in ((0, 15.0, {}), (3, 15.5, {}), (2, 15.2, odd_clock), (1, 4.0, {})):
        one = vm(cloud, f"vm-{5 - days}", NOW - days * DAY) if days else vm_1(cloud)
        more |= {"benchmark": benchmark(score)}
        report(site, cloud, NOW - HOUR, one.sample(NOW - HOUR, None if days else EDGE + MINUTE, **more))
        report(site, cloud, late, one.sample(late, NOW - HOUR, **more))
    silent, restored = vm(cloud, "vm-5", NOW - 30 * HOUR), vm(cloud, "vm-6", NOW - 8 * HOUR)
    report(site, cloud, NOW - 5 * HOUR, silent.sample(NOW - 5 * HOUR))
    report(site, cloud, NOW - 2 * HOUR, restored.sample(NOW - 2 * HOUR))
    went_back = restored.sample(NOW - 3 * HOUR) | {"sampled_at": builders.stamp(late)}
    assert site.post(late, "usage_report", {"samples": [went_back]}, caller("reporter", cloud)).json()["stale"] == 1


def secrets(site: Site, cloud: str) -> None:
    """Leave a secret for each fate that one may have."""
    at, scheduler = NOW - 2 * HOUR, caller("scheduler", cloud)
    for name in ("waiting", "coming", "withdrawing", "vm-1", "contested", "unreported", "revoked", "expired"):
        body = deposit_body(cloud, vm=name, expires_in_seconds=60 if name == "expired" else WEEK_SECONDS)
        site.claims[cloud, name] = site.post(at, "secret_deposit", body, scheduler).json()["token"]
    batch = site.post(at, "secret_deposit", deposit_body(cloud, vms=["batch-1", "batch-2", "batch-3"]), scheduler)
    site.claims[cloud, "batch"] = batch.json()["token"]
    assert [claim(site, at, cloud, name).status_code for name in ("vm-1", "contested", "unreported")] == [200, 200, 200]
    assert claim(site, at, cloud, "contested", OTHER_KEY).status_code == 409
    assert site.post(at, "secret_revoke", revocation_body(site, cloud, "revoked"), scheduler).status_code == 200


def deposit_body(cloud: str, **fields: Any) -> dict[str, Any]:
    """Write a deposit."""
    payload = base64.b64encode(b"payload").decode()
    return {"cloud": cloud, "payload": payload, "expires_in_seconds": WEEK_SECONDS, **LABELS, "cores": 8, **fields}


def claim_body(
    site: Site, cloud: str, name: str, key: rsa.RSAPrivateKey = builders.SHARED_KEY, of_batch: str | None = None
) -> dict[str, Any]:
    """Write the claim of whoever holds a token."""
    form = builders.claim_form(site.claims[cloud, name], builders.public_key(key), of_batch)
    return form | {"expires": int(form["expires"])}


def claim(site: Site, at: datetime, cloud: str, name: str, key: rsa.RSAPrivateKey = builders.SHARED_KEY) -> Response:
    """Claim a secret."""
    return site.post(at, "secret_claim", claim_body(site, cloud, name, key), {})


def revocation_body(site: Site, cloud: str, name: str) -> dict[str, Any]:
    """Write the revocation of a secret."""
    claim_id, expires, _ = site.claims[cloud, name].split(".")
    return {"claim": claim_id, "expires": int(expires)}


def batch_id(cloud: str, n: int) -> str:
    """Name a batch job of a cloud's own schedd."""
    return f"schedd-{cloud}#{n}.0#1764400000"


def job_id(cloud: str, n: int) -> str:
    """Name a DIRAC job of a cloud; all names are of one length, so that none is the beginning of another."""
    return f"{1 if cloud == A else 2}{n:07d}"


def jobs(site: Site, cloud: str) -> None:
    """Report where jobs run, as the batch system and as vms know it."""
    since, running = NOW - 2 * HOUR, {"cloud": cloud, "state": "running"}
    vms = [{"vm": f"vm-{n}", "started_at": builders.stamp(NOW - n * DAY), "cores": 8, **running} for n in (1, 2, 3)]
    runs = [
        {"batch_id": batch_id(cloud, n), "vm": host_of(n), "started_at": builders.stamp(since), **running}
        for n in range(20)
    ]
    answer = site.post(NOW - HOUR, "placement_report", {"vms": vms, "jobs": runs}, caller("scheduler", cloud))
    assert answer.json()["accepted"] == 23
    for hours, names in ((3, (1, 2, 3)), (1, (2, 3))):
        beat = {"vm": "vm-1", "jobs": [job_id(cloud, n) for n in names]}
        assert site.post(NOW - hours * HOUR, "job_heartbeat", beat, caller("reporter", cloud)).json()[
            "accepted"
        ] == len(names)


def host_of(n: int) -> str:
    """Say on which vm a batch job runs."""
    return f"vm-{n % 3 + 1}"


def panda_jobs(cloud: str) -> Iterator[dict[str, Any]]:
    """Describe a cloud's jobs as PanDA does: some failed, and the last two end only after the site's last round."""
    failed = {"jobstatus": "failed", "piloterrorcode": 1305, "piloterrordiag": "payload failed"}
    for n in range(20):
        ended_at = NOW - (2 * MINUTE if n >= 18 else (20 + n) * MINUTE)
        times = {
            "modificationtime": ended_at,
            "statechangetime": ended_at,
            "endtime": ended_at,
            "starttime": ended_at - 10 * MINUTE,
        }
        yield {
            **dict.fromkeys(panda_rows.FIELDS),
            **{name: f"{moment:%Y-%m-%dT%H:%M:%S}" for name, moment in times.items()},
            "pandaid": int(job_id(cloud, n)),
            "jeditaskid": 7,
            "computingsite": cloud,
            "batchid": batch_id(cloud, n),
            "modificationhost": host_of(n),
            "durationsec": 600,
            "actualcorecount": 8,
            "processingtype": "sim",
            **(failed if n < 3 else {"jobstatus": "finished"}),
        }


def dirac() -> Door:
    """Describe both clouds' jobs as DIRAC does: one of each is done."""
    times = {"started_at": NOW - 3 * HOUR, "last_update_at": NOW - 2 * HOUR}
    done = {"status": "Done", "ended_at": NOW - 2 * HOUR}
    return Door(
        *(
            JobState(job_id=int(job_id(cloud, n)), site=f"CLOUD.{cloud}", reschedule_count=0, **times, **more)
            for cloud in (A, B)
            for n, more in ((1, done), (2, {"status": "Running"}), (3, {"status": "Running"}))
        )
    )
