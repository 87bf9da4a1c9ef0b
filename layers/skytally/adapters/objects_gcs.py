"""Objects in a bucket of Google Cloud Storage: a create is an upload with `ifGenerationMatch=0`.

::

    <bucket>/<prefix>/<key>          the prefix may be empty
    200 created · 412 was there · 5xx, time-out, lost connection: not known what happened → Unavailable

Retries are off for creates: a retried upload that had been committed would answer 412 to its own maker. `timeCreated` is the store's
clock. STORAGE_EMULATOR_HOST names an emulator, as Google's client has it.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
from google.api_core.exceptions import GoogleAPIError, PreconditionFailed
from google.api_core.exceptions import NotFound as GoogleNotFound
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from skytally.errors import NotFound, Unavailable
from skytally.ports import Created, Exists

T = TypeVar("T")
SECONDS = (5, 15)
PATIENCE = {"timeout": SECONDS, "retry": DEFAULT_RETRY.with_timeout(20.0)}
FAILURES = (GoogleAPIError, GoogleAuthError, requests.RequestException, OSError)


class GcsObjects:
    """The objects port on one bucket and prefix."""

    def __init__(self, bucket: str, prefix: str, emulator: str | None = None) -> None:
        self._name, self._prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._emulator = emulator
        self._making = threading.Lock()
        self._made: Any = None

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Upload unless the name is taken; a refused condition is the only answer that means taken."""
        blob = self._bucket().blob(self._prefix + key)
        try:
            blob.upload_from_string(data, content_type="application/octet-stream", if_generation_match=0, retry=None, timeout=SECONDS)
        except PreconditionFailed:
            return Exists()
        except FAILURES as error:
            raise _unavailable(error) from error
        return Created(blob.time_created)

    def get(self, key: str) -> bytes:
        """Read an object whole."""
        data: bytes = self._ask(lambda bucket: bucket.blob(self._prefix + key).download_as_bytes(raw_download=True, **PATIENCE))
        return data

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is success."""
        try:
            self._ask(lambda bucket: bucket.blob(self._prefix + key).delete(**PATIENCE))
        except NotFound:
            return

    def list(self, prefix: str) -> Iterator[str]:
        """List in key order, page by page."""
        pages = self._ask(lambda bucket: bucket.list_blobs(prefix=self._prefix + prefix, **PATIENCE)).pages
        while True:
            page = self._ask(lambda _: next(pages, None))
            if page is None:
                return
            for blob in page:
                yield blob.name.removeprefix(self._prefix)

    def versioned(self) -> bool:
        """Say whether the bucket keeps versions or deleted objects, which keeps payloads."""
        bucket = self._ask(lambda bucket: bucket)
        self._ask(lambda b: b.reload(**PATIENCE))
        kept = bucket.soft_delete_policy.retention_duration_seconds if self._emulator is None else 0
        return bool(bucket.versioning_enabled or kept)

    def create_slowly(self, key: str, data: bytes, midway: Callable[[], None]) -> Created | Exists | None:  # noqa: ARG002
        """Answer None: Google's client sends a small upload in one piece."""
        return None

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return question(self._bucket())
        except GoogleNotFound as error:
            if "bucket" in str(error.message).lower() and "object" not in str(error.message).lower():
                raise _unavailable(error) from error
            raise NotFound("there is no such object") from None
        except FAILURES as error:
            raise _unavailable(error) from error

    def _bucket(self) -> Any:
        with self._making:
            if self._made is None:
                try:
                    emulated = {"credentials": AnonymousCredentials(), "project": "emulator"} if self._emulator else {}
                    self._made = storage.Client(**emulated).bucket(self._name)
                except FAILURES as error:
                    raise _unavailable(error) from error
            return self._made


def _unavailable(error: Exception) -> Unavailable:
    """Say what is wrong by the error's kind; its text may hold a URL."""
    return Unavailable(f"the object store did not do this ({type(error).__name__}): check SKYTALLY_OBJECTS, and ask again")
