"""Boards as saved objects of OpenSearch Dashboards 2.19 and later, and 3: index patterns, visualizations, dashboards.

What is drawn along time and single numbers are TSVB's; bars and tables, which may have several dimensions and ratios,
are Vega's. Its server was not run for this: its sources were read, and comments name files under its src/plugins.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skytally.boards import saved_objects
from skytally.boards.board import BOARDS, Board, Panel
from skytally.boards.opensearch import tsvb, vega
from skytally.boards.saved_objects import reference

Object = dict[str, Any]
# The newest migration of each type: a newer version is refused, an older one is migrated (index_pattern_migrations.ts,
# visualization_migrations.ts and dashboard_migrations.ts in data, visualizations and dashboard, server/saved_objects).
VERSIONS = {"index-pattern": "7.6.0", "visualization": "7.10.0", "dashboard": "7.9.3"}
OPTIONS = {"hidePanelTitles": False, "useMargins": True}


def ndjson(prefix: str, names: Mapping[str, str]) -> str:
    """Write all boards of a prefix, whose indices have these names in OpenSearch."""
    return saved_objects.ndjson(_objects(prefix, names))


def _objects(prefix: str, names: Mapping[str, str]) -> Iterator[Object]:
    for index, attributes in saved_objects.index_patterns(names):
        # TSVB parses `fields` and fails without it; an empty list is filled when somebody opens the pattern first
        # (vis_type_timeseries/…/get_index_pattern.js, data/common/…/index_patterns.ts).
        yield _saved("index-pattern", f"{prefix}-{index}", attributes | {"fields": "[]"})
    for board in BOARDS:
        for panel in board.panels:
            yield _saved("visualization", f"{prefix}-{board.name}-{panel.name}", _attributes(panel, names[panel.index]))
        yield _dashboard(prefix, board)


def _saved(kind: str, name: str, attributes: Object, references: Sequence[Object] = ()) -> Object:
    version = {kind: VERSIONS[kind]}
    return {
        "type": kind,
        "id": name,
        "attributes": attributes,
        "references": list(references),
        "migrationVersion": version,
    }


def _attributes(panel: Panel, index: str) -> Object:
    draw = _along_time if panel.timed or panel.chart == "number" else _by_group
    kind, params, search = draw(panel, index)
    return {
        "title": panel.title,
        "description": panel.note,
        "visState": json.dumps({"title": panel.title, "type": kind, "params": params, "aggs": []}, sort_keys=True),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(search, sort_keys=True)},
        "version": 1,
    }


def _along_time(panel: Panel, index: str) -> tuple[str, Object, Object]:
    return "metrics", tsvb.params(panel, index), {}


def _by_group(panel: Panel, index: str) -> tuple[str, Object, Object]:
    # People edit the text.
    return "vega", {"spec": json.dumps(vega.spec(panel, index), indent=2, ensure_ascii=False)}, saved_objects.NO_QUERY


def _dashboard(prefix: str, board: Board) -> Object:
    panels, references = [], []
    for number, (panel, grid) in enumerate(saved_objects.on_grid(board)):
        name = f"panel_{number}"
        # A version below 7.3, as all its own are, would have panels migrated from Kibana 6's form
        # (dashboard/public/application/lib/migrate_app_state.ts).
        panels.append(
            {
                "gridData": grid,
                "panelIndex": panel.name,
                "panelRefName": name,
                "embeddableConfig": {},
                "version": VERSIONS["dashboard"],
            }
        )
        references.append(reference("visualization", f"{prefix}-{board.name}-{panel.name}", name))
    attributes = saved_objects.dashboard(prefix, board, panels, OPTIONS)
    return _saved("dashboard", f"{prefix}-{board.name}", attributes, references)
