"""URLs of functions: `<base>/function/<name>`, or a host of their own if the base contains `{function}`."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from skytally.core.errors import Malformed

FUNCTION = "{function}"


def url_of(base: str, path: str) -> str:
    """Return the URL of a function's path, such as `agent/vm.py`."""
    name, slash, rest = path.partition("/")
    template = base.rstrip("/") if FUNCTION in base else f"{base.rstrip('/')}/function/{FUNCTION}"
    return template.replace(FUNCTION, name) + slash + rest


def check_base(base: str, *, insecure: bool) -> None:
    """Raise Malformed for a base that is no URL, or plain http without `insecure`: it carries tokens and payloads."""
    if "@" in base:
        raise Malformed("--base holds a user or a password: a URL is logged by whoever it passes, so leave them out")
    if not _is_url(url_of(base, "name")):
        raise Malformed(
            f"--base is a URL such as https://sky.example.org, or https://{FUNCTION}.example.org, and {base!r} is none"
        )
    _check_not_in_clear(url_of(base, "name"), base, "token and payload", insecure=insecure)


def check_gateway(gateway: str, *, insecure: bool) -> None:
    """Raise Malformed for a gateway that is no URL, or plain http without `insecure`: it carries the password."""
    if not _is_url(gateway):
        raise Malformed(f"--gateway is a URL such as https://gateway.example.org, and {gateway!r} is none")
    _check_not_in_clear(gateway, gateway, "the password", insecure=insecure)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return host is not None and parts.scheme in {"http", "https"}


def _check_not_in_clear(url: str, name: str, what: str, *, insecure: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not insecure and not is_this_machine(parts.hostname or ""):
        raise Malformed(
            f"{name} is http: {what} would travel in clear. Use https, or say --insecure where the network is yours"
        )


def is_private(base: str) -> bool:
    """Return whether nobody else can read what is sent to a checked base."""
    parts = urlsplit(url_of(base, "name"))
    return parts.scheme == "https" or is_this_machine(parts.hostname or "")


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine, so that nothing is sent over a network."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
