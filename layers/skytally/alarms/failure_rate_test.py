"""Comparison: whether one cloud or vm fails more of its jobs than
the others do with the like work, by more than chance explains.

What is compared. Jobs of one task are compared with the same task's jobs elsewhere, so a bad task that runs everywhere
is nobody's fault. A task that runs (almost) nowhere else cannot tell whether it or the place is bad: it counts as a
single job, whatever its size, among all tasks of its kind, since all its failures may have one cause. Jobs that name no
task are compared within their kind.

The test. Within a stratum the total of failures is held fixed; a place's share of them is then hypergeometric, here
with odds that are `USUAL_ODDS` of the others', because healthy clouds differ and nobody is woken for that. The strata
are independent, so for each tilt t the chance of what was seen is at most exp(-(t·x - K(t))), K their common cumulant
(Chernoff; H. Chernoff, Ann. Math. Stat. 23, 1952). That exponent is the evidence, in nats. It is exact for few jobs,
and bounded work for many.

Jobs fail in clumps. What clumps of one task at one place add to the variance is measured on the other places as the
correlation within a cell (method of moments), with a prior of a few per cent, and a stratum's part of the exponent is
divided by 1 + (n - 1)·correlation.

The level. Collectors bring what is new four times an hour at most, and a look without new jobs is the same look:
fifteen clouds over thirty days and two windows are 86 400 looks. At `LEVEL`, the logarithm of that, the chances of all
of them add up to one false alarm a month, were every bound tight; it is not, and the reserve is for what the model does
not know. The tests try it on clouds that differ, with clumps, bad tasks, quiet nights and storage outages.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from math import exp, lgamma, log

from msgspec import Struct

USUAL_ODDS = 1.5
LOOKS_A_MONTH = 15 * 4 * 24 * 30 * 2
LEVEL, STAYS = log(LOOKS_A_MONTH), 3.0
TILTS = tuple(n / 4 for n in range(1, 21))
# So many jobs elsewhere say how a task fares, be they as few as they may beside those here.
ENOUGH_ELSEWHERE = 50
PRIOR_CORRELATION, PRIOR_WEIGHT = 0.03, 20.0


class Cell(Struct, frozen=True):
    """The ended jobs of one task, or without a task of one kind, at one place; and how many of them failed."""

    place: str
    kind: str
    task: str | None
    jobs: int
    failed: int


class Stratum(Struct, frozen=True):
    """Like jobs here and elsewhere, how many of each failed (halves may), and how many jobs count as one."""

    jobs: int
    failed: float
    other_jobs: int
    other_failed: float
    clump: float = 1.0

    @property
    def expected(self) -> float:
        """Return how many would fail here as often as elsewhere."""
        return self.jobs * self.other_failed / self.other_jobs


class Evidence(Struct, frozen=True):
    """A place's jobs: how many there are, failed and would have failed elsewhere;
    and how sure that is no chance, in nats.
    """

    jobs: int
    failed: int
    expected: float
    nats: float


class Comparison:
    """The ended jobs of some time, by place."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._cells = list(cells)
        self._by_place = _grouped(self._cells, "place")
        self._by_task, self._by_kind = _grouped(self._cells, "task"), _grouped(self._cells, "kind")

    @property
    def places(self) -> list[str]:
        """Name the places."""
        return sorted(self._by_place)

    def outliers(self, level: float = LEVEL) -> dict[str, Evidence]:
        """Find the places that are worse than the rest, the worst first;
        each that is found is no measure for the others any more.
        """
        found: dict[str, Evidence] = {}
        while len(found) < len(self._by_place):
            rest = {place: self.evidence(place, found) for place in self._by_place if place not in found}
            place, worst = max(rest.items(), key=lambda item: item[1].nats)
            if worst.nats < level:
                break
            found[place] = worst
        return found

    def evidence(self, place: str, without: Collection[str] = ()) -> Evidence:
        """Compare a place with all others but some."""
        own = self._by_place.get(place, [])
        strata = list(self._strata(own, {place, *without}))
        jobs, failed = _jobs(own), _failed(own)
        share = sum(stratum.expected for stratum in strata) / max(1, sum(stratum.jobs for stratum in strata))
        return Evidence(jobs, failed, share * jobs, _nats(strata))

    def _strata(self, own: list[Cell], without: set[str]) -> Iterator[Stratum]:
        """Put like to like: a task that runs elsewhere too by itself, and what is left by kind."""
        shared, alone = [], defaultdict[tuple[str, bool], list[Cell]](list)
        for cell in own:
            group = [other for other in self._by_task.get(cell.task or "", ()) if other.place not in without]
            if cell.task is not None and _jobs(group) >= min(cell.jobs, ENOUGH_ELSEWHERE):
                shared.append((cell, group))
            else:
                alone[cell.kind, cell.task is None].append(cell)
        correlation = _correlation([group for _, group in shared])
        for cell, group in shared:
            yield _stratum([cell], group, correlation)
        for (kind, has_no_task), cells in alone.items():
            yield from self._left(kind, cells, without, has_no_task=has_no_task)

    def _left(self, kind: str, own: list[Cell], without: set[str], *, has_no_task: bool) -> Iterator[Stratum]:
        """Compare what no task tells apart with its kind elsewhere,
        or with all work where its kind runs nowhere else.
        """
        for pool in (self._by_kind[kind], self._cells):
            others = [cell for cell in pool if cell.place not in without and (cell.task is None) == has_no_task]
            if others:
                merged = _merged(others)
                yield _stratum(own, merged, _correlation([merged])) if has_no_task else _by_tasks(own, others)
                return


