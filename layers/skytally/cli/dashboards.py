"""`skytally dashboards`: the boards for Kibana, OpenSearch Dashboards and Grafana, as files."""

import re
from pathlib import Path

import click

from skytally.boards import grafana as grafana_files
from skytally.boards import kibana as kibana_files
from skytally.boards import opensearch as opensearch_files
from skytally.cli.terminal import say
from skytally.core.config import Config
from skytally.core.documents import INDICES
from skytally.core.errors import Malformed

PREFIX = click.option("--prefix", help="what the names of the indices begin with; default: SKYTALLY_DOCUMENTS_PREFIX")
FILE = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="the file to write; default: standard output"
)
URL = re.compile(r"(?:(?P<engine>elasticsearch|opensearch)\+)?(?P<url>https?://[^\s/@]+(?:/\S*)?)")
PREFIX_FORM = re.compile(r"[a-z][a-z0-9_-]{0,99}")


@click.group()
def dashboards() -> None:
    """Write the dashboards accounting and jobs for what reads the documents in Elasticsearch or OpenSearch."""


@dashboards.command("kibana")
@FILE
@PREFIX
def kibana(out: Path | None, prefix: str | None) -> None:
    """Write data views, panels and dashboards as NDJSON, for Kibana 8.9 and later, and 9.

    The same prefix makes the same bytes with the same ids, so an import with overwrite=true renews what is there.

    \b
    Example:
      skytally dashboards kibana --out skytally.ndjson
      curl -u elastic -H 'kbn-xsrf: true' --form file=@skytally.ndjson \\
        'https://kibana.example.org/api/saved_objects/_import?overwrite=true'
    """
    prefix = _checked(prefix)
    _give(out, kibana_files.ndjson(prefix, _names(prefix)), "Stack Management > Saved Objects")


@dashboards.command("opensearch")
@FILE
@PREFIX
def opensearch(out: Path | None, prefix: str | None) -> None:
    """Write index patterns, visualizations and dashboards as NDJSON, for OpenSearch Dashboards 2.19 and later, and 3.

    The same prefix makes the same bytes with the same ids, so an import with overwrite=true renews what is there.

    \b
    Example:
      skytally dashboards opensearch --out skytally.ndjson
      curl -u admin -H 'osd-xsrf: true' --form file=@skytally.ndjson \\
        'https://dashboards.example.org/api/saved_objects/_import?overwrite=true'
    """
    prefix = _checked(prefix)
    _give(out, opensearch_files.ndjson(prefix, _names(prefix)), "Dashboards Management > Saved objects")


@dashboards.command("grafana")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="the folder to write, as in provisioning/",
)
@click.option("--url", help="where Grafana finds the search engine; default: the first of SKYTALLY_DOCUMENTS")
@click.option(
    "--engine",
    type=click.Choice(sorted(grafana_files.ENGINES)),
    help="default: what the URL begins with, or elasticsearch",
)
@click.option(
    "--key-file",
    help="where Grafana finds its API key, OpenSearch's bearer token or, with --user, a password; default: none",
)
@click.option("--user", help="the user whose password is in --key-file; what it must be allowed is in docs/search.md")
@click.option(
    "--folder", default="/etc/grafana/provisioning", show_default=True, help="Grafana's folder of provisioning"
)
@PREFIX
def grafana(
    out: Path,
    url: str | None,
    engine: str | None,
    key_file: str | None,
    user: str | None,
    folder: str,
    prefix: str | None,
) -> None:
    """Write data sources and dashboards for Grafana's provisioning; no key is written, only where it lies.

    For OpenSearch, Grafana 10.4 or later needs the plugin grafana-opensearch-datasource.

    \b
    Example:
      skytally dashboards grafana --out /etc/grafana/provisioning --url https://search.example.org:9200 \\
        --key-file /etc/grafana/skytally-key
      systemctl restart grafana-server
    """
    prefix = _checked(prefix)
    url = url or Config.from_env().documents_url.split(",")[0]
    match = URL.fullmatch(url)
    if not match:
        raise Malformed(
            "--url must be where Grafana finds the search engine, as https://search.example.org:9200, without a "
            "password"
        )
    if key_file and not re.fullmatch(r"[^$}]+", key_file):
        raise Malformed("--key-file must be a path without $ and }: Grafana's provisioning files cannot name any other")
    if user and not key_file:
        raise Malformed("--user needs --key-file: the file from which Grafana reads that user's password")
    source = grafana_files.ENGINES[engine or match["engine"] or "elasticsearch"]
    access = grafana_files.Access(source, match["url"], key_file, user)
    for name, text in grafana_files.files(prefix, _names(prefix), access, folder).items():
        _write(out / name, text)
        say(out / name, err=True)


def _checked(prefix: str | None) -> str:
    prefix = Config.from_env().documents_prefix if prefix is None else prefix
    if not PREFIX_FORM.fullmatch(prefix):
        raise Malformed(
            "--prefix must be what index names begin with: a lower-case letter, then such, digits, _ and -, as in "
            "skytally"
        )
    return prefix


def _names(prefix: str) -> dict[str, str]:
    from skytally.adapters.documents_search.templates import alias

    return {index: alias(prefix, index) for index in INDICES}


def _give(out: Path | None, text: str, page: str) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    _write(out, text)
    say(f"{out}: import it at {page}, or as --help shows", err=True)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Malformed(f"cannot write {path}: {error.strerror}; name another --out") from None
