"""Refusals of HTTP itself: a method, a size, a media type, a slow sender, too many requests."""

from collections.abc import Mapping

from skytally.core.errors import Code, SkytallyError


class HttpError(SkytallyError):
    """A refusal with a status of its own."""

    def __init__(self, status: int, code: Code, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = dict(headers or {})


def too_large(max_bytes: int) -> HttpError:
    """Return the refusal of a body above its function's cap."""
    return HttpError(413, "too_large", f"send at most {max_bytes} bytes at once")


def too_slow(part: str) -> HttpError:
    """Return the refusal of a request that does not come in time."""
    return HttpError(408, "timeout", f"the {part} came too slowly: send the request again")


def too_many(wait_seconds: int, message: str = "this caller asks too often") -> HttpError:
    """Return the refusal of a caller that is beyond its share."""
    return HttpError(
        429, "too_many_requests", f"{message}: ask again in {wait_seconds} s", {"Retry-After": str(wait_seconds)}
    )
