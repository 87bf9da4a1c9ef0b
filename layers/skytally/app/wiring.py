"""From settings to adapters, by URL scheme.

A process opens each of them once, when it first needs it and never at import; `close` closes all.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from skytally.access import callers
from skytally.access.callers import Admission
from skytally.access.credentials import Credential
from skytally.access.keyring import Key, Keyring
from skytally.access.rate_limit import Limits
from skytally.accounting.boots import Register
from skytally.adapters.keys_files import KeyFiles
from skytally.adapters.site_files import SiteData
from skytally.alarms import evidence
from skytally.alarms.alarm_round import Notifier, NullNotifier
from skytally.core import clock
from skytally.core.config import OBJECT_STORE, Config, setting_names
from skytally.core.errors import Misconfigured, Unavailable
from skytally.core.ports import Documents, JobStates, Objects, ProbedObjects
from skytally.core.site_data import Site, SiteFault
from skytally.core.unreadable import Notes
from skytally.deployment.catalog import FUNCTIONS
from skytally.http import web
from skytally.http.recent import Recent
from skytally.http.web import Request
from skytally.operation import timer
from skytally.operation.report_counters import Tallies
from skytally.secrets.preflight import Gate

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

    from skytally.jobs.panda_rows import JobRows

T = TypeVar("T")
URLS = ("documents", "objects", "s3_endpoint", "panda_url", "dirac_url", "alarm_webhook", "public_url")
# Settings that name files: those that every function reads, and those that only one function reads.
FILES: Mapping[str, tuple[str, ...]] = {
    "panda_collect": ("panda_token_file",),
    "dirac_collect": ("dirac_token_file", "dirac_ca_file"),
}
FILES_OF_ALL = ("documents_api_key_file", "documents_ca_file")
_opened_once: "list[_lru_cache_wrapper[Any]]" = []


def _once(make: Callable[[], T]) -> "_lru_cache_wrapper[T]":
    """Return a function that makes a value at its first call and returns the same until `close`."""
    cached = cache(make)
    _opened_once.append(cached)
    return cached


@_once
def config() -> Config:
    """Return the settings."""
    return Config.from_env()


def check(name: str) -> None:
    """Raise Unavailable where a function cannot run with these settings, files and keys; query no store."""
    keys_needed = {function.name: function.keys for function in FUNCTIONS}
    settings, titles = config(), setting_names()
    if name not in keys_needed:
        raise Misconfigured.setting("FUNCTION_TARGET", f"must be one of {', '.join(keys_needed)}")
    for field in URLS:
        with _opening(titles[field]):
            _check_url(getattr(settings, field))
    for field in (*FILES_OF_ALL, *FILES.get(name, ())):
        with _opening(titles[field]):
            _check_readable(getattr(settings, field))
    if keys_needed[name]:
        keys()


def _check_url(urls: str) -> None:
    for url in urls.split(","):
        _ = urlsplit(url).port  # Only this access raises for a port that is no number.


def _check_readable(path: str) -> None:
    if path:
        Path(path).open("rb").close()


@contextmanager
def _opening(setting: str) -> Iterator[None]:
    """Raise Misconfigured with the setting's name where what it names cannot be opened."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise Misconfigured.setting(
            setting, f"nothing can be opened by what it holds ({type(error).__name__}): correct it"
        ) from error


@_once
def documents() -> Documents:
    """Return the document store."""
    return open_documents(config())


@_opening("SKYTALLY_DOCUMENTS")
def open_documents(settings: Config) -> Documents:
    """Connect to the document store that the settings name."""
    scheme, path = _split(settings.documents_url)
    if scheme == "sqlite":
        from skytally.adapters.documents_sqlite import SqliteDocuments

        return SqliteDocuments(path)
    if scheme.rpartition("+")[2] in {"http", "https"}:
        from skytally.adapters.documents_search import SearchDocuments, connect

        hosts = settings.documents_url.split(",")
        return SearchDocuments(
            connect(hosts, settings.documents_api_key_file, settings.documents_ca_file), settings.documents_prefix
        )
    raise _unknown_scheme("SKYTALLY_DOCUMENTS", settings.documents_url, "sqlite:///path or https://host:9200")


@_once
def objects() -> Objects:
    """Return the object store."""
    return open_objects(config())


@_opening("SKYTALLY_OBJECTS")
def open_objects(settings: Config) -> ProbedObjects:
    """Connect to the object store that the settings name; only its own client is loaded."""
    if not re.fullmatch(OBJECT_STORE, settings.objects_url):
        raise Misconfigured.setting(
            "SKYTALLY_OBJECTS", "must be file:///path, s3://bucket/prefix or gs://bucket/prefix"
        )
    parts = urlsplit(settings.objects_url)
    if parts.scheme == "s3":
        from skytally.adapters.objects_s3 import S3Objects

        return S3Objects(parts.netloc, parts.path, settings.s3_endpoint or None)
    if parts.scheme == "gs":
        from skytally.adapters.objects_gcs import GcsObjects

        return GcsObjects(parts.netloc, parts.path, settings.gcs_emulator or None)
    from skytally.adapters.objects_filesystem import FilesystemObjects

    folder = Path(unquote(parts.path))
    files = FilesystemObjects(folder)
    if not settings.objects and not folder.exists():  # A new home; a folder that is there and empty may be unmounted.
        with suppress(Unavailable):  # The next call says why.
            files.make()
    return files