def faulty(hour: Comparison, longer: Comparison, known: Collection[str]) -> dict[str, Evidence]:
    """Find the places that break jobs now: by the last hour;
    or by a longer time, if the last hour agrees; or still, if it was known.

    What is known stays on far less than it took to find it, so that an alarm does not flap.
    """
    found = hour.outliers()
    suspected = {*longer.outliers(), *known} - found.keys()
    now = {place: hour.evidence(place, found) for place in sorted(suspected)}
    return found | {place: evidence for place, evidence in now.items() if evidence.nats >= STAYS}


def _grouped(cells: Iterable[Cell], field: str) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        name = getattr(cell, field)
        if name is not None:
            groups[name].append(cell)
    return dict(groups)


def _merged(cells: Iterable[Cell]) -> list[Cell]:
    """Bring all of a place together."""
    places: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for cell in cells:
        jobs, failed = places[cell.place]
        places[cell.place] = jobs + cell.jobs, failed + cell.failed
    return [Cell(place, "", None, jobs, failed) for place, (jobs, failed) in places.items()]


def _jobs(cells: Iterable[Cell]) -> int:
    return sum(cell.jobs for cell in cells)


def _failed(cells: Iterable[Cell]) -> int:
    return sum(cell.failed for cell in cells)


def _stratum(own: list[Cell], others: list[Cell], correlation: float) -> Stratum:
    jobs = _jobs(own)
    return Stratum(jobs, _failed(own), _jobs(others), _failed(others), 1 + (jobs - 1) * correlation)


def _by_tasks(own: list[Cell], others: list[Cell]) -> Stratum:
    """Count each task at a place as one job that failed as far as the task's jobs did."""
    failed, other_failed = (sum(cell.failed / cell.jobs for cell in cells) for cells in (own, others))
    return Stratum(len(own), failed, len(others), other_failed)


def _correlation(groups: Iterable[list[Cell]]) -> float:
    """Measure how much likelier a job fails where another of its cell did,
    from cells that should be alike but for chance.
    """
    excess, scale = PRIOR_WEIGHT * PRIOR_CORRELATION, PRIOR_WEIGHT
    for cells in groups:
        jobs, failed = _jobs(cells), _failed(cells)
        share = failed / jobs
        for cell in cells if 0 < failed < jobs else ():
            usual = cell.jobs * share * (1 - share) * (jobs - cell.jobs) / (jobs - 1)
            excess += (cell.failed - cell.jobs * share) ** 2 - usual
            scale += usual * (cell.jobs - 1)
    return min(1.0, max(0.0, excess / scale))


def _nats(strata: list[Stratum]) -> float:
    """Return the exponent of the bound on chance; zero where a place is no worse than elsewhere."""
    if sum((stratum.failed - stratum.expected) / stratum.clump for stratum in strata) <= 0:
        return 0.0
    laws, most = [(stratum, _law(stratum)) for stratum in strata], 0.0
    for tilt in TILTS:
        nats = sum((tilt * stratum.failed - _cumulant(law, tilt)) / stratum.clump for stratum, law in laws)
        if nats <= most:  # concave: past its top it only falls
            break
        most = nats
    return most


def _law(stratum: Stratum) -> list[tuple[int, float]]:
    """Return how many may fail here, each with the logarithm of its chance."""
    total = round(stratum.failed + stratum.other_failed)
    counts = range(max(0, total - stratum.other_jobs), min(total, stratum.jobs) + 1)
    weights = [
        _log_ways(stratum.jobs, n) + _log_ways(stratum.other_jobs, total - n) + n * log(USUAL_ODDS) for n in counts
    ]
    whole = _log_sum(weights)
    return [(n, weight - whole) for n, weight in zip(counts, weights, strict=True)]


def _cumulant(law: list[tuple[int, float]], tilt: float) -> float:
    return _log_sum([weight + tilt * n for n, weight in law])


def _log_ways(whole: int, part: int) -> float:
    return lgamma(whole + 1) - lgamma(part + 1) - lgamma(whole - part + 1)


def _log_sum(values: list[float]) -> float:
    most = max(values)
    return most + log(sum(exp(value - most) for value in values))
