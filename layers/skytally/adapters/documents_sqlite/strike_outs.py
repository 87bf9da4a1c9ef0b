"""Triggers on intervals: a written interval strikes out the kept days and hours that it touches.

They are triggers, so that no writer can forget it: other processes, earlier versions and people at a prompt write to
the same file. One trigger for each event costs a row half of what two cost.
"""

from collections.abc import Iterator, Mapping

from skytally.adapters.documents_sqlite import days, hours

# One trigger for days and one for hours, of an earlier version.
REPLACED = ("interval_inserted", "interval_updated", "interval_hour_inserted", "interval_hour_updated")
ROWS = {"insert": ("NEW",), "update": ("OLD", "NEW")}


def schema(made: Mapping[str, str]) -> Iterator[str]:
    """Return the statements that create the triggers, and remove those of earlier versions."""
    for event, rows in ROWS.items():
        body = " ".join(f"{days.struck_by(row)}; {hours.struck_by(row)};" for row in rows)
        name = f"interval_strikes_out_on_{event}"
        create = f"CREATE TRIGGER {name} AFTER {event.upper()} ON interval BEGIN {body} END"
        if made.get(name) != create:
            yield f"DROP TRIGGER IF EXISTS {name}"
            yield create
    yield from (f"DROP TRIGGER {name}" for name in REPLACED if name in made)
