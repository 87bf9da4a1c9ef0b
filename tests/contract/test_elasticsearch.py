"""What an Elasticsearch does on a bad day, and what a good one must be told: on the real server."""

import contextlib
import json
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from elasticsearch import ApiError
from tcp_proxy import proxy
from test_documents import AT, HOUR, done, interval, label, usage, window

from localstack import search_server, servers
from skytally import retention, service_finding
from skytally.adapters import documents_elasticsearch as adapter
from skytally.adapters.documents_elasticsearch import access, sums, templates
from skytally.cli import cli
from skytally.config import Config
from skytally.documents import INDICES, Alarm, Label, Turn, Usage
from skytally.errors import Unavailable
from skytally.ports import Outcome, Write
from skytally.wiring import open_documents

pytestmark = pytest.mark.servers
STORED = Outcome.STORED


@pytest.fixture
def settings(document_settings):
    return document_settings("elasticsearch")


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
    monkeypatch.setattr(adapter, "REQUEST_SECONDS", 1)


def put(documents, path, body):
    documents.client.perform_request("PUT", path, headers={"content-type": "application/json", "accept": "application/json"}, body=body)


def insist(documents, *writes):
    """Send it again until it is kept, as every caller does."""
    while True:
        try:
            return done(documents, *writes)
        except Unavailable:
            time.sleep(0.2)


def test_killed_in_the_middle_of_ingestion_it_loses_nothing(tmp_path):
    """Twelve reporters go on through two SIGKILLs; every month's document ends as the newest that was told to be kept."""
    try:
        with search_server.node("elasticsearch", tmp_path, **{"thread_pool.write.size": 1, "thread_pool.write.queue_size": 4}) as node:
            ingest_through_kills(node, tmp_path)
    except servers.Missing as missing:
        pytest.skip(str(missing))


