"""Objects in a bucket of Google Cloud Storage: a create is an upload with `ifGenerationMatch=0`.

::

    <bucket>/<prefix>/<key>          the prefix may be empty
    200 created · 412 was there · 5xx, time-out, lost connection: not known what happened → Unavailable

Retries are off for creates: a retried upload that had been committed would answer 412 to its own maker. `timeCreated`
is the store's clock. A 404 does not say whether object or bucket is missing, so absence is answered only after the
bucket has been listed. Deletes name no generation: emulators delete whatever the generation. STORAGE_EMULATOR_HOST
names an emulator, as Google's client has it.
"""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

import requests
from google.api_core.exceptions import GoogleAPIError, PreconditionFailed
from google.api_core.exceptions import NotFound as GoogleNotFound
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from skytally.core.errors import NotFound, Unavailable
from skytally.core.ports import OBJECT_KEY, Created, DiskUsage, Exists, checked_key, checked_prefix

T = TypeVar("T")
SECONDS = (2, 6)
PIECE_BYTES = 256 * 1_024
MEDIA = "application/octet-stream"
PATIENCE = {"timeout": SECONDS, "retry": DEFAULT_RETRY.with_timeout(8.0)}
FAILURES = (GoogleAPIError, GoogleAuthError, requests.RequestException, OSError)


class GcsObjects:
    """The objects port on one bucket and prefix."""

    def __init__(self, bucket: str, prefix: str, emulator: str | None = None) -> None:
        self._name, self._prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._emulator = emulator
        self._making = threading.Lock()
        self._made: Any = None

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Upload unless the name is taken: only a failed precondition means taken; see the port."""
        return self._upload(self._blob(key), io.BytesIO(data), len(data))

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Upload piece by piece as the body is read; the condition is checked with the last piece. See the port."""
        return self._upload(self._blob(key, PIECE_BYTES), body, None)

    @staticmethod
    def _upload(blob: Any, body: BinaryIO, size: int | None) -> Created | Exists:
        try:
            blob.upload_from_file(
                body, size=size, content_type=MEDIA, if_generation_match=0, retry=None, timeout=SECONDS
            )
        except PreconditionFailed:
            return Exists()
        except FAILURES as error:
            raise _unavailable(error) from error
        return Created(blob.time_created)

    def get(self, key: str) -> bytes:
        """Return a whole object; see the port."""
        data: bytes = self._ask_of(key, lambda blob: blob.download_as_bytes(raw_download=True, **PATIENCE))
        return data

    def delete(self, key: str) -> None:
        """Delete an object; an absent one is success."""
        with contextlib.suppress(NotFound):
            self._ask_of(key, lambda blob: blob.delete(**PATIENCE))

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys in order, page by page; see the port."""
        full_prefix = self._prefix + checked_prefix(prefix)
        pages = self._ask(lambda: self._bucket().list_blobs(prefix=full_prefix, **PATIENCE)).pages
        while True:
            page = self._ask(lambda: next(pages, None))
            if page is None:
                return
            yield from filter(OBJECT_KEY.fullmatch, (blob.name.removeprefix(self._prefix) for blob in page))

    def rooms(self) -> Sequence[DiskUsage]:
        """Return none: a bucket has no limit."""
        return ()

    def versioned(self) -> bool:
        """Return whether the bucket keeps versions or deleted objects, and with them payloads."""
        bucket = self._bucket()
        self._ask(lambda: bucket.reload(**PATIENCE))
        return bool(bucket.versioning_enabled or bucket.soft_delete_policy.retention_duration_seconds)

    def _ask_of(self, key: str, question: Callable[[Any], T]) -> T:
        """Return the result of a call on one object, or raise NotFound."""
        blob = self._blob(key)
        try:
            return question(blob)
        except GoogleNotFound:
            next(self.list(key), None)
            raise NotFound("there is no such object") from None
        except FAILURES as error:
            raise _unavailable(error) from error

    @staticmethod
    def _ask(question: Callable[[], T]) -> T:
        try:
            return question()
        except FAILURES as error:
            raise _unavailable(error) from error

    def _blob(self, key: str, piece_bytes: int | None = None) -> Any:
        return self._bucket().blob(self._prefix + checked_key(key), chunk_size=piece_bytes)

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
    """Return the error by its class alone; its text may contain a URL."""
    return Unavailable(
        f"the object store did not do this ({type(error).__name__}): check SKYTALLY_OBJECTS, and ask again"
    )
