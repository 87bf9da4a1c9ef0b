"""How large a site must be: a model of what vms cost, with the costs that `bench_scale` measured.

A model of means: what a storm of boots takes, `bench_storm` measures. docs/maintain.md has it for people.
"""

from dataclasses import dataclass, replace

HOURS_A_MONTH = 720


@dataclass(frozen=True)
class Costs:
    """What a store's documents and reports cost. CPU times are of the functions and the store, on our machine."""

    interval_bytes: float
    boot_bytes: float
    single_cpu_seconds: float
    batched_cpu_seconds: float
    base_mib: float
    boot_kib: float

    def stored_bytes(self, boots: float, intervals: float) -> float:
        """Return what documents take: one of each interval, some of each boot and month."""
        return boots * self.boot_bytes + intervals * self.interval_bytes

    def cpu_seconds(self, singles: float, batched: float) -> float:
        """Return the CPU time of samples, each in a report of its own or among a thousand."""
        return singles * self.single_cpu_seconds + batched * self.batched_cpu_seconds

    def memory_mib(self, boots: float) -> float:
        """Return the most memory of a functions' process that has heard of so many boots; the store's is its own."""
        return self.base_mib + boots * self.boot_kib / 1_024


# By `bench_scale` on two cores, which also made the load.
COSTS = {
    "sqlite": Costs(
        interval_bytes=330,
        boot_bytes=800,
        single_cpu_seconds=1_650e-6,
        batched_cpu_seconds=200e-6,
        base_mib=70,
        boot_kib=3.0,
    ),
    "elasticsearch": Costs(
        interval_bytes=130,
        boot_bytes=860,
        single_cpu_seconds=4_900e-6,
        batched_cpu_seconds=370e-6,
        base_mib=75,
        boot_kib=3.0,
    ),
}


@dataclass(frozen=True)
class Needs:
    """What a fleet needs: storage a month, cores busy on the mean, memory of a process."""

    bytes_a_month: float
    cores: float
    memory_mib: float


def needs(vms: int, reports_an_hour: float, costs: Costs, boots_a_month: float = 1.0) -> Needs:
    """Return what so many vms need, each of which reports singly, so often, and boots so often."""
    reports = vms * reports_an_hour
    return Needs(
        costs.stored_bytes(vms * boots_a_month, reports * HOURS_A_MONTH),
        costs.cpu_seconds(reports / 3_600, 0),
        costs.memory_mib(vms * boots_a_month),
    )


def cost_row(store: str, costs: Costs) -> tuple[str, ...]:
    """Return a store's costs as docs/maintain.md has them."""
    return (
        store,
        f"{costs.interval_bytes:.0f} B",
        f"{costs.boot_bytes:,.0f} B",
        f"{costs.single_cpu_seconds * 1e6:,.0f} µs",
        f"{costs.batched_cpu_seconds * 1e6:,.0f} µs",
        f"{costs.base_mib:.0f} MiB",
        f"{costs.boot_kib:.1f} KiB",
    )


def fitted(small: tuple[int, Costs], large: tuple[int, Costs]) -> Costs:
    """Return the costs by two points, each given as its boots and the costs by it alone.

    All is the larger point's, but for memory, which is the line through both: points between them test the model.
    """
    (few, by_few), (many, by_many) = small, large
    boot_kib = (by_many.base_mib - by_few.base_mib) * 1_024 / (many - few) if many > few else 0.0
    return replace(by_many, base_mib=by_many.base_mib - many * boot_kib / 1_024, boot_kib=boot_kib)


def error_percent(expected: float, measured: float) -> float:
    """Return how far the model is off, as a share of what was measured; positive where it expects too much."""
    return 100 * (expected - measured) / measured