def ingest_through_kills(node, folder):
    reporters, versions = 12, 60
    settings = {"SKYTALLY_DOCUMENTS": f"http://127.0.0.1:{node.port}"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(node.serving(folder / "0.log"))
        stores = [stack.enter_context(contextlib.closing(open_documents(Config.from_env(settings)))) for _ in range(3)]
        stores[0].install(datetime.now(UTC))

        def report(n):
            for version in range(1, versions + 1):
                insist(
                    stores[n % 3],
                    usage(f"b{n}", "2026-11", "uvic", version),
                    interval(f"b{n}", AT + version * HOUR, AT + (version + 1) * HOUR, 100),
                )

        threads = [threading.Thread(target=report, args=(n,)) for n in range(reporters)]
        for thread in threads:
            thread.start()
        for n in (1, 2):
            time.sleep(0.7)
            server.kill()
            server = stack.enter_context(node.serving(folder / f"{n}.log"))
        for thread in threads:
            thread.join(timeout=120)
        stores[0].refresh()
        assert stores[0].count("usage") == reporters
        assert {version for _, version, _ in stores[0].stored("usage", Usage)} == {versions}
        assert window(stores[0], AT, AT + 100 * HOUR) == [{"cloud": "uvic", "core_ms": reporters * versions * 100}]


@pytest.fixture(scope="module")
def cramped(tmp_path_factory):
    """A server that can queue next to nothing, and that looks at its disk as often as it may."""
    folder = tmp_path_factory.mktemp("cramped")
    little = {"thread_pool.write.size": 1, "thread_pool.write.queue_size": 1}
    watched = {"cluster.routing.allocation.disk.threshold_enabled": True, "cluster.info.update.interval": "10s"}
    try:
        with (
            search_server.node("elasticsearch", folder, **little, **watched, **watermarks("1b")) as node,
            node.serving(folder / "log") as server,
        ):
            yield node, server
    except servers.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def stores(cramped):
    """Several processes' worth of it."""
    with contextlib.ExitStack() as stack:
        told = {"SKYTALLY_DOCUMENTS": cramped[1].url}
        stores = [stack.enter_context(contextlib.closing(open_documents(Config.from_env(told)))) for _ in range(6)]
        stores[0].install(datetime.now(UTC))
        yield stores


def watermarks(free):
    """Write at which free space the disk is low, high, and flooded."""
    return {f"cluster.routing.allocation.disk.watermark.{name}": free for name in ("low", "high", "flood_stage")}


def test_a_full_queue_is_waited_for(cramped, stores):
    """Each bulk is taken, if need be after some pauses, within the deadline; the server did refuse some."""
    node, server = cramped
    told = [[] for _ in stores]

    def write(n):
        for version in range(1, 41):
            told[n] += done(stores[n], *(label(f"q{n}-{key}", str(version), version) for key in range(50)))

    rejected = before = refused(node, server)
    while rejected == before:
        threads = [threading.Thread(target=write, args=(n,)) for n in range(len(stores))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rejected = refused(node, server)
    assert {outcome for outcomes in told for outcome in outcomes} <= {STORED, Outcome.STALE}
    assert all(len(outcomes) >= 40 * 50 for outcomes in told)
    keys = [f"q{n}-{key}" for n in range(len(stores)) for key in range(50)]
    assert {one.boot_id for one in stores[0].get_many("label", keys, Label)} == {"40"}


def refused(node, server):
    """Count what the server had no room for."""
    (stats,) = node.call(server.url, "/_nodes/stats/thread_pool")["nodes"].values()
    return sum(pool["rejected"] for name, pool in stats["thread_pool"].items() if name.startswith("write"))


def test_a_full_disk_is_an_outage_that_passes_and_loses_nothing(cramped, stores, impatient):
    """The server itself sets the block at the flood stage, and takes it away once there is room."""
    node, server = cramped
    versions = dict.fromkeys("abc", 0)

    def next_version(key, send):
        at = AT + versions[key] * HOUR
        kept = send(stores[0], usage(key, "2026-11", "uvic", versions[key] + 1), interval(key, at, at + HOUR, 100))
        versions[key] += 1
        return kept

    def go_on():
        while True:
            next_version("a", done)
            time.sleep(0.05)

    for key in versions:
        assert next_version(key, done) == [STORED, STORED]
    node.call(server.url, "/_cluster/settings", {"transient": watermarks("900tb")}, "PUT")
    try:
        with pytest.raises(Unavailable, match="cluster_block_exception"):
            go_on()
        blocked = node.call(server.url, "/skytally-usage/_settings/index.blocks.*")["skytally-usage"]["settings"]["index"]["blocks"]
        assert blocked == {"read_only_allow_delete": "true"}
        assert stores[0].get("usage", "b", Usage) is not None
    finally:
        node.call(server.url, "/_cluster/settings", {"transient": watermarks("1b")}, "PUT")
    for key in versions:
        next_version(key, insist)
    stores[0].refresh()
    assert {version for _, version, _ in stores[0].stored("usage", Usage)} == set(versions.values())
    assert window(stores[0], AT, AT + 10_000 * HOUR) == [{"cloud": "uvic", "core_ms": 100 * sum(versions.values())}]


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
def test_a_block_is_an_outage_that_passes(documents, prefix, impatient, block):
    """The last one is what the disk's flood stage sets, and it answers 429."""
    put(documents, f"/{prefix}-label/_settings", {f"index.blocks.{block}": True})
    with pytest.raises(Unavailable):
        done(documents, label("k", "x", 1))
    assert documents.get("label", "k", Label) is None
    put(documents, f"/{prefix}-label/_settings", {f"index.blocks.{block}": None})
    assert done(documents, label("k", "x", 1)) == [STORED]


def test_a_tripped_breaker_is_waited_for(documents, impatient):
    done(documents, label("k", "x", 1))
    many = [label(f"k{n}", "x" * 100, 1) for n in range(500)]
    try:
        put(documents, "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": "2kb"}})
        with pytest.raises(Unavailable):
            done(documents, *many)
        relief = threading.Timer(
            0.4, put, (documents, "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": None}})
        )
        relief.start()
        assert done(documents, *many) == [STORED] * 500
    finally:
        relief.join()
        put(documents, "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": None}})


