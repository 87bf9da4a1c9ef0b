"""Credentials that renew themselves: the tokens of a token file and their successors, shared by all processes.

::

    token file        `{"access_token", "refresh_token"}`, or one bare access token; never written
    index credential  one document per token file, keyed by the file's digest: a file that a person replaces counts at
                      once, with a document of its own

A refresh token works once, and sending it again ends every session of its user. So an exchange has durable steps. One
process takes the lease and writes that the exchange has begun. Then it sends the token. The successor is sealed and
stored before it is used.

Invariant: no refresh token is sent twice, even if processes are killed or frozen, unless the source said that it is
still valid or nothing was sent.

The successor is lost if the process dies, or the answer is lost, between the exchange at the source and the write that
follows. Then, and if the source refuses, no token is sent any more: a person must sign the robot in again and write the
token file.
"""

import base64
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import tenacity
from msgspec import Struct, structs

from skytally.access import key_wrapping
from skytally.access.keyring import Key, Keyring, named
from skytally.core.documents import RenewedCredential
from skytally.core.errors import Changed, Unavailable
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import iso
from skytally.core.timestamps import to_ms
from skytally.operation.timer import LEASE, take_turn

WRITES = 3
SIGN_IN = "sign the robot in again and write its token file"
FAILING, WELL = "failing", "well"


class Tokens(Struct, frozen=True):
    """An access token, and the refresh token that renews it if there is one."""

    access_token: str
    refresh_token: str | None = None

    def __repr__(self) -> str:
        """Return a text without the tokens."""
        return "Tokens()"


class Refused(Unavailable):
    """The source refuses for good to renew a token."""


class NotExchanged(Unavailable):
    """The source did not exchange a token: the token is still valid."""


