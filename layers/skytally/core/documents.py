"""The documents that are kept: one class an index, one field a column.

All seconds are whole milliseconds, so that sums are exact.
"""

from datetime import datetime

from msgspec import Struct, structs

from skytally.core.distributions import buckets
from skytally.core.job_outcomes import outcome_of


class Document(Struct, frozen=True, kw_only=True):
    """Anything that a document store keeps."""


class Label(Document, frozen=True, kw_only=True):
    """index label, key `{vm}-{boot time}@{cloud}`: the boot that has this name; created once."""

    boot_id: str


class Boot(Document, frozen=True, kw_only=True):
    """index boot, key boot_id: what was first reported of a boot; created once, never changed."""

    boot_id: str
    label: str
    vm: str
    cloud: str
    site: str | None
    group: str | None
    flavor: str | None
    boot_at: datetime
    cores: int | None = None


class BootCores(Document, frozen=True, kw_only=True):
    """index boot_cores, key boot_id, version the number:
    the most cores that a boot was seen with, where that is more than at first.
    """

    boot_id: str
    cloud: str
    most_cores: int


class BootBenchmark(Document, frozen=True, kw_only=True):
    """index benchmark, key boot_id, version uptime ms: the newest scores that a boot reported, per core."""

    boot_id: str
    cloud: str
    flavor: str | None
    kernel: str
    kernel_version: str | None
    score_wall: float | None
    score_cpu: float | None
    score_hs23: float | None
    copies: int | None
    steal_fraction: float | None
    duration_seconds: float | None
    interpreter: str | None
    cpu_model: str | None
    measured_at: datetime | None


class Usage(Document, frozen=True, kw_only=True):
    """index usage, key `{label}-{YYYY-MM}`, version uptime ms: a month's totals of one boot."""

    month: str
    boot_id: str
    label: str
    vm: str
    cloud: str
    site: str | None
    group: str | None
    flavor: str | None
    boot_at: datetime
    last_sampled_at: datetime
    final: bool
    estimated: bool
    clock_ahead: bool
    clock_offset_seconds: float | None
    cores: int
    memory_bytes: int | None
    disk_bytes: int | None
    cpu_model: str | None
    agent_version: str | None
    uptime_ms: int
    wall_ms: int
    core_ms: int
    user_ms: int
    nice_ms: int
    system_ms: int
    idle_ms: int
    iowait_ms: int
    steal_ms: int
    suspended_ms: int
    network_received_bytes: int
    network_sent_bytes: int


class Interval(Document, frozen=True, kw_only=True):
    """index interval, key `{label}-{uptime ms at its start}`,
    version uptime ms at its end: the difference between two samples.

    Keyed by the uptime where it starts and not by a time of day, so that no clock step can make two intervals of one
    boot share a key, and a lost report comes again as a longer interval that replaces itself.
    """

    label: str
    vm: str
    cloud: str
    site: str | None
    group: str | None
    flavor: str | None
    from_at: datetime
    until_at: datetime
    cores: int
    wall_ms: int
    core_ms: int
    user_ms: int
    nice_ms: int
    system_ms: int
    idle_ms: int
    iowait_ms: int
    steal_ms: int
    suspended_ms: int
    network_received_bytes: int
    network_sent_bytes: int


class Anomaly(Document, frozen=True, kw_only=True):
    """index anomaly, key `{label}-{YYYY-MM}`, version ms of the sample's time:
    a boot whose uptime went back while time went on.

    Its vm was restored from a memory snapshot, or copied while it ran. Nothing is counted twice; that it happened must
    be seen.
    """

    label: str
    vm: str
    cloud: str
    month: str
    at: datetime
    uptime_ms: int
    known_uptime_ms: int


class Closing(Document, frozen=True, kw_only=True):
    """index closing, key `{YYYY-MM}/{revision}/{cloud}`, created once: a cloud's month, frozen and signed.

    `text` is JSON, and what is signed; `signature` Ed25519 in base64; `public_key` PEM.
    """

    month: str
    cloud: str
    revision: int
    closed_at: datetime
    text: str
    signature: str
    public_key: str


class Alarm(Document, frozen=True, kw_only=True):
    """index alarm, key `{kind}:{subject}`, version ms of the round:
    one thing that a person must look at, and what people were told.

    What was resolved before the alarm was raised anew has the key `{kind}:{subject}@{ms when it was raised}`. `vm` is
    whose it is where it is a vm's, and `error` the one that its jobs fail with most.
    """

    kind: str
    subject: str
    cloud: str | None
    message: str
    state: str
    told: str | None
    raised_at: datetime
    seen_at: datetime
    resolved_at: datetime | None
    vm: str | None = None
    error: str | None = None