def test_an_answer_that_does_not_come_is_an_outage_and_the_same_again_is_harmless(settings, documents, impatient):
    target = urlsplit(settings["SKYTALLY_DOCUMENTS"])
    with proxy((target.hostname, target.port)) as slow:
        far = open_documents(Config.from_env({**settings, "SKYTALLY_DOCUMENTS": f"http://127.0.0.1:{slow.port}"}))
        assert done(far, label("k", "first", 1)) == [STORED]
        slow.holds_back.set()
        with pytest.raises(Unavailable, match="does not answer"):
            done(far, label("k", "second", 2))
        with pytest.raises(Unavailable):
            far.get("label", "k", Label)
        assert documents.get("label", "k", Label).boot_id == "second"
        slow.holds_back.clear()
        assert done(far, label("k", "second", 2), label("k", "first", 1)) == [STORED, Outcome.STALE]
        far.close()


def test_a_document_that_the_mapping_refuses_is_rejected_by_itself(documents, prefix):
    documents.client.indices.delete(index=f"{prefix}-label")
    wrong = templates.mappings("label")
    wrong["properties"]["boot_id"] = {"type": "long"}
    documents.client.indices.create(index=f"{prefix}-label", mappings=wrong)
    assert done(documents, label("a", "word", 1), label("b", "7", 1), usage("u", "2026-11", "uvic")) == [Outcome.REJECTED, STORED, STORED]


def test_a_store_that_nobody_set_up_is_not_written_to(settings):
    bare = {**settings, "SKYTALLY_DOCUMENTS_PREFIX": settings["SKYTALLY_DOCUMENTS_PREFIX"] + "-bare"}
    with contextlib.closing(open_documents(Config.from_env(bare))) as documents:
        for ask in (lambda: done(documents, label("k", "x")), lambda: documents.get("label", "k", Label), documents.refresh):
            with pytest.raises(Unavailable, match="doctor --install"):
                ask()
        assert not documents.client.indices.exists(index=f"{bare['SKYTALLY_DOCUMENTS_PREFIX']}-*", allow_no_indices=False)
        fresh = documents.install(datetime.now(UTC))
        # One of each, and that of the intervals of months that cannot be.
        assert len(fresh) == len(INDICES) + 1
        assert documents.install(datetime.now(UTC)) == []
        assert done(documents, label("k", "x")) == [STORED]


def certificate(folder, name):
    """Make a self-signed certificate for loopback."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = (
        builder.add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return folder / f"{name}.pem"


def test_only_the_right_ca_is_trusted(settings, tmp_path):
    target = urlsplit(settings["SKYTALLY_DOCUMENTS"])
    mine, other = certificate(tmp_path, "mine"), certificate(tmp_path, "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(mine)
    with proxy((target.hostname, target.port), tls) as guarded:
        for ca, is_trusted in ((mine, True), (other, False), (tmp_path / "nowhere", False)):
            told = {**settings, "SKYTALLY_DOCUMENTS": f"https://localhost:{guarded.port}", "SKYTALLY_DOCUMENTS_CA_FILE": str(ca)}
            if is_trusted:
                with contextlib.closing(open_documents(Config.from_env(told))) as documents:
                    assert done(documents, label("k", "x", 1)) == [STORED]
            else:
                with pytest.raises(Unavailable), contextlib.closing(open_documents(Config.from_env(told))) as documents:
                    documents.get("label", "k", Label)


@pytest.mark.parametrize("vms", [9, 10, 11, 20, 25])
def test_pages_of_sums_are_exact_and_none_is_asked_for_in_vain(documents, monkeypatch, vms):
    """Each reads all that matches: an empty page at the end would double what a view costs."""
    monkeypatch.setattr(sums, "PAGE_BUCKETS", 10)
    names = [f"v{n:02}" for n in range(vms)]
    done(documents, *(interval(name, AT, AT + HOUR, 100 + n, vm=name) for n, name in enumerate(names)))
    pages, search = [], documents._searched
    monkeypatch.setattr(documents, "_searched", lambda **request: pages.append(request) or search(**request))
    rows = window(documents, AT, AT + HOUR, by=("vm",))
    assert [(row["vm"], row["core_ms"]) for row in rows] == [(name, 100 + n) for n, name in enumerate(names)]
    # One more asks for what an edge of the window cuts, and finds nothing.
    assert len(pages) == vms // 10 + 2


@pytest.mark.parametrize("vms", [9, 10, 25])
def test_what_crosses_an_edge_comes_by_pages_and_is_shared_out_exactly(documents, monkeypatch, vms):
    monkeypatch.setattr(sums, "PAGE_BUCKETS", 10)
    names = [f"v{n:02}" for n in range(vms)]
    done(documents, *(interval(name, AT, AT + HOUR, 4_000 + 4 * n, vm=name) for n, name in enumerate(names)))
    rows = window(documents, AT + HOUR / 4, AT + HOUR, by=("site", "vm"))
    assert rows == [{"site": None, "vm": name, "core_ms": 3_000 + 3 * n} for n, name in enumerate(names)]


def test_an_interval_stays_in_the_month_of_its_key(documents, prefix):
    """A corrected clock moves the times of an interval over a month's edge; it is replaced where it was."""
    key, edge = "vm-20261031T230000Z-3500000", datetime(2026, 11, 1, tzinfo=UTC)
    for version, shift in ((1, timedelta(minutes=-5)), (2, timedelta(minutes=5))):
        moved = interval("vm", edge + shift, edge + shift + HOUR, 100 * version)
        assert done(documents, Write("interval", key, version, moved.document)) == [STORED]
    assert window(documents, edge - HOUR, edge + 3 * HOUR) == [{"cloud": "uvic", "core_ms": 200}]
    assert documents.client.count(index=f"{prefix}-interval-2026-10")["count"] == 1


