"""`skytally doctor`: checks of everything that a deployment needs."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

from skytally.access import credentials
from skytally.app import wiring
from skytally.cli.terminal import AS_JSON, say, say_json, show, text
from skytally.core import clock
from skytally.core.config import Config
from skytally.core.documents import Boot
from skytally.core.errors import SkytallyError
from skytally.secrets import preflight

Finding = tuple[str, str, str, str]


@click.command()
@AS_JSON
@click.option(
    "--install", is_flag=True, help="set the document store up first: templates and indices; again changes nothing"
)
def doctor(as_json: bool, install: bool) -> None:
    """Check keys, site data, stores and credentials, and write the object store's verdict for the functions.

    The object store is tried for real, in about two seconds: creates one after another, overlapping and in a burst,
    reads after writes and deletes, versions, its clock. Secrets are issued only on a store that is SAFE.

    \b
    Exit codes: 0 all is well, 1 something is not.
    Examples:
      SKYTALLY_OBJECTS=s3://bucket/skytally skytally doctor
      SKYTALLY_DOCUMENTS=https://search:9200 SKYTALLY_DOCUMENTS_API_KEY_FILE=admin skytally doctor --install
    """
    config = Config.from_env()
    if install:
        with contextlib.closing(wiring.open_documents(config)) as documents:
            installed = documents.install(clock.now())
        say(f"made {', '.join(installed.made)}" if installed.made else "the document store is set up", err=True)
        if installed.left:
            say(installed.left, err=True)
    findings = [
        finding
        for check in (_keys, _site_data, _documents, _credentials, _objects)
        for finding in _tried(check, config)
    ]
    if as_json:
        names = ("part", "check", "state", "finding")
        say_json([dict(zip(names, finding, strict=True)) for finding in findings])
    else:
        colours = {"ok": "green"}
        rows = [
            (part, check, text(state, colours.get(state, "red")), finding_text)
            for part, check, state, finding_text in findings
        ]
        show(("part", "check", "", "found"), rows)
    sys.exit(1 if any(state == "FAILED" for _, _, state, _ in findings) else 0)


def _tried(check: Callable[[Config], Iterator[Finding]], config: Config) -> Iterator[Finding]:
    try:
        yield from check(config)
    except SkytallyError as error:
        reason = error.for_operator
        yield check.__name__.strip("_").replace("_", " "), "answers", "FAILED", reason


def _keys(_: Config) -> Iterator[Finding]:
    for name in wiring.key_files().odd():
        yield "keys", name, "FAILED", "is no regular file, and not read: remove it"
    keyring = wiring.keys()
    for purpose, keys in (("master", keyring.master), ("wrapping", keyring.wrapping), ("token", keyring.token)):
        yield "keys", purpose, "ok", ", ".join(key.name for key in keys)


def _site_data(config: Config) -> Iterator[Finding]:
    site = wiring.open_site_data(config).site()
    if config.clouds:
        yield "site data", "make sense", "ok", f"{len(site.clouds)} clouds"


def _documents(config: Config) -> Iterator[Finding]:
    with contextlib.closing(wiring.open_documents(config)) as documents:
        documents.get("boot", "doctor", Boot)
    yield "documents", "answers", "ok", _kind(config.documents_url)


def _credentials(config: Config) -> Iterator[Finding]:
    if config.dirac_url.startswith("http"):
        with contextlib.closing(wiring.open_documents(config)) as documents:
            state, message = wiring.dirac_credential(documents).state()
        yield "credentials", "dirac", "ok" if state == credentials.WELL else "FAILED", message


def _kind(url: str) -> str:
    """Return the kind of store that a URL names, and whether only this machine can reach it."""
    scheme = url.partition("://")[0]
    return f"{scheme}, of this machine alone" if scheme in {"sqlite", "file"} else scheme


def _objects(config: Config) -> Iterator[Finding]:
    yield "objects", "kind", "ok", _kind(config.objects_url)
    pools = (wiring.open_objects(config), wiring.open_objects(config))
    is_empty = next(pools[0].list(""), None) is None
    yield "objects", "content", "ok", "none: a new store, or is its disk not mounted?" if is_empty else "there is some"
    verdict = preflight.examine(pools, clock.now)
    preflight.keep(verdict, pools[0])
    for row in preflight.rows(verdict):
        yield ("objects", *row)
    yield "objects", "verdict", "ok" if verdict.word == preflight.SAFE else "FAILED", verdict.word
