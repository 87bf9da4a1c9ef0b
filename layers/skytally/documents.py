"""The documents that are kept: one class an index, one field a column. All seconds are whole milliseconds, so that sums are exact."""

from datetime import datetime

from msgspec import Struct


class Document(Struct, frozen=True, kw_only=True):
    """Anything that a document store keeps."""


class Label(Document, frozen=True, kw_only=True):
    """index label, key `{vm}-{boot time}`: the boot that has this name; created once."""

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
    """index interval, key `{label}-{uptime ms at its start}`, version uptime ms at its end: the difference between two samples.

    Keyed by the uptime where it starts and not by a time of day, so that no clock step can make two intervals of one boot
    share a key, and a lost report comes again as a longer interval that replaces itself.
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
    """index anomaly, key `{label}-{YYYY-MM}`, version ms of the sample's time: a boot whose uptime went back while time went on.

    Its vm was restored from a memory snapshot, or copied while it ran. Nothing is counted twice; that it happened must be seen.
    """

    label: str
    vm: str
    cloud: str
    month: str
    at: datetime
    uptime_ms: int
    known_uptime_ms: int


class Alarm(Document, frozen=True, kw_only=True):
    """index alarm, key `{kind}:{subject}`, version ms of the round: one thing that a person must look at, and what people were told."""

    kind: str
    subject: str
    cloud: str | None
    message: str
    state: str
    told: str | None
    open: str
    raised_at: datetime
    seen_at: datetime
    resolved_at: datetime | None


class Turn(Document, frozen=True, kw_only=True):
    """index turn, key `{timer}-{turn number}`: who may run a timer function's next round; created once."""

    taken_at: datetime


class Round(Document, frozen=True, kw_only=True):
    """index round, key the timer function's name, version ms of its start: its newest round, and when one last went well."""

    name: str
    started_at: datetime
    finished_at: datetime | None
    succeeded_at: datetime | None
    error: str | None


INDICES: dict[str, type[Document]] = {
    "label": Label,
    "boot": Boot,
    "benchmark": BootBenchmark,
    "usage": Usage,
    "interval": Interval,
    "anomaly": Anomaly,
    "alarm": Alarm,
    "turn": Turn,
    "round": Round,
}
