"""Boards as files that Grafana reads when it starts, for its data source of a search engine; for Grafana 10 and later.

::

    datasources/<prefix>.yaml           one data source an index: Grafana ties a data source to one index and one time
    dashboards/<prefix>.yaml            where the dashboards lie
    dashboards/<prefix>/<board>.json    a dashboard
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import yaml
from msgspec import Struct

from skytally.boards.board import ALL_TIME, BOARDS, MOMENTS, Board, Panel, field_kind, placed
from skytally.boards.grafana.target import Target

Object = dict[str, Any]
SCHEMA_VERSION = 39
MAX_UID = 40
SHAPES = {"number": "stat", "series": "timeseries", "lines": "timeseries", "bars": "barchart", "table": "table"}
BOOLEANS = [{"type": "value", "options": {"0": {"text": "false"}, "1": {"text": "true"}}}]
UNITS = {"hours": ("none", 1), "share": ("percentunit", 1), "bytes": ("bytes", 1), "count": ("none", 0)}
STACKED_BARS = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
OPTIONS: dict[str, Object] = {
    "stat": {
        "reduceOptions": {"calcs": ["sum"], "fields": "", "values": False},
        "colorMode": "none",
        "graphMode": "area",
    },
    "timeseries": {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "barchart": {"legend": LEGEND, "orientation": "horizontal", "stacking": "normal"},
    "table": {"showHeader": True, "cellHeight": "sm"},
}


class Engine(Struct, frozen=True):
    """A search engine as Grafana knows it: its data source, which setting names an index, others, how a key is sent."""

    data_source: str
    index: str
    settings: Object
    scheme: str


# The plugin needs a version, and treats all of OpenSearch alike.
OPENSEARCH = {"flavor": "opensearch", "version": "2.19.0"}
ENGINES = {
    "elasticsearch": Engine("elasticsearch", "index", {}, "ApiKey"),
    "opensearch": Engine("grafana-opensearch-datasource", "database", OPENSEARCH, "Bearer"),
}


class Access(Struct, frozen=True):
    """Where Grafana finds the documents, and who it is: the user whose password a file holds, or whom its key names."""

    engine: Engine
    url: str
    key_file: str | None = None
    user: str | None = None


def files(prefix: str, names: Mapping[str, str], access: Access, folder: str) -> dict[str, str]:
    """Write all boards of a prefix, by their paths in Grafana's folder of provisioning; always the same text.

    `names` are those of the indices in the search engine. Grafana reads its credential from a file: none is written.
    """
    folder = _literal(folder)
    used = sorted({panel.index for board in BOARDS for panel in board.panels})
    sources = [_source(prefix, index, names[index], access) for index in used]
    options = {"path": f"{folder}/dashboards/{prefix}"}
    provider = {"name": prefix, "folder": prefix, "type": "file", "allowUiUpdates": False, "options": options}
    boards = {board.name: _json(_dashboard(prefix, board, access.engine)) for board in BOARDS}
    return {
        f"datasources/{prefix}.yaml": _yaml({"apiVersion": 1, "datasources": sources}),
        f"dashboards/{prefix}.yaml": _yaml({"apiVersion": 1, "providers": [provider]}),
        **{f"dashboards/{prefix}/{name}.json": text for name, text in boards.items()},
    }


def _literal(text: str) -> str:
    """Write a text so that Grafana reads it as it is:
    in provisioning files it expands `$NAME`, and `$$` is a dollar sign.
    """
    return text.replace("$", "$$")


def _json(thing: Object) -> str:
    return json.dumps(thing, indent=2, ensure_ascii=False) + "\n"


def _yaml(thing: Object) -> str:
    text: str = yaml.safe_dump(thing, sort_keys=False, width=120)
    return text


def _uid(prefix: str, name: str) -> str:
    whole = f"{prefix}-{name}"
    return whole if len(whole) <= MAX_UID else sha256(whole.encode()).hexdigest()[:MAX_UID]


def _source(prefix: str, index: str, name: str, access: Access) -> Object:
    engine = access.engine
    named = {"name": f"{prefix}: {index}", "uid": _uid(prefix, index), "type": engine.data_source}
    source = {**named, "access": "proxy", "url": _literal(access.url)}
    settings = {engine.index: name, "timeField": MOMENTS[index], **engine.settings}
    if access.key_file is None:
        return source | {"jsonData": settings}
    secret = f"$__file{{{access.key_file}}}"
    if access.user is not None:
        user = {"basicAuth": True, "basicAuthUser": _literal(access.user)}
        return source | user | {"jsonData": settings, "secureJsonData": {"basicAuthPassword": secret}}
    header = {"jsonData": settings | {"httpHeaderName1": "Authorization"}}
    return source | header | {"secureJsonData": {"httpHeaderValue1": f"{engine.scheme} {secret}"}}


def _dashboard(prefix: str, board: Board, engine: Engine) -> Object:
    used = dict.fromkeys(panel.index for panel in board.panels)
    sources = {index: {"type": engine.data_source, "uid": _uid(prefix, index)} for index in used}
    return {
        "uid": _uid(prefix, board.name),
        "title": f"{prefix}: {board.title}",
        "tags": [prefix],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "timezone": "utc",
        "time": {"from": f"now-{board.window}", "to": "now"},
        "refresh": "5m",
        "templating": {"list": [_filter(index, source) for index, source in sources.items()]},
        "panels": [_panel(sources[place[0].index], number, *place) for number, place in enumerate(placed(board), 1)],
    }


def _filter(index: str, source: Object) -> Object:
    """Let people hold all panels of an index to a cloud, a vm or whatever else it has."""
    return {"name": index, "label": f"{index} where", "type": "adhoc", "datasource": source, "filters": [], "hide": 0}


def _panel(source: Object, number: int, panel: Panel, x: int, y: int) -> Object:
    target, shape = Target(panel), SHAPES[panel.chart]
    sorting = {"sortBy": [{"displayName": "month" if "month" in panel.by else panel.measures[0].title, "desc": True}]}
    return {
        "id": number,
        "type": shape,
        "title": panel.title,
        "description": panel.note,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [target.written(source)],
        "transformations": _transformations(panel, target),
        "fieldConfig": _fields(panel),
        "options": OPTIONS[shape] | (sorting if shape == "table" else {}),
        **({"timeFrom": "20y"} if panel.index in ALL_TIME else {"interval": "1h"}),
    }


def _transformations(panel: Panel, target: Target) -> list[Object]:
    """Name a table's measures, in their order, and leave out what only they need;
    two dimensions of bars become a matrix.

    A matrix is made of columns as the data source names them: Grafana 10 and 11 give every series of a renamed column
    the new name.
    """
    titles = {name: measure.title for name, measure in target.shown.items()}
    if panel.chart == "bars":
        row, column = panel.by
        [value] = titles
        return [
            {
                "id": "groupingToMatrix",
                "options": {"rowField": row, "columnField": column, "valueField": value, "emptyValue": "null"},
            }
        ]
    if panel.chart != "table":
        return []
    order = {name: place for place, name in enumerate((*panel.by, *titles))}
    hidden = dict.fromkeys(target.hidden, True)
    renamed = titles | {name: name.replace("_", " ") for name in panel.by if "_" in name}
    return [{"id": "organize", "options": {"excludeByName": hidden, "indexByName": order, "renameByName": renamed}}]


def _fields(panel: Panel) -> Object:
    unit, decimals = UNITS[panel.measures[0].unit]
    if panel.chart != "table":
        custom = {"series": STACKED_BARS, "lines": {"drawStyle": "line", "showPoints": "auto"}}.get(panel.chart, {})
        return {"defaults": {"unit": unit, "decimals": decimals, "custom": custom}, "overrides": []}
    overrides = []
    for measure in panel.measures:
        unit, decimals = UNITS[measure.unit]
        properties = [{"id": "unit", "value": unit}, {"id": "decimals", "value": decimals}]
        overrides.append({"matcher": {"id": "byName", "options": measure.title}, "properties": properties})
    # OpenSearch's data source shows booleans as the numbers that the engine keeps.
    words = [{"id": "mappings", "value": BOOLEANS}]
    booleans = (name for name in panel.by if field_kind(panel.index, name)[0] is bool)
    overrides += [{"matcher": {"id": "byName", "options": name}, "properties": words} for name in booleans]
    return {"defaults": {"custom": {"filterable": True}}, "overrides": overrides}
