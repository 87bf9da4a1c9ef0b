"""The stored documents: one class per index, one field per column.

Durations are whole milliseconds, so that sums are exact. The SQLite tables and the search engines' mappings are
generated from these classes.
"""

from datetime import datetime

from msgspec import Struct, structs

from skytally.core.distributions import buckets
from skytally.core.job_outcomes import outcome_of


class Document(Struct, frozen=True, kw_only=True, gc=False):
    """The base of all stored documents. They hold plain values, so they never need the garbage collector."""


class Label(Document, frozen=True, kw_only=True):
    """index label, key `{vm}-{boot time}@{cloud}`: the boot that has this label; created once."""

    boot_id: str


class Boot(Document, frozen=True, kw_only=True):
    """index boot, key boot_id: a boot as first reported; created once, never changed."""

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
    """index boot_cores, key boot_id, version the number: the most cores of a boot, if more than at first."""

    boot_id: str
    cloud: str
    most_cores: int


class BootBenchmark(Document, frozen=True):
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


class Usage(Document, frozen=True):
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


class Interval(Document, frozen=True):
    """index interval, key `{label}-{uptime ms at its start}`, version uptime ms at its end: two samples' difference.

    The key has the uptime and no time of day, so a clock step never gives two intervals of a boot the same key. After a
    lost report a longer interval with the same key replaces a shorter one.
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
    """index anomaly, key `{label}-{YYYY-MM}`, version ms of the sample's time: a boot whose uptime went back.

    Its vm was restored from a memory snapshot, or copied while it ran. Nothing is counted twice, but the operator must
    see it.
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

    `text` is the signed JSON; `signature` is Ed25519 in base64; `public_key` is PEM.
    """

    month: str
    cloud: str
    revision: int
    closed_at: datetime
    text: str
    signature: str
    public_key: str


class Alarm(Document, frozen=True, kw_only=True):
    """index alarm, key `{kind}:{subject}`, version ms of the round: an alarm, and the state that people were told.

    An alarm that was resolved before it was raised again has the key `{kind}:{subject}@{ms when it was raised}`. `vm`
    is the vm that it is about, if any, and `error` the error with which its jobs fail most.
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
    """index turn, key `{name}-{ms of the turn before}`: the lease of work that is done once, as a timer's next round.

    It is created once, and held for `timer.LEASE`.
    """

    taken_at: datetime


class Round(Document, frozen=True, kw_only=True):
    """index round, key the timer function's name, version ms of its start: its newest round and its last success."""

    name: str
    started_at: datetime
    finished_at: datetime | None
    succeeded_at: datetime | None
    error: str | None


class Tally(Document, frozen=True, kw_only=True):
    """index tally, key `{function}-{process}-{hour}`, version its number of reports: a process's reports by result.

    Counts of reports by their answer, and of the items of accepted reports by their outcome.
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
    """index placed_vm, key `{vm}@{cloud}@{start, ms}`, version the report's order (see `placements`): a scheduler's vm.

    `reported_at` is when the scheduler listed it, or else when the report came. `joined`: every stored job that it
    concerns has its cloud.
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
    """index placement, key `{batch id}@{cloud}@{start, ms}`, version ms of the report: a batch job's run on a vm.

    `batch_number` is the `cluster.proc` of the batch id, for sources that know no more. `cloud` is `unknown` if the
    scheduler named none; `clouds` are then those that it may report about (a JSON list, part of the key), None for all.
    `joined`: every stored job that it concerns has its cloud.
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
    """index heartbeat, key `{DIRAC job id}@{vm}@{cloud}`, version ms of the newest: a vm reported this job as running.

    Times are the server's, or the vm's for a late report; `claimed_at` is the vm's own time. `noted` is `new`, then
    `running`; `over` once DIRAC reports that the run has ended or moved; `settled` once DIRAC is not queried any more;
    `after_end` if the vm names the job again after that. `first_seen_at` is the run's. `named_together` is the most
    jobs that the vm named at once during the run. From `paused_at` to `resumed_at` the vm last left the job out for
    longer than a lost report explains. `site` is DIRAC's name for the vm's site.
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
    """index job, key `panda/{pandaid}` or `dirac/{job id}`: a payload, in one form for both systems.

    `cloud` is `unknown` without a placement, and `elsewhere` for a DIRAC job that went on at another site. `final_at`
    is when it became final, by which windows select it; None before. `core_ms` is wall time times cores;
    `wasted_core_ms` is that of jobs that started and did not end well, `core_ms_with_cpu` that of jobs with a known CPU
    time. `doubt` names what is impossible (an end before the start, more CPU time than cores give); such CPU time is
    not in `cpu_ms`. `error` is `{component} {code}` of the first failing component, `error_message` its text without
    what varies, `error_raw` the source's whole text; `log_url` is where the job's log can be read. `runs` are a DIRAC
    job's finished runs that `wall_ms` counts (JSON; see `dirac_wall_time`), `history` is what became of rescheduled
    runs.

    Derived from the rest, so that every engine can add them up: `finished_count` and `failed_count` are 1 for a job
    with that outcome, else 0; the fields of `distributions.BUCKET_FIELDS` are the beginnings of its buckets. Documents
    of earlier versions lack them in the store.
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
        for name, value in buckets(self.wall_ms, self.max_pss_bytes, self.work_folder_bytes, self.efficiency):
            structs.force_setattr(self, name, value)

    @property
    def efficiency(self) -> float | None:
        """CPU time by core time, where it is known."""
        return self.cpu_ms / self.core_ms_with_cpu if self.core_ms_with_cpu else None


class Cursor(Document, frozen=True, kw_only=True):
    """index cursor, key the source's name, version ms of `stands_at`: the high-water mark of a source.

    Everything before it has been collected and stored. `error` is why the last query did not move it, or None.
    """

    stands_at: datetime
    asked_at: datetime
    error: str | None


class RenewedCredential(Document, frozen=True, kw_only=True):
    """index credential, key `{source}/{SHA-256 of the token file}`, version ms of `changed_at`: a token's successor.

    `sealed` is the newest pair of tokens, in base64, encrypted under the named wrapping key; None while the file's own
    is used. `begun_at` is when an exchange began whose result is not known yet; `refused_at` is when the source refused
    one.
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
    """index unreadable, key `{kind}/{source}/{digest of the key}`, version ms of `seen_at`: a skipped, unreadable item.

    `kind` is document (`source` is its index), object (its folder) or row (its source); `key_text` is its printable
    key.
    """

    kind: str
    source: str
    key_text: str
    reason: str
    seen_at: datetime


class Forgotten(Document, frozen=True, kw_only=True):
    """index forgotten, key an index's name, version ms of `before`: older documents of the index were removed."""

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
