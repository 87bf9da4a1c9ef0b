"""Boards as Kibana's saved objects, a line each: data views, Lens panels, dashboards; for Kibana 8.9 and later, and 9.

::

    index-pattern <prefix>-<index>              one data view an index, with its time unless it is shown whole
    lens          <prefix>-<board>-<panel>      refers to its data view
    dashboard     <prefix>-<board>              refers to its panels

An older Kibana refuses what is newer than itself and a newer one brings what is older up to date, so objects say the oldest versions that
have their form.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skytally.adapters.boards_kibana import lens
from skytally.board import ALL_TIME, BOARDS, COLUMNS, MOMENTS, Board, Panel, placed

Object = dict[str, Any]
VERSIONS = {"index-pattern": "8.0.0", "lens": "8.9.0", "dashboard": "8.9.0"}
CORE_VERSION = "8.8.0"
GRID_COLUMNS = 48


def ndjson(prefix: str, names: Mapping[str, str]) -> str:
    """Write all boards of a prefix, whose indices have these names in Elasticsearch; the same again is the same text."""
    used = sorted({panel.index for board in BOARDS for panel in board.panels})
    made = [_data_view(prefix, index, names[index]) for index in used]
    for board in BOARDS:
        made += [_panel(prefix, board, panel) for panel in board.panels]
        made.append(_dashboard(prefix, board))
    return "".join(json.dumps(one, sort_keys=True, ensure_ascii=False) + "\n" for one in made)


def _saved(kind: str, name: str, attributes: Object, references: Sequence[Object] = ()) -> Object:
    versions = {"coreMigrationVersion": CORE_VERSION, "typeMigrationVersion": VERSIONS[kind]}
    return {"type": kind, "id": name, "attributes": attributes, "references": list(references), **versions}


def _refer(kind: str, target: str, name: str) -> Object:
    return {"type": kind, "id": target, "name": name}


def _data_view(prefix: str, index: str, name: str) -> Object:
    time = {} if index in ALL_TIME else {"timeFieldName": MOMENTS[index]}
    return _saved("index-pattern", f"{prefix}-{index}", {"title": name, "name": f"{prefix}: {index}", **time})


def _panel(prefix: str, board: Board, panel: Panel) -> Object:
    view = _refer("index-pattern", f"{prefix}-{panel.index}", f"indexpattern-datasource-layer-{lens.LAYER}")
    return _saved("lens", f"{prefix}-{board.name}-{panel.name}", lens.attributes(panel), [view])


def _dashboard(prefix: str, board: Board) -> Object:
    panels, references = [], []
    for panel, x, y in placed(board):
        refers = {"panelIndex": panel.name, "panelRefName": f"panel_{panel.name}"}
        panels.append({"type": "lens", "gridData": _grid(panel, x, y), "embeddableConfig": {}, **refers})
        references.append(_refer("lens", f"{prefix}-{board.name}-{panel.name}", f"{panel.name}:panel_{panel.name}"))
    options = {"hidePanelTitles": False, "syncColors": True, "syncCursor": True, "useMargins": True}
    attributes = {
        "title": f"{prefix}: {board.title}",
        "description": "",
        "panelsJSON": json.dumps(panels, sort_keys=True),
        "optionsJSON": json.dumps(options, sort_keys=True),
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps({"filter": [], "query": {"language": "kuery", "query": ""}})},
        "timeRestore": True,
        "timeFrom": f"now-{board.window}",
        "timeTo": "now",
        "version": 1,
    }
    return _saved("dashboard", f"{prefix}-{board.name}", attributes, references)


def _grid(panel: Panel, x: int, y: int) -> Object:
    """Place a panel on Kibana's finer grid; its lines are two thirds as high."""
    fine = GRID_COLUMNS // COLUMNS
    top, bottom = y * 3 // 2, (y + panel.height) * 3 // 2
    return {"x": x * fine, "y": top, "w": panel.width * fine, "h": bottom - top, "i": panel.name}
