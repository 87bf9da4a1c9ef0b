"""What a search engine does on a bad day, and what a good one must be told: on each real server."""

import contextlib
import json
import secrets
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from localstack import search_server, servers
from skytally.adapters import documents_search as adapter
from skytally.adapters.documents_search import access, sums, templates
from skytally.adapters.documents_search.wire import Refused
from skytally.alarms import service_checks
from skytally.app.wiring import open_documents
from skytally.cli import cli
from skytally.core.config import Config
from skytally.core.documents import INDICES, Alarm, Label, TimerSlot, Usage
from skytally.core.errors import Unavailable
from skytally.core.ports import Installed, Outcome, Write
from skytally.operation import retention
from tests.support.builders import SEARCH_ENGINES
from tests.support.documents import AT, HOUR, done, interval, label, usage, window
from tests.support.search import insist, opened, put, secured, set_up
from tests.support.tcp_proxy import proxy

pytestmark = pytest.mark.servers
STORED = Outcome.STORED
WATERMARK = "cluster.routing.allocation.disk.watermark"


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
    monkeypatch.setattr(adapter, "REQUEST_SECONDS", 1)


@pytest.mark.timeout(900)  # three starts of a server, of two minutes each where the machine is busy
def test_killed_in_the_middle_of_ingestion_it_loses_nothing(tmp_path, engine):
    """Twelve reporters go on through two SIGKILLs;
    every month's document ends as the newest that was told to be kept.
    """
    try:
        with search_server.node(
            engine, tmp_path, **{"thread_pool.write.size": 1, "thread_pool.write.queue_size": 4}
        ) as node:
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

        with ThreadPoolExecutor(reporters) as pool:
            reported = [pool.submit(report, n) for n in range(reporters)]
            for n in (1, 2):
                time.sleep(0.7)
                server.kill()
                server = stack.enter_context(node.serving(folder / f"{n}.log"))
        for one in reported:
            one.result()
        stores[0].refresh()
        assert stores[0].count("usage") == reporters
        assert {version for _, version, _ in stores[0].stored("usage", Usage)} == {versions}
        assert window(stores[0], AT, AT + 100 * HOUR) == [{"cloud": "uvic", "core_ms": reporters * versions * 100}]


@pytest.fixture(scope="module", params=SEARCH_ENGINES)
def cramped(request, tmp_path_factory):
    """A server that can queue next to nothing, and that looks at its disk as often as it may."""
    folder = tmp_path_factory.mktemp("cramped")
    little = {"thread_pool.write.size": 1, "thread_pool.write.queue_size": 1}
    watched = {"cluster.routing.allocation.disk.threshold_enabled": True, "cluster.info.update.interval": "10s"}
    try:
        with (
            search_server.node(request.param, folder, **little, **watched, **watermarks("1b")) as node,
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
    return {f"{WATERMARK}.{name}": free for name in ("low", "high", "flood_stage")}


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
        blocked = node.call(server.url, "/skytally-usage/_settings/index.blocks.*")["skytally-usage"]["settings"][
            "index"
        ]["blocks"]
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
            0.4,
            put,
            (documents, "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": None}}),
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


SILENT_THREADS = 60


def test_a_node_that_falls_silent_keeps_nobody_longer_than_a_request(settings, monkeypatch):
    """Also before it was seen which engine it is,
    and with more threads than the engine's client has connections by itself.
    """
    monkeypatch.setattr(adapter, "REQUEST_SECONDS", 2)
    target = urlsplit(settings["SKYTALLY_DOCUMENTS"])
    with proxy((target.hostname, target.port)) as slow, ThreadPoolExecutor(SILENT_THREADS) as pool:
        far = {**settings, "SKYTALLY_DOCUMENTS": f"http://127.0.0.1:{slow.port}"}
        with contextlib.closing(open_documents(Config.from_env(far))) as documents:
            for is_seen_before in (False, True):
                if is_seen_before:
                    slow.holds_back.clear()
                    assert documents.get("label", "k", Label) is None
                slow.holds_back.set()
                reads = [pool.submit(documents.get, "label", "k", Label) for _ in range(SILENT_THREADS)]
                assert not wait(reads, timeout=8).not_done
                assert all(isinstance(read.exception(), Unavailable) for read in reads)


