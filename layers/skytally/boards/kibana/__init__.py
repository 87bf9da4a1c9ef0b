"""Boards as Kibana's saved objects, a line each: data views, Lens panels, dashboards; for Kibana 8.9 and later, and 9.

An older Kibana refuses what is newer than itself and a newer one brings what is older up to date, so objects say the
oldest versions that have their form. A panel refers to its data view, a dashboard to its panels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skytally.boards import saved_objects
from skytally.boards.board import BOARDS, Board, Panel
from skytally.boards.kibana import lens
from skytally.boards.saved_objects import reference

Object = dict[str, Any]
VERSIONS = {"index-pattern": "8.0.0", "lens": "8.9.0", "dashboard": "8.9.0"}
CORE_VERSION = "8.8.0"
OPTIONS = {"hidePanelTitles": False, "syncColors": True, "syncCursor": True, "useMargins": True}


def ndjson(prefix: str, names: Mapping[str, str]) -> str:
    """Write all boards of a prefix, whose indices have these names in Elasticsearch."""
    return saved_objects.ndjson(_objects(prefix, names))


def _objects(prefix: str, names: Mapping[str, str]) -> Iterator[Object]:
    for index, attributes in saved_objects.index_patterns(names):
        yield _saved("index-pattern", f"{prefix}-{index}", attributes | {"name": f"{prefix}: {index}"})
    for board in BOARDS:
        yield from (_panel(prefix, board, panel) for panel in board.panels)
        yield _dashboard(prefix, board)


def _saved(kind: str, name: str, attributes: Object, references: Sequence[Object] = ()) -> Object:
    versions = {"coreMigrationVersion": CORE_VERSION, "typeMigrationVersion": VERSIONS[kind]}
    return {"type": kind, "id": name, "attributes": attributes, "references": list(references), **versions}


def _panel(prefix: str, board: Board, panel: Panel) -> Object:
    view = reference("index-pattern", f"{prefix}-{panel.index}", f"indexpattern-datasource-layer-{lens.LAYER}")
    return _saved("lens", f"{prefix}-{board.name}-{panel.name}", lens.attributes(panel), [view])


def _dashboard(prefix: str, board: Board) -> Object:
    panels, references = [], []
    for panel, grid in saved_objects.on_grid(board):
        refers = {"panelIndex": panel.name, "panelRefName": f"panel_{panel.name}"}
        panels.append({"type": "lens", "gridData": grid, "embeddableConfig": {}, **refers})
        references.append(reference("lens", f"{prefix}-{board.name}-{panel.name}", f"{panel.name}:panel_{panel.name}"))
    attributes = saved_objects.dashboard(prefix, board, panels, OPTIONS)
    return _saved("dashboard", f"{prefix}-{board.name}", attributes, references)
