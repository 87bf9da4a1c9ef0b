"""Whose fault it is, on the real server: the document's,
which is refused for good, or the store's, which is an outage.
"""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from skytally.adapters import documents_search as adapter
from skytally.adapters.documents_search import bulk, templates
from skytally.adapters.documents_search.wire import Refused
from skytally.app.wiring import open_documents
from skytally.cli import cli
from skytally.core.config import Config
from skytally.core.documents import Alarm, Interval, Label, Usage
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Write
from skytally.operation import retention
from tests.support.builders import SEARCH_ENGINES
from tests.support.documents import AT, HOUR, STORED, done, interval, label, usage, window
from tests.support.search import opened, put, secured, set_up

pytestmark = pytest.mark.servers
STALE, REJECTED = Outcome.STALE, Outcome.REJECTED
FAR = "vm-20310705T000000Z-0"
FAR_AT = datetime(2031, 7, 5, tzinfo=UTC)


@pytest.fixture(params=SEARCH_ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def settings(request, engine):
    """The settings of a store; one that a test spoils is nobody else's."""
    return request.getfixturevalue(
        "spoilt_settings" if request.node.get_closest_marker("spoils") else "document_settings"
    )(engine)


@pytest.fixture
def prefix(settings):
    return settings["SKYTALLY_DOCUMENTS_PREFIX"]


@pytest.fixture
def documents(settings):
    with contextlib.closing(open_documents(Config.from_env(settings))) as documents:
        yield documents


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(adapter, "DEADLINE_SECONDS", 1)
    monkeypatch.setattr(adapter, "REQUEST_SECONDS", 2)


@contextlib.contextmanager
def cluster(documents, **settings):
    """Set the cluster, for a while."""
    try:
        put(documents, "/_cluster/settings", {"transient": settings})
        yield
    finally:
        put(documents, "/_cluster/settings", {"transient": dict.fromkeys(settings)})


def far_interval(key=FAR):
    return Write("interval", key, 1, interval(key, AT, AT + HOUR, 8).document)


def answers(documents, *batches):
    """Write several callers' batches, all that share commits and all that do not; return what each is answered."""
    blocking = [documents.write([label(f"first-{n}", "x", 1)]) for n in range(4)]
    futures = [documents.write(list(batch)) for batch in batches]
    assert [one.result(timeout=60) for one in blocking] == [[STORED]] * 4
    return [future.exception(timeout=60) or future.result() for future in futures]


def faults(documents, prefix):
    """Make each fault of the store in turn: its name, the error's type, and what makes it so for a while."""

    @contextlib.contextmanager
    def closed():
        assert done(documents, far_interval()) == [STORED]
        documents.client.perform("POST", f"/{prefix}-interval-2031-07/_close")
        try:
            yield
        finally:
            documents.client.perform("POST", f"/{prefix}-interval-2031-07/_open")

    @contextlib.contextmanager
    def blocked(block):
        assert done(documents, far_interval()) == [STORED]
        name = f"{prefix}-interval-2031-07"
        put(documents, f"/{name}/_settings", {f"index.blocks.{block}": True})
        try:
            yield
        finally:
            put(documents, f"/{name}/_settings", {f"index.blocks.{block}": None})

    return {
        "shard limit": ("validation_exception", lambda: cluster(documents, **{"cluster.max_shards_per_node": 1})),
        "closed": ("index_closed_exception", closed),
        "read-only": ("cluster_block_exception", lambda: blocked("read_only")),
        "write block": ("cluster_block_exception", lambda: blocked("write")),
        "flood stage": ("cluster_block_exception", lambda: blocked("read_only_allow_delete")),
        "read": ("", lambda: blocked("read")),
        "no index": ("index_not_found_exception", lambda: cluster(documents, **{"action.auto_create_index": "false"})),
    }


def test_a_fault_of_the_store_is_an_outage_of_whoever_it_concerns(documents, prefix):
    for fault, (kind, begun) in faults(documents, prefix).items():
        if fault == "read":
            continue
        with begun():
            others, bad, both, good = answers(
                documents,
                [usage("a", "2026-11", "uvic"), interval("a", AT, AT + HOUR, 8)],
                [far_interval()],
                [label("b", "x", 1), far_interval(), label("c", 7)],
                [label("d", "x", 1), label("e", "\ud800"), label("f", "x", 1)],
            )
        assert others == [STORED, STORED], fault
        assert good == [STORED, REJECTED, STORED], fault
        assert all(isinstance(answer, Unavailable) and kind in answer.message for answer in (bad, both)), fault
        # What was kept of a caller that was told to ask again stays harmless.
        assert done(documents, label("b", "x", 1), far_interval(), label("b", "older", 0)) == [STORED, STORED, STALE]
        assert documents.get("interval", FAR, Interval) is not None
        documents.client.perform("DELETE", f"/{prefix}-interval-2031-07")


def status_alone(item):
    """Judge as once: by the status, and one fault is everybody's."""
    outcomes = {200: STORED, 201: STORED, 409: STALE, 400: REJECTED}
    return outcomes.get(item["status"], Unavailable("the document store refuses to write"))


def test_the_mutant_that_judges_by_the_status_alone_refuses_for_good_what_passes(documents, prefix, monkeypatch):
    made = faults(documents, prefix)
    for fault in ("shard limit", "closed"):
        with made[fault][1](), monkeypatch.context() as patched:
            patched.setattr(bulk, "_result", status_alone)
            assert answers(documents, [far_interval()]) == [[REJECTED]]


REFUSED = {
    "a field of another type": label("k", "word", 1),
    "a field that the mapping lacks": usage("k", "2026-11", "uvic"),
    "immense term": label("x" * 40_000, "7", 1),
}


@pytest.mark.spoils
def test_only_a_document_that_cannot_be_parsed_or_mapped_is_refused(documents, prefix):
    for index in ("label", "usage"):
        documents.client.perform("DELETE", f"/{prefix}-{index}")
        documents.client.perform("DELETE", f"/_index_template/{prefix}-{index}")
        wrong = templates.mappings(index)
        if index == "label":
            wrong["properties"]["boot_id"] = {"type": "long"}
        else:
            del wrong["properties"]["core_ms"]
        put(documents, f"/{prefix}-{index}", {"mappings": wrong})
    for kind, bad in REFUSED.items():
        assert done(documents, label("a", "7", 1), bad, label("b", "7", 1)) == [STORED, REJECTED, STORED], kind


def test_an_immense_term_is_known_by_its_reason_where_the_type_does_not_tell():
    """Opensearch and older versions answer so."""
    error = {
        "type": "illegal_argument_exception",
        "reason": 'Document contains at least one immense term in field="key"',
    }
    assert bulk._result({"status": 400, "error": error}) is REJECTED
    assert isinstance(
        bulk._result({"status": 400, "error": error | {"reason": "limit of total fields [1000] has been exceeded"}}),
        Unavailable,
    )


@pytest.mark.filterwarnings("ignore::elasticsearch.ElasticsearchWarning")
def test_a_tiny_breaker_is_an_outage_of_writes_and_of_reads_and_passes(documents, impatient):
    assert done(documents, usage("u", "2026-11", "uvic")) == [STORED]
    documents.refresh()
    with cluster(documents, **{"indices.breaker.total.limit": "1mb"}):
        for ask in (
            lambda: done(documents, label("k", "x", 1)),
            lambda: documents.get("usage", "u", Usage),
            lambda: documents.count("usage"),
            lambda: list(documents.find("usage", Usage, {})),
            lambda: window(documents, AT, AT + HOUR),
            documents.refresh,
        ):
            with pytest.raises(Unavailable):
                ask()
        relief = threading.Timer(
            0.3, put, (documents, "/_cluster/settings", {"transient": {"indices.breaker.total.limit": None}})
        )
        relief.start()
        assert done(documents, label("k", "x", 1)) == [STORED]
        relief.join()
    assert documents.get("usage", "u", Usage) is not None


def test_what_cannot_be_read_whole_is_an_outage(documents, prefix):
    """A month that is closed or blocked is missing from every sum: none is answered, also not of other months."""
    near = "vm-20261105T000000Z-0"
    for fault in ("closed", "read"):
        assert done(documents, far_interval(near)) == [STORED]
        documents.refresh()
        with faults(documents, prefix)[fault][1]():
            for ask in (
                lambda: window(documents, AT, AT + HOUR),
                lambda: documents.count("interval"),
                lambda: list(documents.find("interval", Interval, {})),
                lambda: list(documents.during("interval", Interval, "until_at", (FAR_AT, FAR_AT + 2 * HOUR), {})),
                lambda: list(documents.stored("interval", Interval)),
                lambda: documents.get("interval", FAR, Interval),
                lambda: documents.forget("interval", "until_at", datetime(2032, 1, 1, tzinfo=UTC)),
            ):
                with pytest.raises(Unavailable):
                    ask()
            assert documents.get("interval", near, Interval) is not None
            assert documents.count("usage") == 0
            # What lies in other months for certain is listed.
            assert [key for key, _ in documents.during("interval", Interval, "until_at", (AT, AT + 2 * HOUR), {})] == [
                near
            ]
        assert documents.get("interval", FAR, Interval) is not None


def test_a_credential_that_may_not_write_somewhere_is_an_outage_of_that_and_a_revoked_one_of_all(
    tmp_path, monkeypatch, engine
):
    alarm = Alarm(
        kind="k",
        subject="s",
        cloud=None,
        message="",
        state="open",
        told=None,
        raised_at=AT,
        seen_at=AT,
        resolved_at=None,
    )
    with secured(engine, tmp_path) as (node, server):
        set_up(tmp_path, node, server, monkeypatch)
        with opened(server, tmp_path / "keys" / "ingest") as documents:
            good, bad = answers(documents, [label("a", "x", 1)], [label("b", "x", 1), Write("alarm", "k", 1, alarm)])
            assert good == [STORED]
            assert isinstance(bad, Unavailable)
            assert "security_exception" in bad.message
            revoke = ["search-revoke", "--user", node.user, "--password-file", str(tmp_path / "password")]
            assert CliRunner().invoke(cli, revoke).exit_code == 0
            refused = answers_of_all(documents, [label("c", "x", 1)], [label("d", "x", 1)])
            assert all(
                isinstance(one, Unavailable) and "SKYTALLY_DOCUMENTS_API_KEY_FILE" in one.message for one in refused
            )
            with pytest.raises(Unavailable, match="SKYTALLY_DOCUMENTS_API_KEY_FILE"):
                documents.get("label", "a", Label)


def answers_of_all(documents, *batches):
    futures = [documents.write(batch) for batch in batches]
    return [future.exception(timeout=60) or future.result() for future in futures]


def indices(documents, prefix):
    return {
        name.removeprefix(f"{prefix}-interval-") for name in documents.client.perform("GET", f"/{prefix}-interval-*")
    }


def test_a_random_clock_makes_no_index(documents, prefix):
    before = indices(documents, prefix)
    assert "other" in before
    assert len(before) == 2
    odd = [
        f"vm-{year:04}{month:02}05T000000Z-{n}"
        for n, year in enumerate((1, 999, 1970, 2019, 2025, 2100, 2525, 9999))
        for month in range(1, 13)
    ]
    odd += [
        "no name",
        "vm-20261305T000000Z-5",
        "vm-99991231T000000Z-999999999999999",
        "vm-20261105T000000Z-999999999999999999",
    ]
    assert done(documents, *(far_interval(key) for key in odd)) == [STORED] * len(odd)
    assert (
        done(
            documents,
            far_interval(odd[0]),
            far_interval("vm-20991231T235959Z-999"),
            far_interval("vm-20251231T235959Z-1000"),
        )
        == [STORED] * 3
    )
    assert indices(documents, prefix) == before | {"2099-12", "2026-01"}
    documents.refresh()
    assert documents.count("interval") == len(odd) + 2
    assert all(documents.get_many("interval", [*odd, "vm-20991231T235959Z-999"], Interval))


def test_a_month_without_intervals_is_no_outage_and_the_one_index_of_all_others_has_to_be_there(documents, prefix):
    assert documents.get_many("interval", ["vm-20310705T000000Z-0", "no name"], Interval) == [None, None]
    documents.client.perform("DELETE", f"/{prefix}-interval-other")
    assert documents.get("interval", "vm-20310705T000000Z-0", Interval) is None
    with pytest.raises(Unavailable, match="index_not_found_exception"):
        documents.get("interval", "no name", Interval)
    assert documents.install(datetime.now(UTC)).made == [f"{prefix}-interval-other"]
    assert documents.get("interval", "no name", Interval) is None


def test_intervals_of_other_months_are_forgotten_one_by_one_and_their_index_stays(documents, prefix):
    done(
        documents,
        *(
            Write("interval", f"odd-{n}", 1, interval("odd", AT + n * HOUR, AT + (n + 1) * HOUR, 8).document)
            for n in range(10)
        ),
    )
    done(documents, Write("interval", "vm-20260105T000000Z-0", 1, interval("vm", AT, AT + HOUR, 8).document))
    documents.refresh()
    assert documents.forget("interval", "until_at", datetime(2030, 1, 1, tzinfo=UTC)) == 11
    documents.refresh()
    assert documents.count("interval") == 0
    assert indices(documents, prefix) == {"other"}
    assert retention.forget(documents, kept_days=30, now=datetime(2031, 1, 1, tzinfo=UTC)) == {}


def test_what_may_not_be_removed_is_an_outage(documents, prefix):
    done(documents, usage("u", "2026-11", "uvic"), interval("i", AT, AT + HOUR, 8))
    documents.refresh()
    put(documents, f"/{prefix}-interval-other/_settings", {"index.blocks.read_only": True})
    with pytest.raises(Unavailable, match="cluster_block_exception"):
        documents.forget("interval", "until_at", AT + timedelta(days=1))
    put(documents, f"/{prefix}-interval-other/_settings", {"index.blocks.read_only": None})
    assert documents.forget("interval", "until_at", AT + timedelta(days=1)) == 1


@pytest.mark.spoils
def test_the_lifecycle_of_months_leaves_the_index_of_others_alone(documents, prefix):
    made = templates.templates(prefix)
    lifecycle = templates.lifecycle_component(prefix)
    assert lifecycle in made[f"{prefix}-interval"]["composed_of"]
    assert lifecycle not in made[f"{prefix}-interval-other"]["composed_of"]
    put(
        documents,
        f"/_component_template/{lifecycle}",
        {"template": {"settings": {"index": {"refresh_interval": "7s"}}}},
    )
    documents.client.perform("DELETE", f"/{prefix}-interval-other")
    done(documents, far_interval(), far_interval("odd"))
    found = documents.client.perform("GET", f"/{prefix}-interval-*/_settings", {"flat_settings": True})
    intervals = {
        name.removeprefix(f"{prefix}-interval-"): one["settings"]["index.refresh_interval"]
        for name, one in found.items()
    }
    assert (intervals["2031-07"], intervals["other"]) == ("7s", "30s")
    with pytest.raises(Refused):
        put(documents, f"/{prefix}-interval-*,-{prefix}-interval-other/_settings", {"index.no_such_setting": 1})
