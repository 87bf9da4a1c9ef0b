"""What a Grafana panel asks its Elasticsearch data source for: groups, sums and scripts over them.

A table shows every sum that was asked for, hidden or not, under names of its own: `Sum core_ms` (`Sum`, where there is
one), a script's text (`Bucket Script`, where there is one).
"""

from typing import Any

from skytally.accounting.measures import Measure
from skytally.boards.board import Panel, field_kind

Object = dict[str, Any]
NOT_KNOWN = "(not known)"
FIRST_GROUP = 101
TITLES = {
    "count": "Count",
    "sum": "Sum",
    "avg": "Average",
    "cardinality": "Unique Count",
    "bucket_script": "Bucket Script",
}


class Target:
    """A panel's question; each part of it has a number, by which others refer to it."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._metrics: dict[str, Object] = {}
        self._sums: dict[str, str] = {}
        self._measures = {self._measure(measure): measure for measure in panel.measures}
        # Older versions of OpenSearch's data source ask for an aggregation `count`, which there is not.
        self._rank = "_count" if panel.rank == "count" else self._sum(panel.rank)
        for number, metric in self._metrics.items():
            metric["hide"] = number not in self._measures

    @property
    def shown(self) -> dict[str, Measure]:
        """Each measure by the name of its column in a table."""
        return {self._title(number): measure for number, measure in self._measures.items()}

    @property
    def hidden(self) -> list[str]:
        """The names of the columns that a table does not need."""
        return [self._title(number) for number in self._metrics if number not in self._measures]

    def written(self, source: Object) -> Object:
        """Write it out."""
        panel = self._panel
        groups = [self._group(name, str(number)) for number, name in enumerate(panel.by, FIRST_GROUP)]
        if panel.timed or panel.chart == "number":
            settings = {"interval": "auto", "min_doc_count": "0", "trimEdges": "0"}
            groups.append(
                {
                    "id": str(FIRST_GROUP + len(groups)),
                    "type": "date_histogram",
                    "field": panel.moment,
                    "settings": settings,
                }
            )
        return {
            "refId": "A",
            "datasource": source,
            "query": f"_exists_:{panel.known}" if panel.known else "",
            "timeField": panel.moment,
            "alias": " ".join(f"{{{{term {name}}}}}" for name in panel.by) or panel.title,
            "bucketAggs": groups,
            "metrics": list(self._metrics.values()),
        }

    def _group(self, name: str, number: str) -> Object:
        kind, optional = field_kind(self._panel.index, name)
        order = self._panel.order_of(name)
        ordered = {"order": order or "desc", "orderBy": "_key" if order else self._rank}
        settings = {"size": str(self._panel.groups(name)), **ordered, "min_doc_count": "1"}
        missing = {"missing": NOT_KNOWN} if optional and kind is str else {}
        return {"id": number, "type": "terms", "field": name, "settings": settings | missing}

    def _measure(self, measure: Measure) -> str:
        """Return the number of what answers a measure."""
        if measure.aggregation:
            kind, field = measure.aggregation
            return self._metric(kind, field=field) if field else self._sum("count")
        text = measure.arithmetic(lambda term: f"params.{term}")
        variables = [{"name": term, "pipelineAgg": self._sum(term)} for term in measure.terms]
        return self._metric("bucket_script", pipelineVariables=variables, settings={"script": text})

    def _sum(self, term: str) -> str:
        """Return the number of a sum, which is asked for once."""
        if term not in self._sums:
            self._sums[term] = self._metric("count") if term == "count" else self._metric("sum", field=term)
        return self._sums[term]

    def _metric(self, kind: str, **more: Any) -> str:
        number = str(len(self._metrics) + 1)
        self._metrics[number] = {"id": number, "type": kind, **more}
        return number

    def _title(self, number: str) -> str:
        metric = self._metrics[number]
        title = TITLES[metric["type"]]
        if sum(other["type"] == metric["type"] for other in self._metrics.values()) == 1:
            return title
        return metric["settings"]["script"] if metric["type"] == "bucket_script" else f"{title} {metric['field']}"
