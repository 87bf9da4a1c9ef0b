"""The credential for a search engine, from one file, whose content shows its kind.

::

    VnVhQ2ZHY0JDZGJrUW0=             an API key, encoded as `search-setup` writes it
    user:password
    Bearer eyJhbGciOi…               a token; a JWT needs no word before it
    -----BEGIN CERTIFICATE-----      a client's certificate and its key, both in PEM, in any order
"""

import base64
import ssl
from dataclasses import dataclass, field
from pathlib import Path

_JWT_BEGIN, _JWT_DOTS = "eyJ", 2
BEARER = "Bearer "


@dataclass(frozen=True)
class Credential:
    """The headers of every request, and the client certificate of a connection."""

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    certificate: dict[str, str] = field(default_factory=dict)


def read(file: str) -> Credential:
    """Return a file's credential, or an anonymous one without a file; raise OSError or ValueError for a bad file."""
    if not file:
        return Credential()
    text = Path(file).read_text(encoding="utf-8").strip()
    if "-----BEGIN" in text:
        # A broken one is refused here; no password is asked for on the terminal.
        ssl.create_default_context().load_cert_chain(file, password="")
        return Credential(certificate={"client_cert": file})
    if any(not character.isprintable() for character in text):
        raise ValueError("a credential is one line")
    if text.startswith(BEARER) or (text.startswith(_JWT_BEGIN) and text.count(".") == _JWT_DOTS):
        return Credential({"authorization": BEARER + text.removeprefix(BEARER).strip()})
    user, colon, password = text.partition(":")
    return basic(user, password) if colon else Credential({"authorization": f"ApiKey {text}"})


def basic(user: str, password: str) -> Credential:
    """Return the credential of a user with a password."""
    return Credential({"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()})
