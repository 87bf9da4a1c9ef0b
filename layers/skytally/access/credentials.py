"""Credentials that renew themselves: the pair of a token file,
and what it was exchanged for since, shared by all processes.

::

    token file        `{"access_token", "refresh_token"}`, or one bare access token; never written
    index credential  one document a token file, by its digest: so a file that a person replaces counts at once, with a
                      document of its own

A refresh token works once, and who sends it again ends every session of its user. So an exchange has two steps, each of
them durable before the next begins: the document says that it has begun, under a turn that one process takes; then the
token is sent. What it was exchanged for is sealed and stored before it is used.

Invariant: no refresh token is sent twice, whatever is killed or frozen, unless the source said that it still holds or
nothing was sent.

The successor is lost where a process dies, or the answer does, between the source's side of the exchange and the one
write that follows it. Then, and where the source refuses, nobody sends anything any more: a person must sign the robot
in again and write the token file.
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
    """What a source is asked with, and what that is renewed by where it can be."""

    access_token: str
    refresh_token: str | None = None

    def __repr__(self) -> str:
        """Never show them."""
        return "Tokens()"


class Refused(Unavailable):
    """The source refuses to renew a token, for good."""


class NotExchanged(Unavailable):
    """The source did not exchange a token, which still holds."""


class Credential:
    """One token file and what it became; safe from any thread, and beside other processes."""

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
        """Return what the source is to be asked with now."""
        return self._read()[2]

    def renewed(self, refused: Tokens, exchange: Callable[[str], Tokens]) -> Tokens:
        """Return what is to be used in place of tokens that were refused,
        exchanging the refresh token where nobody has done so already.

        `exchange` sends it, and raises Refused or NotExchanged, or Unavailable where it is not known what became of it.
        """
        with self._renewing:
            key, known, tokens = self._read()
            if tokens != refused:
                return tokens
            now, refresh_token, wrapping = self._now(), tokens.refresh_token, self._keys().wrapping[0]
            if refresh_token is None:
                raise Unavailable(
                    f"the {self._source} token was refused and cannot be renewed: write a new one to {self._setting}"
                )
            self._check(known, now)
            if not take_turn(f"renewal-{key}", known.changed_at, self._documents, now):
                raise self._busy()
            # Whoever had the turn before may have come to an end since.
            latest_key, latest, tokens = self._read()
            if tokens != refused:
                return tokens
            # The time from before the turn was taken: whoever froze since then loses to whoever went on.
            begun = structs.replace(latest, begun_at=now, changed_at=_after(latest, now))
            if (latest_key, latest.changed_at) != (key, known.changed_at) or self._write(
                key, begun
            ) is not Outcome.STORED:
                raise self._busy()
            new = self._exchanged(key, begun, refresh_token, exchange)
            # From here on the successor is in this process alone: nothing may come between.
            now = self._now()
            sealed = _sealed(key, begun, new, wrapping)
            successor = structs.replace(sealed, changed_at=_after(begun, now), renewed_at=now, begun_at=None)
            with self._noting:
                self._unsaved = key, successor
            self._save()
            return new

    def state(self) -> tuple[str, str]:
        """Return how the credential is, and in words which one is used; raises Unavailable where none can be.

        Nothing is written.
        """
        text = self._text()
        self._parsed(text)
        key, now = self._key(text), self._now()
        known = self._documents.get("credential", key, RenewedCredential)
        if known is not None and known.sealed is not None:
            self._opened(key, known)
        return described(known or self._fresh(now), now)

    def _check(self, known: RenewedCredential, now: datetime) -> None:
        """Raise Unavailable where the refresh token must not be sent."""
        if known.begun_at is not None and now - known.begun_at < LEASE:
            raise self._busy()
        state, message = described(known, now)
        if state == FAILING:
            raise Unavailable(f"{message} ({self._setting})")

    def _exchanged(
        self, key: str, begun: RenewedCredential, refresh_token: str, exchange: Callable[[str], Tokens]
    ) -> Tokens:
        """Send the refresh token and return what it was exchanged for; where it was not, store that."""
        try:
            new = exchange(refresh_token)
        except (Refused, NotExchanged) as error:
            now = self._now()
            refused_at = now if isinstance(error, Refused) else None
            self._write(
                key, structs.replace(begun, begun_at=None, changed_at=_after(begun, now), refused_at=refused_at)
            )
            raise
        # A server that does not replace refresh tokens names none.
        return new if new.refresh_token else structs.replace(new, refresh_token=refresh_token)

    def _read(self) -> tuple[str, RenewedCredential, Tokens]:
        """Return where the file's document lies, the document, and the tokens that count."""
        text = self._text()
        key, from_file = self._key(text), self._parsed(text)
        self._save()
        unsaved = self._unsaved
        known = unsaved[1] if unsaved and unsaved[0] == key else self._stored(key)
        if known.sealed is None:
            return key, known, from_file
        tokens = self._opened(key, known)
        wrapping = self._keys().wrapping[0]
        if known.wrapping_key != wrapping.name:
            # Nothing newer is overwritten: it has the version of what it replaces.
            self._write(key, _sealed(key, known, tokens, wrapping))
        return key, known, tokens

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
        """Return a file's document, and make it where the file is new."""
        known = self._documents.get("credential", key, RenewedCredential)
        if known is None:
            fresh = self._fresh(self._now())
            self._documents.write([Write("credential", key, _version(fresh), fresh, create=True)]).result()
            known = self._documents.get("credential", key, RenewedCredential)
        if known is None:
            raise Unavailable(f"what is stored of {self._setting} cannot be read: {SIGN_IN}")
        return known

    def _fresh(self, now: datetime) -> RenewedCredential:
        return RenewedCredential(source=self._source, used_since=now, changed_at=now)

    def _opened(self, key: str, known: RenewedCredential) -> Tokens:
        wrapping = named(self._keys().wrapping, known.wrapping_key or "")
        if wrapping is None:
            raise Unavailable(
                f"wrapping key {known.wrapping_key} is missing: put its file back into SKYTALLY_KEYS, or {SIGN_IN}"
            )
        try:
            tokens = parsed(
                key_wrapping.unwrap(
                    base64.b64decode(known.sealed or "", validate=True), wrapping.secret, _bound_to(key)
                )
            )
        except (Changed, ValueError):
            tokens = None
        if tokens is None:
            raise Unavailable(f"what is stored of {self._setting} was changed outside skytally: {SIGN_IN}")
        return tokens

    def _save(self) -> None:
        """Store what could not be stored yet;
        until it is, this process goes on with it, or with what another thread has got since.
        """
        unsaved = self._unsaved
        if unsaved is not None:
            with suppress(Unavailable):
                tenacity.Retrying(stop=tenacity.stop_after_attempt(WRITES), reraise=True)(self._write, *unsaved)
                with self._noting:
                    if self._unsaved is unsaved:
                        self._unsaved = None

    def _write(self, key: str, known: RenewedCredential) -> Outcome:
        return self._documents.write([Write("credential", key, _version(known), known)]).result()[0]

    def _busy(self) -> Unavailable:
        return Unavailable(f"another process renews the {self._source} token: ask again")

    def _nothing_read(self) -> Unavailable:
        return Unavailable(f"{self._setting} cannot be read, or holds no token")


