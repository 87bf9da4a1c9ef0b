"""Credit: what a core hour of a boot is worth in HS23, and whether its benchmark can be believed.

A boot's score is the HS23 that its benchmark says; else the site's calibration of its CPU model; else its kernel's wall score times the
site's factor for that kernel (what the vm got, not what its core could do); else not known. Of scores of one cloud and flavor, one that is
further from the median than the site's factor is in quarantine: shown, and the median counts until a person confirms it.
"""

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from msgspec import Struct

from skytally.cloud import Site
from skytally.documents import BootBenchmark

MEDIAN_OF = 3


class Score(Struct, frozen=True):
    """HS23 per core that counts, None where it is not known; and whether the boot's own was put in quarantine."""

    hs23: float | None
    quarantined: bool


def scores(benchmarks: Iterable[BootBenchmark | None], site: Site) -> dict[str, Score]:
    """Judge the benchmarks of some boots together; answers by boot_id, and nothing for a boot without one."""
    known = [benchmark for benchmark in benchmarks if benchmark is not None]
    own = {benchmark.boot_id: hs23(benchmark, site) for benchmark in known}
    flavors: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for benchmark in known:
        value = own[benchmark.boot_id]
        if value is not None:
            flavors[benchmark.cloud, benchmark.flavor].append(value)
    medians = {flavor: median(values) for flavor, values in flavors.items() if len(values) >= MEDIAN_OF}
    return {b.boot_id: _judge(own[b.boot_id], medians.get((b.cloud, b.flavor)), b.boot_id, site) for b in known}


def _judge(own: float | None, usual: float | None, boot_id: str, site: Site) -> Score:
    factor = site.benchmarks.quarantine_factor
    if own is None or usual is None or usual / factor <= own <= usual * factor or boot_id in site.benchmarks.confirmed_boots:
        return Score(own, quarantined=False)
    return Score(usual, quarantined=True)


def hs23(benchmark: BootBenchmark, site: Site) -> float | None:
    """Translate a boot's own benchmark; None where neither it nor the site says how."""
    if benchmark.score_hs23 is not None:
        return benchmark.score_hs23
    if benchmark.cpu_model in site.calibration.cpu_models:
        return site.calibration.cpu_models[benchmark.cpu_model]
    factor, score = site.calibration.kernels.get(benchmark.kernel), benchmark.score_wall or benchmark.score_cpu
    return factor * score if factor is not None and score is not None else None
