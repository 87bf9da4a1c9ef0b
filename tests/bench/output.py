"""What a bench leaves: tables on the terminal, JSON under .bench/, Markdown where it is asked for."""

import argparse
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import figures

FOLDER = Path(__file__).resolve().parents[2] / ".bench"
console = Console(width=None if Console().is_terminal else 180)


def say(*lines: str) -> None:
    """Print lines that are not part of the result."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def machine() -> str:
    """Describe the machine and what else it does now."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every bench with results to keep understands."""
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown, to be pasted")


def show(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]], *, as_markdown: bool) -> None:
    """Print one table."""
    if as_markdown:
        print(f"{title}\n\n{figures.markdown(headers, rows)}", flush=True)
        return
    table = Table(title=title)
    for n, header in enumerate(headers):
        table.add_column(header, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def keep(name: str, result: Mapping[str, Any]) -> Path:
    """Write a result as JSON under .bench/, and return the file."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path