def test_a_disk_past_the_low_watermark_is_nearly_full_and_no_other(documents):
    (before,) = documents.rooms()
    assert before.total_bytes > before.free_bytes > 0
    assert before.needed_bytes == pytest.approx(min(0.15 * before.total_bytes, 200 * 1_024**3), rel=1e-6)
    free = before.free_bytes
    for low, high, flood, needed in (("1b", "1b", "1b", 1), (f"{free * 2}b", f"{free}b", "1b", free * 2), ("0.01", "0.02", "0.03", None)):
        marks = {"low": low, "high": high, "flood_stage": flood}
        documents.client.cluster.put_settings(transient={f"cluster.routing.allocation.disk.watermark.{n}": v for n, v in marks.items()})
        try:
            (room,) = documents.rooms()
        finally:
            documents.client.cluster.put_settings(transient={f"cluster.routing.allocation.disk.watermark.{n}": None for n in marks})
        assert room.needed_bytes == (needed or pytest.approx(0.99 * room.total_bytes, rel=1e-6))
        assert [one.kind for one in service_finding.full_stores([room], ())] == (["store_nearly_full"] if low != "1b" else [])


@contextlib.contextmanager
def secured(folder):
    try:
        with search_server.secured("elasticsearch", folder) as (node, server):
            yield node, server
    except servers.Missing as missing:
        pytest.skip(str(missing))


def test_an_api_key_may_do_its_part_and_nothing_else(tmp_path, monkeypatch):
    with secured(tmp_path) as (node, server):
        set_up(tmp_path, node, server, monkeypatch)
        assert {group: what_is_allowed(tmp_path / "keys" / group, server) for group in access.FUNCTIONS} == {
            "ingest": {"write usage", "write interval", "write job", "read usage"},
            "timers": {"write job", "write alarm", "read usage", "read alarm", "see disks"},
            "retention": {"read alarm", "delete turn", "delete interval month"},
            "readers": {"read usage", "read alarm"},
            "operators": {"close a month", "read usage", "read alarm"},
        }
        key = node.call(server.url, "/_security/api_key", {"name": "brief", "expiration": "1s"}, "PUT")["encoded"]
        (tmp_path / "brief").write_text(key)
        time.sleep(1.5)
        with pytest.raises(Unavailable, match="SKYTALLY_DOCUMENTS_API_KEY_FILE"), opened(server, tmp_path / "brief") as documents:
            documents.get("label", "k", Label)
        revoke = ["search-revoke", "--user", "elastic", "--password-file", str(tmp_path / "password"), "--json"]
        ended = CliRunner().invoke(cli, revoke, catch_exceptions=False)
        assert json.loads(ended.stdout) == {"ended": len(access.FUNCTIONS)}
        with (
            pytest.raises(Unavailable, match="SKYTALLY_DOCUMENTS_API_KEY_FILE"),
            opened(server, tmp_path / "keys" / "readers") as documents,
        ):
            documents.get("label", "k", Label)