class Credential:
    """One token file and its successors; safe for threads and concurrent processes."""

    def __init__(
        self,
        source: str,
        setting: str,
        file: Path,
        documents: Documents,
        keys: Callable[[], Keyring],
        now: Callable[[], datetime],
    ) -> None:
        self._source, self._setting, self._file = source, setting, file
        self._documents, self._keys, self._now = documents, keys, now
        self._renewing, self._noting = threading.Lock(), threading.Lock()
        self._unsaved: tuple[str, RenewedCredential] | None = None

    def tokens(self) -> Tokens:
        """Return the tokens in use."""
        return self._read()[2]

    def renewed(self, refused: Tokens, exchange: Callable[[str], Tokens]) -> Tokens:
        """Return the successor of refused tokens; exchange the refresh token unless somebody has done so already.

        `exchange` sends the refresh token. It raises Refused, NotExchanged, or Unavailable for an unknown result.
        """
        with self._renewing:
            key, document, tokens = self._read()
            if tokens != refused:
                return tokens
            now, refresh_token, wrapping = self._now(), tokens.refresh_token, self._keys().wrapping[0]
            if refresh_token is None:
                raise Unavailable(
                    f"the {self._source} token was refused and cannot be renewed: write a new one to {self._setting}"
                )
            self._check(document, now)
            if not take_turn(f"renewal-{key}", document.changed_at, self._documents, now):
                raise self._busy()
            # The process that had the lease before may have finished since.
            latest_key, latest, tokens = self._read()
            if tokens != refused:
                return tokens
            # The time from before the lease was taken: a process that froze since then loses to one that went on.
            begun = structs.replace(latest, begun_at=now, changed_at=_after(latest, now))
            if (latest_key, latest.changed_at) != (key, document.changed_at) or self._write(
                key, begun
            ) is not Outcome.STORED:
                raise self._busy()
            new = self._exchanged(key, begun, refresh_token, exchange)
            # From here on only this process has the successor: nothing may come between this and its write.
            now = self._now()
            sealed = _sealed(key, begun, new, wrapping)
            successor = structs.replace(sealed, changed_at=_after(begun, now), renewed_at=now, begun_at=None)
            with self._noting:
                self._unsaved = key, successor
            self._save()
            return new

    def state(self) -> tuple[str, str]:
        """Return the credential's state and a description; raise Unavailable where none can be used. Write nothing."""
        text = self._text()
        self._parsed(text)
        key, now = self._key(text), self._now()
        document = self._documents.get("credential", key, RenewedCredential)
        if document is not None and document.sealed is not None:
            self._opened(key, document)
        return described(document or self._fresh(now), now)

    def _check(self, document: RenewedCredential, now: datetime) -> None:
        """Raise Unavailable if the refresh token must not be sent."""
        if document.begun_at is not None and now - document.begun_at < LEASE:
            raise self._busy()
        state, message = described(document, now)
        if state == FAILING:
            raise Unavailable(f"{message} ({self._setting})")

    def _exchanged(
        self, key: str, begun: RenewedCredential, refresh_token: str, exchange: Callable[[str], Tokens]
    ) -> Tokens:
        """Send the refresh token and return its successor; if it was not exchanged, store that and raise."""
        try:
            new = exchange(refresh_token)
        except (Refused, NotExchanged) as error:
            now = self._now()
            refused_at = now if isinstance(error, Refused) else None
            self._write(
                key, structs.replace(begun, begun_at=None, changed_at=_after(begun, now), refused_at=refused_at)
            )
            raise
        # A server that keeps refresh tokens valid returns none.
        return new if new.refresh_token else structs.replace(new, refresh_token=refresh_token)

    def _read(self) -> tuple[str, RenewedCredential, Tokens]:
        """Return the key of the file's document, the document, and the tokens in use."""
        text = self._text()
        key, from_file = self._key(text), self._parsed(text)
        self._save()
        unsaved = self._unsaved
        document = unsaved[1] if unsaved and unsaved[0] == key else self._stored(key)
        if document.sealed is None:
            return key, document, from_file
        tokens = self._opened(key, document)
        wrapping = self._keys().wrapping[0]
        if document.wrapping_key != wrapping.name:
            # The same version as the replaced document's: it overwrites nothing newer.
            self._write(key, _sealed(key, document, tokens, wrapping))
        return key, document, tokens

    def _text(self) -> str:
        try:
            text = self._file.read_text("ascii").strip()
        except (OSError, ValueError):
            raise self._nothing_read() from None
        return text if text.startswith("{") else json.dumps({"access_token": text})

    def _key(self, text: str) -> str:
        return f"{self._source}/{sha256(text.encode()).hexdigest()}"

    def _parsed(self, text: str) -> Tokens:
        tokens = parsed(text.encode())
        if tokens is None:
            raise self._nothing_read()
        return tokens

    def _stored(self, key: str) -> RenewedCredential:
        """Return a file's document; create it for a new file."""
        document = self._documents.get("credential", key, RenewedCredential)
        if document is None:
            new_document = self._fresh(self._now())
            self._documents.write(
                [Write("credential", key, _version(new_document), new_document, create=True)]
            ).result()
            document = self._documents.get("credential", key, RenewedCredential)
        if document is None:
            raise Unavailable(f"what is stored of {self._setting} cannot be read: {SIGN_IN}")
        return document

    def _fresh(self, now: datetime) -> RenewedCredential:
        return RenewedCredential(source=self._source, used_since=now, changed_at=now)

    def _opened(self, key: str, document: RenewedCredential) -> Tokens:
        wrapping = named(self._keys().wrapping, document.wrapping_key or "")
        if wrapping is None:
            raise Unavailable(
                f"wrapping key {document.wrapping_key} is missing: put its file back into SKYTALLY_KEYS, or {SIGN_IN}"
            )
        try:
            tokens = parsed(
                key_wrapping.unwrap(
                    base64.b64decode(document.sealed or "", validate=True), wrapping.secret, _bound_to(key)
                )
            )
        except (Changed, ValueError):
            tokens = None
        if tokens is None:
            raise Unavailable(f"what is stored of {self._setting} was changed outside skytally: {SIGN_IN}")
        return tokens

    def _save(self) -> None:
        """Store a successor that could not be stored yet; until it is stored, this process uses it from memory."""
        unsaved = self._unsaved
        if unsaved is not None:
            with suppress(Unavailable):
                tenacity.Retrying(stop=tenacity.stop_after_attempt(WRITES), reraise=True)(self._write, *unsaved)
                with self._noting:
                    if self._unsaved is unsaved:
                        self._unsaved = None

    def _write(self, key: str, document: RenewedCredential) -> Outcome:
        return self._documents.write([Write("credential", key, _version(document), document)]).result()[0]

    def _busy(self) -> Unavailable:
        return Unavailable(f"another process renews the {self._source} token: ask again")

    def _nothing_read(self) -> Unavailable:
        return Unavailable(f"{self._setting} cannot be read, or holds no token")


def parsed(text: bytes) -> Tokens | None:
    """Return the tokens that an HTTP header can hold; None without an access token."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    good = {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and value.isascii() and value.isprintable() and value
    }
    return Tokens(good["access_token"], good.get("refresh_token")) if "access_token" in good else None


def described(document: RenewedCredential, now: datetime) -> tuple[str, str]:
    """Return a credential's state, and a description: which token is used and since when."""
    if document.refused_at is not None:
        return FAILING, f"{document.source} refused to renew the token: {SIGN_IN}"
    if document.begun_at is not None and now - document.begun_at >= LEASE:
        return FAILING, f"a refresh token of {document.source} was sent and the answer was lost: {SIGN_IN}"
    if document.renewed_at is None:
        return WELL, f"the token file's own is used, since {iso(document.used_since)}"
    return WELL, f"renewed {iso(document.renewed_at)}, from a token file that is used since {iso(document.used_since)}"


def _sealed(key: str, document: RenewedCredential, tokens: Tokens, wrapping: Key) -> RenewedCredential:
    sealed = key_wrapping.wrap(msgspec.json.encode(tokens), wrapping.secret, _bound_to(key))
    return structs.replace(document, wrapping_key=wrapping.name, sealed=base64.b64encode(sealed).decode())


def _after(document: RenewedCredential, now: datetime) -> datetime:
    """Return the time of a change: now, but always after the document's last change."""
    return max(now, document.changed_at + timedelta(milliseconds=1))


def _version(document: RenewedCredential) -> int:
    return to_ms(document.changed_at)


def _bound_to(key: str) -> bytes:
    return f"skytally/v1 credential|{key}".encode()
