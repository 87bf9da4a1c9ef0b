"""Settings: the only reader of the environment.

Each is a name, a default and a line that the table of docs/settings.md repeats.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_type_hints

import msgspec
from msgspec import Meta, Struct

from skytally.core.errors import Misconfigured

# A hundred years: beyond, and before the year 1, there are no dates to count back to.
MOST_KEPT_DAYS = 36_500
OBJECT_STORE = r"file:///[^?#]+|(s3|gs)://[^/?#]+(/[^?#]*)?"


class Config(Struct, frozen=True, kw_only=True):
    """All settings of a process, read once."""

    home: Annotated[str, Meta(title="SKYTALLY_HOME", description="the folder where a local run keeps its state")] = (
        ".skytally"
    )
    port: Annotated[
        int,
        Meta(title="PORT", description="the port of the local server, and of a function in an image", ge=0, le=65_535),
    ] = 8080
    host: Annotated[
        str, Meta(title="SKYTALLY_HOST", description="the address that a function in an image listens on")
    ] = "0.0.0.0"  # noqa: S104
    function_target: Annotated[str, Meta(title="FUNCTION_TARGET", description="the function that an image runs")] = ""
    deployment: Annotated[
        str,
        Meta(
            title="SKYTALLY_DEPLOYMENT",
            description="the version of a function, as `skytally deploy` names it",
        ),
    ] = ""
    function_source: Annotated[
        str, Meta(title="FUNCTION_SOURCE", description="the folder of all functions in an image")
    ] = "functions"
    documents: Annotated[
        str,
        Meta(
            title="SKYTALLY_DOCUMENTS",
            description="URL of the document store: `sqlite:///path`, or `https://host:9200` of Elasticsearch or "
            "OpenSearch (several separated by commas; `elasticsearch+https://` and `opensearch+https://` "
            "name the engine); empty: `documents.sqlite` in SKYTALLY_HOME",
            pattern=r"^(sqlite:///.+|((elasticsearch|opensearch)\+)?https?://.+)?$",
        ),
    ] = ""
    documents_api_key_file: Annotated[
        str,
        Meta(
            title="SKYTALLY_DOCUMENTS_API_KEY_FILE",
            description="file with the credential for the search engine, as `skytally search-setup` writes it: an API "
            "key, `user:password`, a bearer token, or a certificate with its key (PEM)",
        ),
    ] = ""
    documents_ca_file: Annotated[
        str,
        Meta(
            title="SKYTALLY_DOCUMENTS_CA_FILE",
            description="file with the CA that signed the search engine's certificate",
        ),
    ] = ""
    documents_prefix: Annotated[
        str,
        Meta(
            title="SKYTALLY_DOCUMENTS_PREFIX",
            description="prefix of all index names in a search engine",
            pattern=r"^[a-z][a-z0-9_-]{0,99}$",
        ),
    ] = "skytally"
    objects: Annotated[
        str,
        Meta(
            title="SKYTALLY_OBJECTS",
            description="URL of the object store: `file:///path`, `s3://bucket/prefix` or `gs://bucket/prefix`; empty: "
            "`objects` in SKYTALLY_HOME",
            pattern=f"^({OBJECT_STORE})?$",
        ),
    ] = ""
    s3_endpoint: Annotated[
        str,
        Meta(
            title="SKYTALLY_S3_ENDPOINT",
            description="URL of an S3 service other than AWS; credentials as boto3 finds them",
            pattern=r"^https?://[^/]",
        ),
    ] = ""
    gcs_emulator: Annotated[
        str, Meta(title="STORAGE_EMULATOR_HOST", description="URL of an emulator of Google Cloud Storage, for tests")
    ] = ""
    keys: Annotated[
        str, Meta(title="SKYTALLY_KEYS", description="folder of key files; empty: `keys` in SKYTALLY_HOME")
    ] = ""
    clouds: Annotated[
        str,
        Meta(title="SKYTALLY_CLOUDS", description="path or object URL of the site data; see `clouds.example.toml`"),
    ] = ""
    panda_url: Annotated[
        str,
        Meta(
            title="SKYTALLY_PANDA_URL",
            description="base URL of the BigPanDA monitor; empty: panda_collect is off",
            pattern=r"^(https?://.+)?$",
        ),
    ] = ""
    panda_queues: Annotated[
        str,
        Meta(
            title="SKYTALLY_PANDA_QUEUES",
            description="the PanDA queues whose jobs are collected, separated by commas",
            pattern=r"^( *[A-Za-z0-9_.:/-]{1,128} *(, *|$))*$",
        ),
    ] = ""
    panda_token_file: Annotated[
        str, Meta(title="SKYTALLY_PANDA_TOKEN_FILE", description="file with a service account's BigPanDA key")
    ] = ""
    dirac_url: Annotated[
        str,
        Meta(
            title="SKYTALLY_DIRAC_URL",
            description="base URL of DiracX, or `dirac-cli:` for the classic command line; empty: dirac_collect is off",
            pattern=r"^(https?://.+|dirac-cli:)?$",
        ),
    ] = ""
    dirac_token_file: Annotated[
        str,
        Meta(
            title="SKYTALLY_DIRAC_TOKEN_FILE",
            description="file with a robot's DiracX token, or with the JSON of a token and its refresh token; "
            "it is only read: renewed tokens are stored, encrypted, in the document store",
        ),
    ] = ""
    dirac_ca_file: Annotated[
        str, Meta(title="SKYTALLY_DIRAC_CA_FILE", description="file with the CA of DiracX's certificate")
    ] = ""
    alarm_webhook: Annotated[
        str,
        Meta(
            title="SKYTALLY_ALARM_WEBHOOK",
            description="URL that alarms are POSTed to as JSON; empty: alarms are only stored and shown",
            pattern=r"^(https?://[^/].*)?$",
        ),
    ] = ""
    public_url: Annotated[
        str,
        Meta(
            title="SKYTALLY_PUBLIC_URL",
            description="URL of the functions as people reach them, without `/dashboard`: each alarm then has a link "
            "to its evidence; empty: no links",
            pattern=r"^(https?://[^\s/?#@]+(/[^\s?#@]*)?)?$",
        ),
    ] = ""
    timer_min_seconds: Annotated[
        int,
        Meta(
            title="SKYTALLY_TIMER_MIN_SECONDS",
            description="the shortest time between the starts of two rounds of a timer function; an earlier call does "
            "nothing; at most a day",
            ge=0,
            le=86_400,
        ),
    ] = 60
    kept_days: Annotated[
        int,
        Meta(
            title="SKYTALLY_KEPT_DAYS",
            description="the days that intervals, jobs and placements are kept; 0 keeps them for ever",
            ge=0,
            le=MOST_KEPT_DAYS,
        ),
    ] = 760
    trusted_hops: Annotated[
        int,
        Meta(
            title="SKYTALLY_TRUSTED_HOPS",
            description="the number of trusted proxies in front of the functions, which append the caller's address to "
            "X-Forwarded-For",
            ge=0,
            le=8,
        ),
    ] = 0
    calls_per_second: Annotated[
        int,
        Meta(
            title="SKYTALLY_CALLS_PER_SECOND",
            description="a rate limit per token and per address, in calls per second of each process (burst: 60 s); "
            "more calls get 429; 0 means no limit",
            ge=0,
        ),
    ] = 2_000
    claims_per_second: Annotated[
        int,
        Meta(
            title="SKYTALLY_CLAIMS_PER_SECOND",
            description="a rate limit of claims per address, in claims per second of each process (burst: 60 s); "
            "0 means no limit",
            ge=0,
        ),
    ] = 200
    head_seconds: Annotated[
        int,
        Meta(
            title="SKYTALLY_HEAD_SECONDS",
            description="a time limit for a request's head; a slower one gets 408",
            ge=1,
            le=3_600,
        ),
    ] = 10
    body_seconds: Annotated[
        int,
        Meta(
            title="SKYTALLY_BODY_SECONDS",
            description="a time limit for a request's body, plus one second for each 8 KiB; a slower one gets 408",
            ge=1,
            le=3_600,
        ),
    ] = 20
    idle_seconds: Annotated[
        int,
        Meta(
            title="SKYTALLY_IDLE_SECONDS",
            description="a time limit for a connection without a request, or with a client that reads nothing of "
            "an answer",
            ge=1,
            le=3_600,
        ),
    ] = 30
    connections: Annotated[
        int,
        Meta(
            title="SKYTALLY_CONNECTIONS",
            description="the highest number of connections of a process; one more ends the slowest client's, or else "
            "gets 503",
            ge=1,
            le=65_536,
        ),
    ] = 512
    open_dashboard: Annotated[
        bool,
        Meta(title="SKYTALLY_OPEN_DASHBOARD", description="`true`: the dashboard's data and statements need no token"),
    ] = False
    local_names: Annotated[
        str,
        Meta(
            title="SKYTALLY_LOCAL_NAMES",
            description="further host names of the local server, separated by commas; with an open dashboard it "
            "answers only to these and to this machine's own, so that no other site's page can read it",
        ),
    ] = ""

    @staticmethod
    def from_env(environ: Mapping[str, str] | None = None) -> "Config":
        """Read the environment; raise Misconfigured with the setting's name."""
        source = os.environ if environ is None else environ  # noqa: TID251
        values = {field: source[name] for field, name in setting_names().items() if source.get(name)}
        try:
            return msgspec.convert(values, Config, strict=False)
        except msgspec.ValidationError as error:
            field = str(error).rpartition("$.")[2].rstrip("`")
            meta, expected = _metas()[field], str(error).partition(" - ")[0]
            shape = "" if " matching regex " in expected else f" ({expected})"
            raise Misconfigured.setting(str(meta.title), f"must be {meta.description}{shape}") from None

    @property
    def home_path(self) -> Path:
        """Return the state folder."""
        return Path(self.home).absolute()

    @property
    def documents_url(self) -> str:
        """Return the document store's URL."""
        return self.documents or f"sqlite:///{self.home_path}/documents.sqlite"

    @property
    def objects_url(self) -> str:
        """Return the object store's URL."""
        return self.objects or (self.home_path / "objects").as_uri()

    @property
    def keys_path(self) -> Path:
        """Return the folder of key files."""
        return Path(self.keys).absolute() if self.keys else self.home_path / "keys"

    @property
    def timers_off(self) -> frozenset[str]:
        """Return the timers that have nothing to do, because no setting names their source."""
        sources = {"panda_collect": self.panda_url, "dirac_collect": self.dirac_url}
        return frozenset(name for name, url in sources.items() if not url)


def settings() -> list[tuple[str, str, str]]:
    """List name, default and meaning of every setting, as docs/settings.md has them."""
    metas = _metas()
    return [
        (
            str(metas[field.name].title),
            str(field.default).lower() if isinstance(field.default, bool) else str(field.default),
            str(metas[field.name].description),
        )
        for field in msgspec.structs.fields(Config)
    ]


def setting_names() -> dict[str, str]:
    """Return the environment's name of each field."""
    return {field: str(meta.title) for field, meta in _metas().items()}


def _metas() -> dict[str, Meta]:
    return {name: hint.__metadata__[0] for name, hint in get_type_hints(Config, include_extras=True).items()}
