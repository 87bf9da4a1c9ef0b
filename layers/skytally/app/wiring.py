"""From settings to adapters, by URL scheme: lazy, cached for the life of the process, never at import."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from skytally.access import callers
from skytally.access.callers import Admission
from skytally.access.credentials import Credential
from skytally.access.keyring import Keyring
from skytally.access.rate_limit import Limits
from skytally.accounting.boots import Register
from skytally.adapters.keys_files import KeyFiles
from skytally.adapters.site_files import SiteData
from skytally.alarms import evidence
from skytally.alarms.alarm_round import Notifier, NullNotifier
from skytally.core import clock
from skytally.core.config import OBJECT_STORE, Config, setting_names
from skytally.core.errors import Misconfigured
from skytally.core.ports import Documents, JobStates, Objects, ProbedObjects
from skytally.core.site_data import Site, SiteFault
from skytally.core.unreadable import Notes
from skytally.deployment.catalog import FUNCTIONS
from skytally.http import web
from skytally.http.web import Request
from skytally.operation import timer
from skytally.operation.report_counters import Tallies
from skytally.secrets.preflight import Gate

if TYPE_CHECKING:
    from skytally.jobs.panda_rows import JobRows

URLS = ("documents", "objects", "s3_endpoint", "panda_url", "dirac_url", "alarm_webhook", "public_url")
# The files that a setting names are read by every function that the setting is given to, or by the one that alone
# speaks to that source.
FILES: Mapping[str, tuple[str, ...]] = {
    "panda_collect": ("panda_token_file",),
    "dirac_collect": ("dirac_token_file", "dirac_ca_file"),
}
FILES_OF_ALL = ("documents_api_key_file", "documents_ca_file")


@cache
def config() -> Config:
    """Return the settings."""
    return Config.from_env()


def check(name: str) -> None:
    """Raise Unavailable where no process of a function could answer by these settings,
    files and keys; asks no store.
    """
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
        _ = urlsplit(url).port  # A port that is no number raises only where it is asked for.


def _check_readable(path: str) -> None:
    if path:
        Path(path).open("rb").close()


@contextmanager
def _opening(setting: str) -> Iterator[None]:
    """Say which setting is broken where nothing can be opened by what it holds."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise Misconfigured.setting(
            setting, f"nothing can be opened by what it holds ({type(error).__name__}): correct it"
        ) from error


@cache
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


@cache
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

    return FilesystemObjects(Path(unquote(parts.path)))


@cache
def gate() -> Gate:
    """Return what lets secrets be issued on this object store, or not."""
    return Gate(lambda: (open_objects(config()), open_objects(config())), clock.now)


def _split(url: str) -> tuple[str, Path]:
    parts = urlsplit(url)
    return parts.scheme, Path(unquote(parts.path))


def _unknown_scheme(setting: str, url: str, example: str) -> Misconfigured:
    return Misconfigured.setting(setting, f"has scheme {urlsplit(url).scheme!r}: use {example}")


@cache
def key_files() -> KeyFiles:
    """Return the folder of keys."""
    return KeyFiles(config().keys_path, clock.now)


def keys() -> Keyring:
    """Return the keys as they are now."""
    return key_files().keyring()


@cache
def register() -> Register:
    """Return the register of boots."""
    return Register(documents())


@cache
def notes() -> Notes:
    """Return where this process notes what it cannot read."""
    return Notes(lambda writes: documents().write(writes))


@cache
def tallies() -> Tallies:
    """Return what this process counts of reports."""
    return Tallies(documents)


def site() -> Site:
    """Return the newest site data that make sense."""
    return _site_data().site()


def site_fault() -> SiteFault | None:
    """Return what is wrong with the site data as they are now, or None."""
    return _site_data().fault()


@cache
def _site_data() -> SiteData:
    return open_site_data(config())


def open_site_data(settings: Config) -> SiteData:
    """Look at the site data that the settings name."""
    return SiteData(
        settings.clouds, lambda url: open_objects(msgspec.structs.replace(settings, objects=url)), clock.now
    )


@cache
@_opening("SKYTALLY_PANDA_URL")
def panda() -> "JobRows | None":
    """Return PanDA's monitor, or None where the settings name none."""
    from skytally.adapters.jobs_panda import PandaJobRows

    told = config()
    return (
        PandaJobRows(told.panda_url, Path(told.panda_token_file) if told.panda_token_file else None)
        if told.panda_url
        else None
    )


def panda_queues() -> tuple[str, ...]:
    """Return the queues whose jobs count."""
    from skytally.jobs.panda_rows import queues_of

    return queues_of(config().panda_queues)


@cache
@_opening("SKYTALLY_DIRAC_URL")
def dirac() -> JobStates | None:
    """Return the door to DIRAC that the settings name, or None."""
    told = config()
    if told.dirac_url == "dirac-cli:":
        from skytally.adapters.jobs_dirac import DiracCommandJobStates

        return DiracCommandJobStates()
    from skytally.adapters.jobs_diracx import DiracxJobStates

    ca_file = Path(told.dirac_ca_file) if told.dirac_ca_file else None
    return DiracxJobStates(told.dirac_url, dirac_credential(documents()), ca_file) if told.dirac_url else None


def dirac_credential(store: Documents) -> Credential:
    """Return what DiracX is asked with, as far as a document store knows."""
    return Credential("dirac", "SKYTALLY_DIRAC_TOKEN_FILE", Path(config().dirac_token_file), store, keys, clock.now)


def alarm_notifier(now: datetime) -> Notifier:
    """Return how people are told of an alarm: by the webhook, in the form that the site's data name, or not at all."""
    from skytally.adapters.alarms_webhook import AlarmWebhook

    url, link = config().alarm_webhook, partial(evidence.link, config().public_url)
    return AlarmWebhook(url, site().alarms.form, link, now) if url else NullNotifier()


def caller(role: str, report: str = "") -> web.Authorise:
    """Return what admits the holders of a role's tokens to a function;
    a refusal counts as one of the report that is named.
    """

    def authorise(request: Request) -> Admission:
        with tallies().refusals(report, request.received_at) if report else nullcontext():
            return callers.admit(request.bearer, role, keys().token, site(), request.received_at)

    return authorise


def dashboard_reader(request: Request) -> Admission:
    """Admit a reader to the dashboard's data; anybody reads everything where the settings open it."""
    if config().open_dashboard:
        return callers.admit_anybody(site())
    return callers.admit(request.bearer, "reader", keys().token, site(), request.received_at)


@cache
def limits() -> Limits:
    """Return how much one caller may ask of this process."""
    return Limits(config().calls_per_second, config().claims_per_second)


def address(request: Request) -> str:
    """Return the caller's address as far as the settings trust the proxies in front."""
    return request.address(config().trusted_hops)


def timer_round(name: str, work: timer.Work) -> dict[str, Any]:
    """Do a timer's round if it is due; return what is answered of it. Raises Unavailable as `timer.run` does."""
    return timer.run(name, work, documents(), config().timer_min_seconds, clock.now)


def close() -> None:
    """Let go of everything, so that the next call reads the settings again."""
    if documents.cache_info().currsize:
        documents().close()
    for cached in (
        config,
        documents,
        objects,
        gate,
        key_files,
        _site_data,
        register,
        notes,
        tallies,
        panda,
        dirac,
        limits,
    ):
        cached.cache_clear()
