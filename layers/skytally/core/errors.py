"""All errors, as one tree. The package `http` maps each class to a status; nothing here knows HTTP.

SkytallyError
├── Malformed          the input is not what it must be; names the field
├── Unauthenticated    no token, or one that is not ours, or an old one
├── Forbidden          a good token, a wrong proof, or a policy that says no
│   ├── NotYours       a vm, cloud, site or group that the token does not name
│   └── Changed        what lies in the store is not what was left there
├── NotFound           it is known not to be there
├── Conflict
│   ├── IdempotencyKeyReused the same name with another content
│   └── Taken          somebody has it already
├── Gone
│   ├── Expired        its time is over
│   └── Revoked        it was withdrawn
└── Unavailable        a store or source is away, or its answer is unknown: ask again, nothing was lost
    └── Misconfigured  a setting or file of the server's own is broken: the operator mends it, the caller asks again
"""

from typing import Any, Literal, NotRequired, TypedDict

# Every code that an error or a refused item may have. Callers act on them, so none is ever renamed.
Code = Literal[
    "bad_bundle",
    "baseline_above_counters",
    "core_above_wall",
    "cpu_above_cores",
    "exists",
    "expired",
    "forbidden",
    "forgotten",
    "future_month",
    "head_too_large",
    "internal",
    "malformed",
    "malformed_benchmark",
    "malformed_gzip",
    "malformed_job",
    "malformed_previous",
    "malformed_public_key",
    "malformed_time",
    "method_not_allowed",
    "misdirected",
    "no_core_time",
    "not_closed",
    "not_over",
    "not_yours",
    "refused",
    "rejected",
    "revoked",
    "taken",
    "timeout",
    "too_large",
    "too_many_boots",
    "too_many_requests",
    "unauthenticated",
    "unavailable",
    "unknown",
    "unreadable_boot",
    "unsendable",
    "unsupported_encoding",
    "unsupported_media_type",
    "uptime_above_age",
    "wall_above_uptime",
    "wrong_baseline",
    "wrong_month",
]


class Holder(TypedDict):
    """Who took a secret."""

    vm: str | None
    address: str | None
    spki_sha256: str | None
    at: str


class ErrorDetails(TypedDict):
    """What went wrong: a code for machines, a sentence that says what to do, and what else is known."""

    code: Code
    message: str
    field: NotRequired[str]
    incident: NotRequired[str]
    kind: NotRequired[Literal["duplicate", "contested"]]
    vm: NotRequired[str | None]
    address: NotRequired[str | None]
    spki_sha256: NotRequired[str | None]
    at: NotRequired[str]
    holders: NotRequired[list[Holder]]


class ErrorAnswer(TypedDict):
    """What every error is answered as."""

    error: ErrorDetails


class SkytallyError(Exception):
    """Any answer other than success, with a code for machines and a sentence that says what to do."""

    code: Code = "internal"

    def __init__(self, message: str, *, code: Code | None = None, **details: Any) -> None:
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

    code: Code = "malformed"


class Unauthenticated(SkytallyError):
    """No valid token of ours was presented."""

    code: Code = "unauthenticated"


class Forbidden(SkytallyError):
    """The caller may not do this."""

    code: Code = "forbidden"


class NotYours(Forbidden):
    """The token names another vm, cloud, site or group."""

    code: Code = "not_yours"


class Changed(Forbidden):
    """Stored data is not what was written."""


class NotFound(SkytallyError):
    """It does not exist; an outage never raises this."""

    code: Code = "unknown"


class Conflict(SkytallyError):
    """Something that exists already prevents this."""

    code: Code = "exists"


class IdempotencyKeyReused(Conflict):
    """The same Idempotency-Key came with another body before."""

    code: Code = "exists"


class Taken(Conflict):
    """Somebody has taken it; the details say who."""

    code: Code = "taken"


class Gone(SkytallyError):
    """It existed and will not come back."""

    code: Code = "expired"


class Expired(Gone):
    """It has expired."""

    code: Code = "expired"


class Revoked(Gone):
    """It was revoked before anybody took it."""

    code: Code = "revoked"


class Unavailable(SkytallyError):
    """A store or source is away, or its result is unknown: the same call may be repeated."""

    code: Code = "unavailable"


class Misconfigured(Unavailable):
    """A setting or a file of the server is broken: not the caller's fault, so callers keep what they sent and retry.

    `message` is for any caller. `reason` is for the operator alone, in logs and on the command line: it may quote the
    broken value.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def for_operator(self) -> str:
        """Return the full reason."""
        return self.reason

    @staticmethod
    def setting(name: str, reason: str) -> "Misconfigured":
        """Return the error of a setting: callers get its name, the operator also the reason."""
        return Misconfigured(
            f"the server's setting {name} is broken: tell its operator, and ask again",
            reason=f"setting {name}: {reason}",
        )
