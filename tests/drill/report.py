"""What a drill reports: its verdict, as tables and as JSON."""

import json

from rich.console import Console
from rich.table import Table

from tests.drill.gauges import ALLOWED_GROWTH, JUDGED_SECONDS, MIB, growth

UNITS = {"memory_bytes": (MIB, "memory, MiB"), "files": (1, "open files, no sockets"), "threads": (1, "threads")}
COLUMNS = ("first", "middle", "last", "most", "growth_in_last_half", "allowed_growth")


def judge(samples, ledger):
    """Return a row of each gauge of the server that was never ended; note a violation for each that grew too much."""
    rows = {}
    for name, values in samples.items():
        grown, allowed = growth(values), ALLOWED_GROWTH[name]
        taken = values[0], values[len(values) // 2], values[-1], max(values)
        rows[name] = dict(zip(COLUMNS, (*taken, None if grown is None else round(grown, 1), allowed), strict=True))
        if grown is not None and grown > allowed:
            unit, title = UNITS[name]
            ledger.violate("a server that runs on holds no more and more", f"{title}: {grown / unit:.1f} in a half")
    return rows


def document(seconds, gauges, ledger):
    """Return the report as JSON's values."""
    rows = judge(gauges.samples, ledger)
    return {
        "seconds": round(seconds),
        "is_good": not ledger.violations,
        "counts": dict(sorted(ledger.counts.items())),
        "never_ended": rows,
        "smallest_leak_bytes_a_request": gauges.smallest_leak_bytes(),
        "violations": {
            promise: {"count": count, "examples": ledger.examples[promise]}
            for promise, count in sorted(ledger.violations.items())
        },
    }


def write(path, report):
    """Write the report's JSON."""
    path.write_text(json.dumps(report, indent=1) + "\n")


def show(report):
    """Print the report."""
    console = Console(highlight=False, markup=False, width=110)
    table = Table("what happened", "count", title=f"a drill of {report['seconds'] / 60:.0f} minutes")
    for name, count in report["counts"].items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    table = Table("the server that is never ended", "begin", "middle", "end", "most", "growth in last half", "allowed")
    for name, row in report["never_ended"].items():
        unit, title = UNITS[name]
        table.add_row(title, *("-" if row[column] is None else f"{row[column] / unit:.1f}" for column in COLUMNS))
    console.print(table)
    leak_bytes = report["smallest_leak_bytes_a_request"]
    console.print(
        f"a drill of less than {JUDGED_SECONDS // 60} minutes cannot tell a leak from a cache that fills"
        if leak_bytes is None
        else f"a leak of {leak_bytes} bytes a request would break the bound"
    )
    for promise, violation in report["violations"].items():
        console.print(f"BROKEN {violation['count']} times: {promise}")
        for example in violation["examples"]:
            console.print(f"    {example}")
    console.print("every promise was kept" if report["is_good"] else "the drill has failed")