class TimerSlot(Document, frozen=True, kw_only=True):
    """index turn, key `{name}-{ms of the turn before}`:
    that somebody does what is to be done once, such as a timer's next round.

    Created once, and held for `timer.LEASE`.
    """

    taken_at: datetime


class Round(Document, frozen=True, kw_only=True):
    """index round, key the timer function's name, version ms of its start:
    its newest round, and when one last went well.
    """

    name: str
    started_at: datetime
    finished_at: datetime | None
    succeeded_at: datetime | None
    error: str | None


class Tally(Document, frozen=True, kw_only=True):
    """index tally, key `{function}-{process}-{hour}`, version how many reports it counts:
    what became of the reports that a process took.

    Reports by what they got, and the items of those that were answered.
    """

    function: str
    hour_at: datetime
    counted_at: datetime
    answered: int
    refused: int
    unavailable: int
    crashed: int
    accepted: int
    stale: int
    rejected: int


class PlacedVm(Document, frozen=True, kw_only=True):
    """index placed_vm, key `{vm}@{cloud}@{start, ms}`,
    version the report's order (see `placement`): a vm's life as its scheduler saw it.

    `reported_at` is when the scheduler listed it, or when the report came where the scheduler does not say. `joined`
    once every job that it concerns and that was known then is on its cloud.
    """

    vm: str
    cloud: str
    site: str | None
    flavor: str | None
    cores: int | None
    state: str | None
    started_at: datetime
    ended_at: datetime | None
    reported_at: datetime
    joined: bool


class Placement(Document, frozen=True, kw_only=True):
    """index placement, key `{batch id}@{cloud}@{start, ms}`, version ms of the report:
    one run of a batch job on a vm, as a scheduler says.

    `batch_number` is the `cluster.proc` within the batch id, by which it is found where a source knows no more. `cloud`
    is `unknown` where the scheduler named none; `clouds` then are those of which it may speak (a JSON list, part of the
    key), and None is all. `joined` once every job that it concerns and that was known then is on its cloud.
    """

    batch_id: str
    batch_number: str | None
    vm: str
    cloud: str
    slot: str | None
    state: str
    started_at: datetime
    ended_at: datetime | None
    wall_seconds: float | None
    cpu_seconds: float | None
    exit_code: int | None
    reported_at: datetime
    joined: bool
    clouds: str | None = None


class Heartbeat(Document, frozen=True, kw_only=True):
    """index heartbeat, key `{DIRAC job id}@{vm}@{cloud}`, version ms of the newest: a vm said that this job runs on it.

    Times are the server's, or the vm's where it told of a job late; what the vm's own clock said is kept as claimed.
    `noted` is `new`, then `running`; `over` once DIRAC said that the run has ended or went elsewhere, `settled` once
    nothing more is asked about the job; `after_end` where the vm names it again after that. `first_seen_at` is of that
    run, `named_together` the most jobs that the vm named at once during it; between `paused_at` and `resumed_at` the vm
    last left it out for longer than a lost report explains. `site` is DIRAC's name for where the vm is.
    """

    job_id: str
    noted: str
    vm: str
    cloud: str
    site: str | None
    first_seen_at: datetime
    last_seen_at: datetime
    claimed_at: datetime | None
    named_together: int
    paused_at: datetime | None
    resumed_at: datetime | None