def test_a_document_that_the_mapping_refuses_is_rejected_by_itself(documents, prefix):
    documents.client.perform("DELETE", f"/{prefix}-label")
    wrong = templates.mappings("label")
    wrong["properties"]["boot_id"] = {"type": "long"}
    documents.client.perform("PUT", f"/{prefix}-label", body={"mappings": wrong})
    assert done(documents, label("a", "word", 1), label("b", "7", 1), usage("u", "2026-11", "uvic")) == [
        Outcome.REJECTED,
        STORED,
        STORED,
    ]


@pytest.mark.spoils
def test_a_store_that_nobody_set_up_is_not_written_to(settings):
    bare = {**settings, "SKYTALLY_DOCUMENTS_PREFIX": settings["SKYTALLY_DOCUMENTS_PREFIX"] + "-bare"}
    with contextlib.closing(open_documents(Config.from_env(bare))) as documents:
        for ask in (
            lambda: done(documents, label("k", "x")),
            lambda: documents.get("label", "k", Label),
            documents.refresh,
        ):
            with pytest.raises(Unavailable, match="doctor --install"):
                ask()
        assert documents.client.perform("GET", f"/{bare['SKYTALLY_DOCUMENTS_PREFIX']}-*") == {}
        fresh = documents.install(datetime.now(UTC)).made
        # One of each, and that of the intervals of months that cannot be.
        assert len(fresh) == len(INDICES) + 1
        assert documents.install(datetime.now(UTC)) == Installed([])
        assert done(documents, label("k", "x")) == [STORED]


