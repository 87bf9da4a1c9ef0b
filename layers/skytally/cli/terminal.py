"""The output of commands. Foreign text is plain: no markup, emoji code, escape or direction mark is interpreted."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skytally.core.plain_text import printable
from skytally.core.rounding import CURRENCIES, money

AS_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
# A column of words is not made narrower than this to let a table fit.
NARROWEST = 24
# What rich draws beside the cells of a column: two blanks and a line; and one line more.
BORDER = 3


def say(sentence: object, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(printable(str(sentence)), err=err)


def say_json(value: object) -> None:
    """Print JSON for other programs."""
    click.echo(json.dumps(value, indent=2))


def text(words: str | Sequence[str], style: str = "") -> Text:
    """Return a cell of a table: words, or several lines of them."""
    return Text("\n".join(map(printable, [words] if isinstance(words, str) else words)), style)


def show_rows(rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Print rows of numbers and names as people write them.

    An amount has its currency's decimals, and HS23 hours that are not complete are a lower bound (`≥`).
    """
    names = [name for name in rows[0] if name != "hs23_complete"]
    columns = [name.replace("_", " ") for name in names]
    right = [column for column, name in zip(columns, names, strict=True) if not isinstance(rows[0][name], str)]
    show(columns, [[_word(name, row) for name in names] for row in rows], right=right, title=title)


def _word(name: str, row: dict[str, Any]) -> str:
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if name in CURRENCIES:
        return f"{money(value, row.get(CURRENCIES[name])):,}"
    bound = "≥ " if name == "hs23_hours" and row["hs23_complete"] is False else ""
    return f"{bound}{value:,.3f}"


def show(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Print a table of words and cells. Where it does not fit the terminal (a file: 80 columns), rows become records.

    The widest column may go on in the next line between words. No number is ever cut or folded.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in rows]
    widest = _widest(columns, cells, console.width)
    if widest is None:
        _show_records(console, columns, cells, title, caption)
        return
    table = Table(title=title and text(title), caption=caption and text(caption))
    for number, column in enumerate(columns):
        table.add_column(
            text(column), justify="right" if column in right else "left", no_wrap=number != widest, overflow="fold"
        )
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _widest(columns: Sequence[str], cells: Sequence[Sequence[Text]], width: int) -> int | None:
    """Return the column that may be narrowed, or None if the table does not fit even then."""
    parts = [[column, *(row[number].plain for row in cells)] for number, column in enumerate(columns)]
    widths = [max(cell_len(line) for part in column for line in part.split("\n")) for column in parts]
    widest = max(range(len(widths)), key=lambda number: widths[number])
    longest_word = max((cell_len(word) for part in parts[widest] for word in part.split()), default=0)
    others = sum(widths) - widths[widest] + BORDER * len(columns) + 1
    return widest if others + min(widths[widest], max(longest_word, NARROWEST)) <= width else None


def _show_records(
    console: Console, columns: Sequence[str], cells: Sequence[Sequence[Text]], title: str | None, caption: str | None
) -> None:
    """Print rows as lines of names and values, with an empty line between two rows."""
    names = [text(f"{column}:  ") for column in columns]
    indent = max(name.cell_len for name in names)
    lines = [text(title)] if title else []
    for row in cells:
        for name, cell in zip(names, row, strict=True):
            first, *more = cell.wrap(console, max(1, console.width - indent), overflow="fold") or [Text()]
            lines += [
                Text.assemble(name, " " * (indent - name.cell_len), first),
                *(Text(" " * indent) + line for line in more),
            ]
        lines.append(Text())
    for line in [*lines, text(caption)] if caption else lines:
        line.rstrip()
        console.print(line, soft_wrap=True)