def parsed(text: bytes) -> Tokens | None:
    """Read tokens that a header can hold; None where there is no access token."""
    try:
        told = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    good = {
        name: value
        for name, value in told.items()
        if isinstance(value, str) and value.isascii() and value.isprintable() and value
    }
    return Tokens(good["access_token"], good.get("refresh_token")) if "access_token" in good else None


def described(known: RenewedCredential, now: datetime) -> tuple[str, str]:
    """Return how a credential is, and in words which one is used and since when."""
    if known.refused_at is not None:
        return FAILING, f"{known.source} refused to renew the token: {SIGN_IN}"
    if known.begun_at is not None and now - known.begun_at >= LEASE:
        return FAILING, f"a refresh token of {known.source} was sent and the answer was lost: {SIGN_IN}"
    if known.renewed_at is None:
        return WELL, f"the token file's own is used, since {iso(known.used_since)}"
    return WELL, f"renewed {iso(known.renewed_at)}, from a token file that is used since {iso(known.used_since)}"


def _sealed(key: str, known: RenewedCredential, tokens: Tokens, wrapping: Key) -> RenewedCredential:
    sealed = key_wrapping.wrap(msgspec.json.encode(tokens), wrapping.secret, _bound_to(key))
    return structs.replace(known, wrapping_key=wrapping.name, sealed=base64.b64encode(sealed).decode())


def _after(known: RenewedCredential, now: datetime) -> datetime:
    """Return when a document changes: now, and in any case after its last change."""
    return max(now, known.changed_at + timedelta(milliseconds=1))


def _version(known: RenewedCredential) -> int:
    return to_ms(known.changed_at)


def _bound_to(key: str) -> bytes:
    return f"skytally/v1 credential|{key}".encode()
