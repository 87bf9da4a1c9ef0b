"""Restatement: the changes of a closed month since its newest revision, as numbers and in words."""

from collections.abc import Iterator
from typing import Any

from skytally.accounting.frozen import Frozen
from skytally.accounting.statement_rows import LiveCloud, ratio
from skytally.core.rounding import DECIMALS

# These come from intervals and anomalies, which retention removes: their absence is no change.
NO_NEWS = frozenset({"coverage", "anomalies", "last_sampled_at", "silent_vms"})
SUMS = ("wall_hours", "core_hours", "cpu_hours", "hs23_hours", "energy_kwh", "co2_kg", "cost")
SMALLEST_PERCENT = 0.001
# Sums that may change while no vm's numbers do. Wall and CPU time change only with a vm's, and those vms are counted.
NAMED = {
    "core_hours": "core hours",
    "hs23_hours": "HS23 hours",
    "cost": "cost",
    "energy_kwh": "energy",
    "co2_kg": "CO2",
}


def changes_to(frozen: Frozen, live: LiveCloud | None) -> dict[str, Any] | None:
    """Return the differences between a revision and the live month, and the number of vms they concern; None for none.

    Rows are compared by the numbers that both have, and by currency: a column of a later version, or a text, changes
    nothing. A cloud without live data changes nothing. Amounts in two currencies have no difference.
    """
    if live is None:
        return None
    earlier = {boot["document"]: boot for boot in frozen.boots}
    before, after = frozen.totals, live.totals
    vms = {boot["vm"] for boot in live.boots if _is_news(earlier.get(boot["document"]), boot)}
    no_news = NO_NEWS | ({"cost"} if _has_same_price(frozen, live) else set())
    if not vms and len(earlier) == len(live.boots) and not _is_news(before, after, no_news):
        return None
    sums = _differences(before, after)
    return {
        **sums,
        "core_hours_share": ratio(sums["core_hours"] or 0.0, before["core_hours"]),
        "vm_count": len(vms),
        "before": {name: before[name] for name in (*SUMS, "currency") if before[name] != after[name]},
    }


def _has_same_price(frozen: Frozen, live: LiveCloud) -> bool:
    """Return whether core hours and price are the same: then only a new rounding rule can have changed the cost."""
    before, after = ((rates.price_per_core_hour, rates.currency) for rates in (frozen.rates, live.rates))
    return before == after and frozen.totals["core_hours"] == live.totals["core_hours"]


def _is_news(before: dict[str, Any] | None, after: dict[str, Any], no_news: frozenset[str] = NO_NEWS) -> bool:
    """Return whether a row is new, or has another number or currency than before."""
    if before is None:
        return True
    changed = (name for name in before.keys() & after.keys() - no_news if before[name] != after[name])
    return any(name == "currency" or not isinstance(after[name], str) for name in changed)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float | None]:
    comparable = [name for name in SUMS if name != "cost" or before["currency"] == after["currency"]]
    return {name: _difference(before[name], after[name]) if name in comparable else None for name in SUMS}


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(after - before, DECIMALS)


def sentence(frozen: Frozen) -> str | None:
    """Return a revision's changes in words, such as `core hours +0.4 %, 12 vms`; None for the first revision."""
    return None if frozen.changes is None else words(frozen.changes, frozen.totals)


def words(changes: dict[str, Any], after: dict[str, Any]) -> str:
    """Return the changes to `after` in words: each changed sum, the currency, and the number of vms."""
    count = changes["vm_count"]
    return ", ".join([*_sums_in_words(changes, after), f"{count} vm{'' if count == 1 else 's'}"])


def _sums_in_words(changes: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    before = changes.get("before")
    if before is None:
        before = {name: after[name] - changes[name] for name in SUMS if changes[name]}
    for name in (name for name in NAMED if name in before):
        # Two currencies have no difference.
        if name != "cost" or "currency" not in before or None in {before[name], after[name]}:
            yield f"{NAMED[name]} {_change_in_words(before[name], after[name])}"
    if "currency" in before:
        yield f"currency changed from {before['currency'] or 'unknown'} to {after['currency'] or 'unknown'}"


def _change_in_words(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "not known before" if before is None else "no longer known"
    if not before:
        return f"{after:+,.2f}"
    percent = (after - before) / abs(before) * 100
    if abs(percent) < SMALLEST_PERCENT:
        return f"{'up' if percent > 0 else 'down'} by less than {SMALLEST_PERCENT} %"
    return f"{percent:+,.{1 if abs(percent) >= 0.05 else 3}f} %"
