"""What the commands print. Words of others are text: no markup, emoji code, escape or bidirectional mark acts."""

from collections.abc import Collection, Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skytally.plain_text import printable


def say(sentence: object, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(printable(str(sentence)), err=err)


def text(words: str | Sequence[str], style: str = "") -> Text:
    """Return a cell of a table: words, or several lines of them."""
    return Text("\n".join(map(printable, [words] if isinstance(words, str) else words)), style)


def show(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    title: str | None = None,
    caption: str | None = None,
    width: int | None = None,
) -> None:
    """Print a table of words and cells; what is too wide for its column goes on in the next line."""
    table = Table(title=title and text(title), caption=caption and text(caption))
    for column in columns:
        table.add_column(text(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)
