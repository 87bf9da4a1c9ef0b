"""What can go wrong, as one tree. The web turns each class into a status; nothing here knows HTTP.

SkytallyError
├── Malformed          the input is not what it must be; names the field
├── Unauthenticated    no token, or one that is not ours, or an old one
├── Forbidden          a good token, a wrong proof, or a policy that says no
│   ├── NotYours       a vm, cloud, site or group that the token does not name
│   └── Changed        what lies in the store is not what was left there
├── NotFound           it is known not to be there
├── Conflict
│   ├── Exists         the same name with another content
│   └── Taken          somebody has it already
├── Gone
│   ├── Expired        its time is over
│   └── Revoked        it was withdrawn
└── Unavailable        a store or source is away, or its answer is unknown: ask again, nothing was lost
    └── Misconfigured  a setting or file of the server's own is broken: the operator mends it, the caller asks again
"""

from typing import Any


class SkytallyError(Exception):
    """Any answer other than success, with a code for machines and a sentence that says what to do."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details = details

    @property
    def for_operator(self) -> str:
        """Return the sentence for whoever runs the server; a caller gets `message`."""
        return self.message


class Malformed(SkytallyError):
    """The input is not what it must be."""

    code = "malformed"


class Unauthenticated(SkytallyError):
    """There is no token that we signed and that still holds."""

    code = "unauthenticated"


class Forbidden(SkytallyError):
    """The caller is known, or need not be, and may not do this."""

    code = "forbidden"


class NotYours(Forbidden):
    """The token names another vm, cloud, site or group."""

    code = "not_yours"


class Changed(Forbidden):
    """What lies in the store is not what was left there."""


class NotFound(SkytallyError):
    """It is known not to be there; an outage is never this."""

    code = "unknown"


class Conflict(SkytallyError):
    """Something that is there already stands in the way."""

    code = "exists"


class Exists(Conflict):
    """The same name is there with another content."""

    code = "exists"


class Taken(Conflict):
    """Somebody has it already; the details say who."""

    code = "taken"


class Gone(SkytallyError):
    """It was there and will not come back."""

    code = "expired"


class Expired(Gone):
    """Its time is over."""

    code = "expired"


class Revoked(Gone):
    """It was withdrawn before anybody took it."""

    code = "revoked"


class Unavailable(SkytallyError):
    """A store or source is away, or did not say what it did: nothing is known, ask again."""

    code = "unavailable"


class Misconfigured(Unavailable):
    """A setting or a file of the server's own is broken: no caller's fault, so callers keep what they sent and ask again.

    `message` is for any caller. `reason` is for the operator alone, in logs and on the command line: it may quote what is broken.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def for_operator(self) -> str:
        """Return what is broken, in full."""
        return self.reason

    @staticmethod
    def setting(name: str, reason: str) -> "Misconfigured":
        """Return the error of a setting: callers learn its name, the operator also what is wrong with it."""
        return Misconfigured(f"the server's setting {name} is broken: tell its operator, and ask again", reason=f"setting {name}: {reason}")
