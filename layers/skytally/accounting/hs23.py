"""HS23 scores: HS23 per core of a boot, the rule that gives it, and the quarantine of implausible benchmarks.

A boot's score is the first of these that is known:

1. the HS23 of its benchmark;
2. the site's calibration of its CPU model;
3. its benchmark kernel's wall score times the site's factor for that kernel: what the vm got, not what its core can do.

A score that a vm reports is compared with its peers: at least three scores of the same cloud, CPU model, number of
copies and flavor. With fewer peers the comparison drops the flavor, then the copies. A score further from the median
than the site's factor is in quarantine: it is shown, and the median counts until a person confirms it. A score outside
the site's bounds is in quarantine too, and is no peer; without peers no score counts for that boot. The calibration of
a CPU model needs no peers.
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
    """The rule that gives a boot's HS23 per core."""

    REPORTED = "reported"
    CPU_MODEL = "cpu_model"
    KERNEL = "kernel"
    CONFIRMED = "confirmed"
    MEDIAN = "median"
    OUT_OF_BOUNDS = "out_of_bounds"


QUARANTINE = {Rule.MEDIAN, Rule.OUT_OF_BOUNDS}


class Score(Struct, frozen=True, gc=False):
    """The HS23 per core that counts and the rule that gives it; None where it is not known."""

    hs23: float | None
    rule: Rule | None

    @property
    def quarantined(self) -> bool:
        """Whether the boot's own score does not count until a person confirms it."""
        return self.rule in QUARANTINE


UNSCORED = Score(None, None)


def scores(benchmarks: Iterable[BootBenchmark | None], site: Site) -> dict[str, Score]:
    """Return the scores of boots by boot_id, judged together; a boot without a benchmark has none."""
    scored_boots = [benchmark for benchmark in benchmarks if benchmark is not None]
    own_scores = {benchmark.boot_id: own_score(benchmark, site) for benchmark in scored_boots}
    peer_scores: dict[Kind, list[float]] = defaultdict(list)
    for benchmark in scored_boots:
        score = own_scores[benchmark.boot_id]
        if score.hs23 is not None and site.benchmarks.allows(score.hs23):
            for kind in _kinds(benchmark):
                peer_scores[kind].append(score.hs23)
    medians = {kind: median(values) for kind, values in peer_scores.items() if len(values) >= MEDIAN_OF}
    return {
        benchmark.boot_id: _judge(benchmark, own_scores[benchmark.boot_id], medians, site) for benchmark in scored_boots
    }


def _kinds(benchmark: BootBenchmark) -> list[Kind]:
    """Return a boot's peer groups, the closest first; without a CPU model there is only one."""
    cloud, flavor, model, copies = benchmark.cloud, benchmark.flavor, benchmark.cpu_model, benchmark.copies
    closest: Kind = (cloud, model, copies, flavor)
    return [closest] if model is None else [closest, (cloud, model, copies), (cloud, model)]


def _judge(benchmark: BootBenchmark, own: Score, medians: Mapping[Kind, float], site: Site) -> Score:
    if own.hs23 is None or own.rule is Rule.CPU_MODEL:
        return own
    peer_median = next((medians[kind] for kind in _kinds(benchmark) if kind in medians), None)
    factor = site.benchmarks.quarantine_factor
    is_near_median = peer_median is None or peer_median / factor <= own.hs23 <= peer_median * factor
    if is_near_median and site.benchmarks.allows(own.hs23):
        return own
    if benchmark.boot_id in site.benchmarks.confirmed_boots:
        return Score(own.hs23, Rule.CONFIRMED)
    return Score(None, Rule.OUT_OF_BOUNDS) if peer_median is None else Score(peer_median, Rule.MEDIAN)


def own_score(benchmark: BootBenchmark, site: Site) -> Score:
    """Return the score of a boot's own benchmark; UNSCORED where neither it nor the site gives HS23."""
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
