"""Saved objects: what the files for Kibana and for OpenSearch Dashboards, which was Kibana 7.10 once, have in common.

::

    index-pattern <prefix>-<index>              one an index, with its time unless it is shown whole
    lens or visualization <prefix>-<board>-<panel>
    dashboard     <prefix>-<board>              refers to its panels
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from skytally.boards.board import ALL_TIME, BOARDS, COLUMNS, MOMENTS, Board, Panel, placed

Object = dict[str, Any]
GRID_COLUMNS = 48
NO_QUERY = {"filter": [], "query": {"language": "kuery", "query": ""}}


def ndjson(objects: Iterable[Object]) -> str:
    """Write a file to import; the same objects make the same bytes."""
    return "".join(json.dumps(one, sort_keys=True, ensure_ascii=False) + "\n" for one in objects)


def reference(kind: str, target: str, name: str) -> Object:
    """Write a reference to another object, by which an attribute names it."""
    return {"type": kind, "id": target, "name": name}


def index_patterns(names: Mapping[str, str]) -> Iterator[tuple[str, Object]]:
    """Write the index of each panel once, with its attributes; `names` are those in the search engine."""
    for index in sorted({panel.index for board in BOARDS for panel in board.panels}):
        time = {} if index in ALL_TIME else {"timeFieldName": MOMENTS[index]}
        yield index, {"title": names[index], **time}


def dashboard(prefix: str, board: Board, panels: Sequence[Object], options: Object) -> Object:
    """Write the attributes of a board whose panels are placed."""
    return {
        "title": f"{prefix}: {board.title}",
        "description": "",
        "panelsJSON": json.dumps(panels, sort_keys=True),
        "optionsJSON": json.dumps(options, sort_keys=True),
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(NO_QUERY)},
        "timeRestore": True,
        "timeFrom": f"now-{board.window}",
        "timeTo": "now",
        "version": 1,
    }


def on_grid(board: Board) -> Iterator[tuple[Panel, Object]]:
    """Place each panel on the grid of 48 columns; its lines are two thirds as high as those of a board."""
    fine = GRID_COLUMNS // COLUMNS
    for panel, x, y in placed(board):
        top, bottom = y * 3 // 2, (y + panel.height) * 3 // 2
        yield panel, {"x": x * fine, "y": top, "w": panel.width * fine, "h": bottom - top, "i": panel.name}