@_once
def gate() -> Gate:
    """Return the gate that issues secrets only on a safe object store."""
    return Gate(lambda: (open_objects(config()), open_objects(config())), clock.now)


def _split(url: str) -> tuple[str, Path]:
    parts = urlsplit(url)
    return parts.scheme, Path(unquote(parts.path))


def _unknown_scheme(setting: str, url: str, example: str) -> Misconfigured:
    return Misconfigured.setting(setting, f"has scheme {urlsplit(url).scheme!r}: use {example}")


@_once
def key_files() -> KeyFiles:
    """Return the folder of keys."""
    return KeyFiles(config().keys_path, clock.now)


def keys() -> Keyring:
    """Return the keys as they are now."""
    return key_files().keyring()


@_once
def register() -> Register:
    """Return the register of boots."""
    return Register(documents())


@_once
def notes() -> Notes:
    """Return where this process notes what it cannot read."""
    return Notes(lambda writes: documents().write(writes))


@_once
def tallies() -> Tallies:
    """Return the counters of this process's reports."""
    return Tallies(documents)


def site() -> Site:
    """Return the newest valid site data."""
    return _site_data().site()


def site_fault() -> SiteFault | None:
    """Return what is wrong with the site data as they are now, or None."""
    return _site_data().fault()


@_once
def _site_data() -> SiteData:
    return open_site_data(config())


def open_site_data(settings: Config) -> SiteData:
    """Open the site data that the settings name."""
    return SiteData(
        settings.clouds, lambda url: open_objects(msgspec.structs.replace(settings, objects=url)), clock.now
    )


@_once
@_opening("SKYTALLY_PANDA_URL")
def panda() -> "JobRows | None":
    """Return PanDA's monitor, or None where the settings name none."""
    from skytally.adapters.jobs_panda import PandaJobRows

    settings = config()
    if not settings.panda_url:
        return None
    return PandaJobRows(settings.panda_url, Path(settings.panda_token_file) if settings.panda_token_file else None)


def panda_queues() -> tuple[str, ...]:
    """Return the queues whose jobs count."""
    from skytally.jobs.panda_rows import queues_of

    return queues_of(config().panda_queues)


@_once
@_opening("SKYTALLY_DIRAC_URL")
def dirac() -> JobStates | None:
    """Return the source of DIRAC's job states that the settings name, or None."""
    settings = config()
    if settings.dirac_url == "dirac-cli:":
        from skytally.adapters.jobs_dirac import DiracCommandJobStates

        return DiracCommandJobStates()
    from skytally.adapters.jobs_diracx import DiracxJobStates

    if not settings.dirac_url:
        return None
    ca_file = Path(settings.dirac_ca_file) if settings.dirac_ca_file else None
    return DiracxJobStates(settings.dirac_url, dirac_credential(documents()), ca_file)


def dirac_credential(store: Documents) -> Credential:
    """Return the credential for DiracX, as renewed in a document store."""
    return Credential("dirac", "SKYTALLY_DIRAC_TOKEN_FILE", Path(config().dirac_token_file), store, keys, clock.now)


def alarm_notifier(now: datetime) -> Notifier:
    """Return the webhook that notifies people of alarms, in the form that the site data name, or a null notifier."""
    from skytally.adapters.alarms_webhook import AlarmWebhook

    url, link = config().alarm_webhook, partial(evidence.link, config().public_url)
    return AlarmWebhook(url, site().alarms.form, link, now) if url else NullNotifier()


@_once
def _token_keys() -> Recent[tuple[Key, ...]]:
    return Recent(lambda: keys().token, key_files().state)


@_once
def _recent_site() -> Recent[Site]:
    return Recent(site, _site_data().state)


async def _admission(request: Request, role: str) -> Admission:
    token_keys, recent_site = await _token_keys().value(), await _recent_site().value()
    return callers.admit(request.bearer, role, token_keys, recent_site, request.received_at)


def caller(role: str, report: str = "") -> web.Authorise:
    """Return a check that admits the holders of a role's tokens; refusals are counted under `report`.

    A changed key or deny list counts from the next request on; one in a bucket within `site_files.OBJECT_KEPT`.
    """

    async def authorise(request: Request) -> Admission:
        with tallies().refusals(report, request.received_at) if report else nullcontext():
            return await _admission(request, role)

    return authorise


async def dashboard_reader(request: Request) -> Admission:
    """Admit a reader to the dashboard's data; with an open dashboard admit everybody to everything."""
    if config().open_dashboard:
        return callers.admit_anybody(await _recent_site().value())
    return await _admission(request, "reader")


@_once
def limits() -> Limits:
    """Return this process's rate limits."""
    return Limits(config().calls_per_second, config().claims_per_second)


def address(request: Request) -> str:
    """Return the caller's address as far as the settings trust the proxies in front."""
    return request.address(config().trusted_hops)


def timer_round(name: str, work: timer.Work) -> dict[str, Any]:
    """Run a timer's round if it is due and return its answer; raise Unavailable as `timer.run` does."""
    return timer.run(name, work, documents(), config().timer_min_seconds, clock.now)


def close() -> None:
    """Close the document store and forget everything else, so that the next call reads the settings again."""
    if documents.cache_info().currsize:
        documents().close()
    for opened in _opened_once:
        opened.cache_clear()