def set_up(folder, node, server, monkeypatch):
    """Set the store up and make its keys by the command line, as an operator does."""
    monkeypatch.setenv("SKYTALLY_DOCUMENTS", server.url)
    assert isinstance(CliRunner().invoke(cli, ["doctor", "--install"]).exception, Unavailable)
    (folder / "password").write_text(node.password)
    told = ["search-setup", "--user", "elastic", "--password-file", str(folder / "password"), "--out", str(folder / "keys")]
    done = CliRunner().invoke(cli, told, catch_exceptions=False)
    assert done.exit_code == 0
    assert "usage-report, job-heartbeat, placement-report" in done.output
    for group in access.FUNCTIONS:
        assert (folder / "keys" / group).stat().st_mode & 0o077 == 0
        assert (folder / "keys" / group).read_text().strip() not in done.output


@contextlib.contextmanager
def opened(server, key_file):
    told = {"SKYTALLY_DOCUMENTS": server.url, "SKYTALLY_DOCUMENTS_API_KEY_FILE": str(key_file)}
    with contextlib.closing(open_documents(Config.from_env(told))) as documents:
        yield documents


def what_is_allowed(key_file, server):
    alarm = Alarm(kind="k", subject="s", cloud=None, message="", state="open", told=None, raised_at=AT, seen_at=AT, resolved_at=None)
    old = Write("interval", "v-20310101T000000Z-1", 1, interval("v", AT, AT + HOUR, 1).document)
    with opened(server, key_file) as documents:
        client = documents.client
        tries = {
            "write usage": lambda: done(documents, usage("u", "2026-11", "uvic")),
            "write interval": lambda: done(documents, old),
            "write job": lambda: client.index(index="skytally-job", id="j", document={"key": "j"}),
            "write alarm": lambda: done(documents, Write("alarm", "a", 1, alarm)),
            "close a month": lambda: client.index(index="skytally-closing", id="c", document={"key": "c"}),
            "read usage": lambda: documents.get("usage", "u", Usage),
            "read alarm": lambda: documents.get("alarm", "a", Alarm),
            "see disks": documents.rooms,
            "delete usage": lambda: client.delete(index="skytally-usage", id="u"),
            "delete turn": lambda: client.delete(index="skytally-turn", id="none"),
            "delete interval month": lambda: client.indices.delete(index="skytally-interval-1999-01"),
            "delete index": lambda: client.indices.delete(index="skytally-usage"),
            "make a user": lambda: client.security.put_user(username="eve", password="x" * 12, roles=["superuser"]),
            "make a key": lambda: client.security.create_api_key(name="more"),
            "change settings": lambda: client.cluster.put_settings(transient={"action.destructive_requires_name": True}),
            "change mapping": lambda: client.indices.put_mapping(index="skytally-usage", properties={"x": {"type": "long"}}),
        }
        return {what for what, ask in tries.items() if may(ask)}


def may(ask):
    """Try it: 404 is what somebody gets who may, where nothing is."""
    try:
        ask()
    except Unavailable:
        return False
    except ApiError as error:
        if error.status_code not in {403, 404}:
            raise
        return error.status_code == 404
    return True


def test_details_that_are_old_go_and_nothing_else(documents, prefix):
    moments = {f"v-2026{month:02}01T000000Z-0": datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 10)}
    done(documents, *(Write("interval", key, 1, interval(key, at, at + HOUR, 5).document) for key, at in moments.items()))
    turns = [Write("turn", f"t{n}", 0, Turn(taken_at=AT - n * HOUR), create=True) for n in range(100)]
    done(documents, *turns, usage("u", "2019-01", "uvic"))
    documents.refresh()
    gone = retention.forget(documents, kept_days=30, now=datetime(2026, 7, 15, tzinfo=UTC))
    assert gone == {"interval": 6}
    months = {name[-7:] for name in documents.client.indices.get(index=f"{prefix}-interval-2*")}
    assert months >= {f"2026-{month:02}" for month in range(4, 10)}
    assert not months & {"2026-01", "2026-02", "2026-03"}
    documents.refresh()
    assert documents.count("interval") == 3
    assert retention.forget(documents, kept_days=0, now=AT) == {"turn": 51}
    documents.refresh()
    assert (documents.count("turn"), documents.count("usage")) == (49, 1)
    assert retention.forget(documents, kept_days=0, now=AT) == {}