def certificate(folder, name):
    """Make a self-signed certificate for loopback."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    address = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = (
        builder.add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return folder / f"{name}.pem"


def test_only_the_right_ca_is_trusted(settings, tmp_path):
    target = urlsplit(settings["SKYTALLY_DOCUMENTS"])
    mine, other = certificate(tmp_path, "mine"), certificate(tmp_path, "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(mine)
    with proxy((target.hostname, target.port), tls) as guarded:
        for ca, is_trusted in ((mine, True), (other, False), (tmp_path / "nowhere", False)):
            told = {
                **settings,
                "SKYTALLY_DOCUMENTS": f"https://localhost:{guarded.port}",
                "SKYTALLY_DOCUMENTS_CA_FILE": str(ca),
            }
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
    monkeypatch.setattr(
        documents, "_searched", lambda index, **request: pages.append(request) or search(index, **request)
    )
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
    assert documents.client.perform("GET", f"/{prefix}-interval-2026-10/_count")["count"] == 1


def test_a_disk_past_the_low_watermark_is_nearly_full_and_no_other(documents, engine):
    (before,) = documents.rooms()
    assert before.total_bytes > before.free_bytes > 0
    headroom = 200 * 1_024**3 if engine == "elasticsearch" else before.total_bytes
    assert before.needed_bytes == pytest.approx(min(0.15 * before.total_bytes, headroom), rel=1e-6)
    free = before.free_bytes
    for low, high, flood, needed in (
        ("1b", "1b", "1b", 1),
        (f"{free * 2}b", f"{free}b", "1b", free * 2),
        ("0.01", "0.02", "0.03", None),
    ):
        marks = {"low": low, "high": high, "flood_stage": flood}
        put(documents, "/_cluster/settings", {"transient": {f"{WATERMARK}.{n}": v for n, v in marks.items()}})
        try:
            (room,) = documents.rooms()
        finally:
            put(documents, "/_cluster/settings", {"transient": {f"{WATERMARK}.{n}": None for n in marks}})
        assert room.needed_bytes == (needed or pytest.approx(0.99 * room.total_bytes, rel=1e-6))
        assert [one.kind for one in service_checks.full_stores([room], ())] == (
            ["store_nearly_full"] if low != "1b" else []
        )


RIGHTS = {
    "ingest": {"write usage", "write interval", "write job", "read usage"},
    "timers": {"write job", "write alarm", "read usage", "read alarm", "see disks"},
    "retention": {"read alarm", "delete turn", "delete interval month"},
    "readers": {"read usage", "read alarm"},
    "operators": {"close a month", "read usage", "read alarm"},
}


def test_a_credential_may_do_its_part_and_nothing_else(tmp_path, monkeypatch, engine):
    with secured(engine, tmp_path) as (node, server):
        set_up(tmp_path, node, server, monkeypatch)
        assert {group: what_is_allowed(tmp_path / "keys" / group, server) for group in access.FUNCTIONS} == RIGHTS
        no_longer(node, server, tmp_path / "brief")
        with (
            pytest.raises(Unavailable, match="SKYTALLY_DOCUMENTS_API_KEY_FILE"),
            opened(server, tmp_path / "brief") as documents,
        ):
            documents.get("label", "k", Label)
        if engine == "opensearch":
            other_ways(tmp_path, node, server)
            with_rights_on_the_prefix_alone(tmp_path, node, server)
        revoke = ["search-revoke", "--user", node.user, "--password-file", str(tmp_path / "password"), "--json"]
        ended = CliRunner().invoke(cli, revoke, catch_exceptions=False)
        assert json.loads(ended.stdout) == {"ended": len(access.FUNCTIONS)}
        with (
            pytest.raises(Unavailable, match="SKYTALLY_DOCUMENTS_API_KEY_FILE"),
            opened(server, tmp_path / "keys" / "readers") as documents,
        ):
            documents.get("label", "k", Label)


def no_longer(node, server, file):
    """Write a credential that has ended."""
    if node.engine == "opensearch":
        file.write_text(node.bearer("admin", seconds=-100, roles="admin"))
        return
    key = node.call(server.url, "/_security/api_key", {"name": "brief", "expiration": "1s"}, "PUT")["encoded"]
    file.write_text(key)
    time.sleep(1.5)


def other_ways(folder, node, server):
    """Show who calls by a bearer token and by a certificate, as a site may that has no passwords."""
    mapped = {"users": ["robot"], "backend_roles": []}
    node.call(server.url, "/_plugins/_security/api/rolesmapping/skytally-ingest", mapped, "PUT")
    certificate, key = node.ca.issue("robot")
    (folder / "robot.pem").write_text(key.read_text() + certificate.read_text())
    (folder / "robot.jwt").write_text(node.bearer("robot"))
    (folder / "stranger.jwt").write_text(node.bearer("stranger"))
    (folder / "broken.pem").write_text(certificate.read_text())
    for name in ("robot.pem", "robot.jwt"):
        with opened(server, folder / name) as documents:
            assert done(documents, label(name, "x", 1)) == [STORED]
    with pytest.raises(Unavailable), opened(server, folder / "stranger.jwt") as documents:
        done(documents, label("k", "x", 1))
    with pytest.raises(Unavailable, match="credential"), opened(server, folder / "broken.pem"):
        pass


OWN = {
    "cluster_permissions": ["cluster_composite_ops"],
    "index_permissions": [{"index_patterns": ["own-*"], "allowed_actions": ["indices_all"]}],
}


def with_rights_on_the_prefix_alone(folder, node, server):
    """Set a site up as a person whom a central service gave one prefix,
    and let it work; what others must do is said.
    """
    node.call(server.url, "/_plugins/_security/api/roles/own", OWN, "PUT")
    person = {"password": secrets.token_urlsafe(24), "opendistro_security_roles": ["own"]}
    node.call(server.url, "/_plugins/_security/api/internalusers/person", person, "PUT")
    (folder / "person").write_text(f"person:{person['password']}")
    (folder / "person-password").write_text(person["password"])
    settings = {
        **server.settings,
        "SKYTALLY_DOCUMENTS_PREFIX": "own",
        "SKYTALLY_DOCUMENTS_API_KEY_FILE": str(folder / "person"),
    }
    with (
        contextlib.closing(open_documents(Config.from_env(settings))) as documents,
        pytest.raises(Unavailable, match="does not say which engine"),
    ):
        documents.get("label", "k", Label)
    settings["SKYTALLY_DOCUMENTS"] = f"opensearch+{server.url}"
    with contextlib.closing(open_documents(Config.from_env(settings))) as documents:
        now = datetime.now(UTC)
        installed = documents.install(now)
        assert "let the cluster's owner run `skytally doctor --install`" in installed.left
        assert f"own-interval-{now.year + 1}-{now.month:02}" in installed.made
        assert documents.install(now).made == []
        month = f"{now:%Y-%m}"
        kept = Write("interval", f"v-{now:%Y%m%d}T000000Z-0", 1, interval("v", now, now + HOUR, 800).document)
        assert done(documents, label("k", "x", 1), usage("u", month, "uvic"), kept) == [STORED] * 3
        assert window(documents, now - HOUR, now + 2 * HOUR) == [{"cloud": "uvic", "core_ms": 800}]
        assert [key for key, _ in documents.find("usage", Usage, {})] == ["u"]
        assert retention.forget(documents, kept_days=1, now=now + timedelta(days=9)) == {"interval": 1}
        assert documents.rooms() == [], "the cluster's disks are its owner's to watch"
    command = [
        "search-setup",
        "--user",
        "person",
        "--password-file",
        str(folder / "person-password"),
        "--out",
        str(folder / "none"),
    ]
    refused = CliRunner(env=settings).invoke(cli, command)
    assert isinstance(refused.exception, Unavailable)
    assert "owner" in refused.exception.message
    node.call(server.url, "/_plugins/_security/api/internalusers/person", method="DELETE")


EVE = {"password": "x" * 12, "roles": ["superuser"]}


def what_is_allowed(key_file, server):
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
    old = Write("interval", "v-20310101T000000Z-1", 1, interval("v", AT, AT + HOUR, 1).document)
    with opened(server, key_file) as documents:
        client = documents.client
        is_opensearch = client.dialect.name == "opensearch"
        api = "/_plugins/_security/api"
        users = f"{api}/internalusers" if is_opensearch else "/_security/user"
        more = (
            (f"{api}/roles/more", {"cluster_permissions": ["*"]})
            if is_opensearch
            else ("/_security/api_key", {"name": "more"})
        )

        def asks(method, path, body=None):
            return lambda: client.perform(method, path, body=body)

        tries = {
            "write usage": lambda: done(documents, usage("u", "2026-11", "uvic")),
            "write interval": lambda: done(documents, old),
            "write job": asks("PUT", "/skytally-job/_doc/j", {"key": "j"}),
            "write alarm": lambda: done(documents, Write("alarm", "a", 1, alarm)),
            "close a month": asks("PUT", "/skytally-closing/_doc/c", {"key": "c"}),
            "read usage": lambda: documents.get("usage", "u", Usage),
            "read alarm": lambda: documents.get("alarm", "a", Alarm),
            "see disks": asks("GET", "/_nodes/stats/fs"),
            "delete usage": asks("DELETE", "/skytally-usage/_doc/u"),
            "delete turn": asks("DELETE", "/skytally-turn/_doc/none"),
            "delete interval month": asks("DELETE", "/skytally-interval-1999-01"),
            "delete index": asks("DELETE", "/skytally-usage"),
            "make a user": asks("PUT", f"{users}/eve", EVE),
            "make a key": asks("PUT", *more),
            "change settings": asks(
                "PUT", "/_cluster/settings", {"transient": {"action.destructive_requires_name": True}}
            ),
            "change mapping": asks("PUT", "/skytally-usage/_mapping", {"properties": {"x": {"type": "long"}}}),
        }
        return {what for what, ask in tries.items() if may(ask)}


def may(ask):
    """Try it: 404 is what somebody gets who may, where nothing is."""
    try:
        ask()
    except Unavailable:
        return False
    except Refused as error:
        if error.status not in {403, 404}:
            raise
        return error.status == 404
    return True


def test_details_that_are_old_go_and_nothing_else(documents, prefix):
    moments = {f"v-2026{month:02}01T000000Z-0": datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 10)}
    done(
        documents, *(Write("interval", key, 1, interval(key, at, at + HOUR, 5).document) for key, at in moments.items())
    )
    turns = [Write("turn", f"t{n}", 0, TimerSlot(taken_at=AT - n * HOUR), create=True) for n in range(100)]
    done(documents, *turns, usage("u", "2019-01", "uvic"))
    documents.refresh()
    gone = retention.forget(documents, kept_days=30, now=datetime(2026, 7, 15, tzinfo=UTC))
    assert gone == {"interval": 6}
    months = {name[-7:] for name in documents.client.perform("GET", f"/{prefix}-interval-2*")}
    assert months >= {f"2026-{month:02}" for month in range(4, 10)}
    assert not months & {"2026-01", "2026-02", "2026-03"}
    documents.refresh()
    assert documents.count("interval") == 3
    assert retention.forget(documents, kept_days=0, now=AT) == {"turn": 51}
    documents.refresh()
    assert (documents.count("turn"), documents.count("usage")) == (49, 1)
    assert retention.forget(documents, kept_days=0, now=AT) == {}
