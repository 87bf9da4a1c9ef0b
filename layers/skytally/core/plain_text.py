"""Plain text: foreign names and texts, written so that people see every character.

Control characters move a terminal's cursor or end a line; direction marks let `exe.txt` read as `txt.exe`.
"""

import re

MOST_LETTERS = 2_000
# C0, C1, marks of direction, separators of lines, embeddings, overrides and isolates, the byte order mark, and halves
# of pairs.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str, keep: str = "") -> str:
    """Return a text with control characters and direction marks as escapes such as `\\u202e`, except those to keep."""
    return _HIDDEN.sub(lambda match: match[0] if match[0] in keep else f"\\u{ord(match[0]):04x}", text)


def printable(text: str, most: int = MOST_LETTERS) -> str:
    """Return a text with `?` in place of unprintable characters, cut to a length."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text[:most])
    return f"{plain}…" if len(text) > most else plain
