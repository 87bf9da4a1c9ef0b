"""Credit: what a core hour of a boot is worth in HS23, by which rule, and whether its benchmark can be believed.

A boot's score is the HS23 that its benchmark says; else the site's calibration of its CPU model; else its kernel's wall
score times the site's factor for that kernel (what the vm got, not what its core could do); else not known.

A score that a vm told is believed beside its peers: at least three scores of one cloud, of the same CPU model, number
of copies and flavor, or without so many, of the same CPU model and copies, or of the same CPU model. One that is
further from their median than the site's factor is in quarantine: shown, and the median counts until a person confirms
it. One outside the site's bounds is in quarantine too, and is nobody's peer; without peers nothing stands in for it.
What the site itself says of a CPU model needs no peers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from statistics import median

from msgspec import Struct

from skytally.core.documents import BootBenchmark
from skytally.core.site_data import Calibration, Site

MEDIAN_OF = 3
Kind = tuple[object, ...]


class Rule(StrEnum):
    """What decided how much a core counts."""

    REPORTED = "reported"
    CPU_MODEL = "cpu_model"
    KERNEL = "kernel"
    CONFIRMED = "confirmed"
    MEDIAN = "median"
    OUT_OF_BOUNDS = "out_of_bounds"


QUARANTINE = {Rule.MEDIAN, Rule.OUT_OF_BOUNDS}


class Score(Struct, frozen=True):
    """HS23 per core that counts and the rule that says so; None where neither is known."""

    hs23: float | None
    rule: Rule | None

    @property
    def quarantined(self) -> bool:
        """Whether the boot's own score does not count until a person confirms it."""
        return self.rule in QUARANTINE


UNSCORED = Score(None, None)


def scores(benchmarks: Iterable[BootBenchmark | None], site: Site) -> dict[str, Score]:
    """Judge the benchmarks of some boots together; return by boot_id, and nothing for a boot without one."""
    known = [benchmark for benchmark in benchmarks if benchmark is not None]
    own = {benchmark.boot_id: own_score(benchmark, site) for benchmark in known}
    told: dict[Kind, list[float]] = defaultdict(list)
    for benchmark in known:
        score = own[benchmark.boot_id]
        if score.hs23 is not None and site.benchmarks.allows(score.hs23):
            for kind in _kinds(benchmark):
                told[kind].append(score.hs23)
    medians = {kind: median(values) for kind, values in told.items() if len(values) >= MEDIAN_OF}
    return {benchmark.boot_id: _judge(benchmark, own[benchmark.boot_id], medians, site) for benchmark in known}


def _kinds(benchmark: BootBenchmark) -> list[Kind]:
    """Return what a boot is compared by, the closest first; without a known CPU model there is only its flavor."""
    cloud, flavor, model, copies = benchmark.cloud, benchmark.flavor, benchmark.cpu_model, benchmark.copies
    closest: Kind = (cloud, model, copies, flavor)
    return [closest] if model is None else [closest, (cloud, model, copies), (cloud, model)]


def _judge(benchmark: BootBenchmark, own: Score, medians: Mapping[Kind, float], site: Site) -> Score:
    if own.hs23 is None or own.rule is Rule.CPU_MODEL:
        return own
    usual = next((medians[kind] for kind in _kinds(benchmark) if kind in medians), None)
    factor = site.benchmarks.quarantine_factor
    is_usual = usual is None or usual / factor <= own.hs23 <= usual * factor
    if is_usual and site.benchmarks.allows(own.hs23):
        return own
    if benchmark.boot_id in site.benchmarks.confirmed_boots:
        return Score(own.hs23, Rule.CONFIRMED)
    return Score(None, Rule.OUT_OF_BOUNDS) if usual is None else Score(usual, Rule.MEDIAN)


def own_score(benchmark: BootBenchmark, site: Site) -> Score:
    """Translate a boot's own benchmark; not known where neither it nor the site says how."""
    if benchmark.score_hs23 is not None:
        return Score(benchmark.score_hs23, Rule.REPORTED)
    if benchmark.cpu_model in site.calibration.cpu_models:
        return Score(site.calibration.cpu_models[benchmark.cpu_model], Rule.CPU_MODEL)
    factor, score = site.calibration.kernels.get(benchmark.kernel), benchmark.score_wall or benchmark.score_cpu
    return UNSCORED if factor is None or score is None else Score(factor * score, Rule.KERNEL)


def calibration_used(benchmarks: Iterable[BootBenchmark | None], site: Site) -> Calibration:
    """Return the part of the site's calibration that translates some benchmarks."""
    translated = [(benchmark, own_score(benchmark, site).rule) for benchmark in benchmarks if benchmark is not None]
    kernels = {benchmark.kernel for benchmark, rule in translated if rule is Rule.KERNEL}
    models = {benchmark.cpu_model for benchmark, rule in translated if rule is Rule.CPU_MODEL}
    return Calibration(
        kernels={name: factor for name, factor in site.calibration.kernels.items() if name in kernels},
        cpu_models={name: score for name, score in site.calibration.cpu_models.items() if name in models},
    )