class Job(Document, frozen=True, kw_only=True):
    """index job, key `panda/{pandaid}` or `dirac/{job id}`: what is known of a payload, in one shape for both systems.

    `cloud` is `unknown` until a placement says, and `elsewhere` for a DIRAC job that went on at another site.
    `final_at` is when it became final, and the window that it belongs to; None while it is not. `core_ms` is wall time
    by cores, `wasted_core_ms` the same of jobs that started and did not end well, `core_ms_with_cpu` the same of jobs
    whose CPU time is known. What cannot be (an end before its start, more CPU than cores) is named in `doubt` and left
    out of `cpu_ms`. `error` is `{component} {code}` of the first failing component, `error_message` what of its words
    does not vary. `runs` are the runs on our vms that are over and counted in `wall_ms`, where a job may have several
    (JSON; see `dirac_count`), and `history` what became of those that DIRAC rescheduled. `error_raw` is the source's
    whole text of the error, `log_url` where the job's log can be read.

    Worked out of the rest, so that every engine can add them up: `finished_count` and `failed_count` are 1 where that
    is the job's outcome, else 0; the fields of `distributions.BUCKET_FIELDS` are where the bucket begins that the job
    is in. Documents of earlier versions lack them in the store.
    """

    system: str
    job_id: str
    task_id: str | None = None
    parent_job_id: str | None = None
    attempt: int | None = None
    queue: str | None = None
    site: str | None = None
    status: str
    substatus: str | None = None
    application_status: str | None = None
    cloud: str
    vm: str | None = None
    joined_by: str | None = None
    batch_id: str | None = None
    batch_number: str | None = None
    host: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    changed_at: datetime
    final_at: datetime | None = None
    seen_at: datetime
    cores: int
    wall_ms: int
    cpu_ms: int
    core_ms: int
    core_ms_with_cpu: int
    wasted_core_ms: int
    max_pss_bytes: int | None = None
    work_folder_bytes: int | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    transformation: str | None = None
    processing_type: str | None = None
    input_type: str | None = None
    output_type: str | None = None
    release: str | None = None
    multicore: bool
    error: str | None = None
    error_component: str | None = None
    error_category: str | None = None
    error_message: str | None = None
    error_raw: str | None = None
    doubt: str | None = None
    history: str | None = None
    runs: str | None = None
    log_url: str | None = None
    finished_count: int | None = None
    failed_count: int | None = None
    run_seconds_from: int | None = None
    max_pss_bytes_from: int | None = None
    disk_bytes_from: int | None = None
    efficiency_from: float | None = None

    def __post_init__(self) -> None:
        """Work out the fields that follow from the others."""
        outcome = outcome_of(self.status, is_final=self.final_at is not None)
        structs.force_setattr(self, "finished_count", int(outcome == "finished"))
        structs.force_setattr(self, "failed_count", int(outcome == "failed"))
        for name, value in buckets(self.wall_ms, self.max_pss_bytes, self.work_folder_bytes, self.efficiency).items():
            structs.force_setattr(self, name, value)

    @property
    def efficiency(self) -> float | None:
        """CPU time by core time, where it is known."""
        return self.cpu_ms / self.core_ms_with_cpu if self.core_ms_with_cpu else None


class Cursor(Document, frozen=True, kw_only=True):
    """index cursor, key the source's name, version ms of the time it stands at:
    everything before it has been collected and stored.

    `error` is why it could not move when it was last asked, and None where it did.
    """

    stands_at: datetime
    asked_at: datetime
    error: str | None


class RenewedCredential(Document, frozen=True, kw_only=True):
    """index credential, key `{source}/{SHA-256 of the token file}`,
    version ms of `changed_at`: what a token file's pair became.

    `sealed` is the pair that it was last exchanged for, in base64, under the wrapping key that is named; None while the
    file's own is used. `begun_at` is when an exchange began of which nothing is known yet, and `refused_at` when the
    source refused one.
    """

    source: str
    used_since: datetime
    changed_at: datetime
    renewed_at: datetime | None = None
    wrapping_key: str | None = None
    sealed: str | None = None
    begun_at: datetime | None = None
    refused_at: datetime | None = None


class Unreadable(Document, frozen=True, kw_only=True):
    """index unreadable, key `{kind}/{source}/{digest of the key}`,
    version ms of when it was last met: what was skipped, unread.

    `kind` is document (`source` names its index), object (its folder) or row (who answered it); `key_text` is its key,
    made printable.
    """

    kind: str
    source: str
    key_text: str
    reason: str
    seen_at: datetime


class Forgotten(Document, frozen=True, kw_only=True):
    """index forgotten, key an index's name, version ms of `before`:
    what is older than that is, or is being, removed from it.
    """

    before: datetime


INDICES: dict[str, type[Document]] = {
    "label": Label,
    "boot": Boot,
    "boot_cores": BootCores,
    "benchmark": BootBenchmark,
    "usage": Usage,
    "interval": Interval,
    "anomaly": Anomaly,
    "closing": Closing,
    "alarm": Alarm,
    "turn": TimerSlot,
    "round": Round,
    "tally": Tally,
    "placed_vm": PlacedVm,
    "placement": Placement,
    "heartbeat": Heartbeat,
    "job": Job,
    "cursor": Cursor,
    "credential": RenewedCredential,
    "unreadable": Unreadable,
    "forgotten": Forgotten,
}
