"""Objects in a bucket of S3 or of what speaks it: a create is a PUT with `If-None-Match: *`.

::

    <bucket>/<prefix>/<key>          the prefix may be empty
    200 created · 412 was there · 409, 5xx, time-out, lost connection: not known what happened → Unavailable

The SDK's own retries are off for creates: a retried PUT that had been committed would answer 412 to its own maker. The answer's Date
header is the store's clock.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from skytally.errors import NotFound, Unavailable
from skytally.ports import Created, Exists

T = TypeVar("T")
CONNECT_SECONDS, READ_SECONDS = 5, 15
POOL_CONNECTIONS = 64


class S3Objects:
    """The objects port on one bucket and prefix; one client a process, safe from any thread."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None = None) -> None:
        self._bucket, self._prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._making = threading.Lock()
        self._clients: dict[tuple[int, bool], Any] = {}

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Put unless the name is taken; a refused condition is the only answer that means taken."""
        return self._put(self._client(attempts=1), key, data)

    def _put(self, client: Any, key: str, data: Any) -> Created | Exists:
        try:
            answer = client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if _status(error) == 412:
                return Exists()
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return Created(_clock(answer))

    def get(self, key: str) -> bytes:
        """Read an object whole."""
        data: bytes = self._ask(lambda s3: s3.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read())
        return data

    def delete(self, key: str) -> None:
        """Remove an object; S3 answers the same whether it was there or not."""
        self._ask(lambda s3: s3.delete_object(Bucket=self._bucket, Key=self._prefix + key))

    def list(self, prefix: str) -> Iterator[str]:
        """List in key order, a page of a thousand at a time."""
        more: dict[str, str] = {}
        while True:
            page = self._page(prefix, more)
            for found in page.get("Contents", ()):
                yield found["Key"].removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, prefix: str, more: dict[str, str]) -> Any:
        return self._ask(lambda s3: s3.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **more))

    def versioned(self) -> bool:
        """Say whether the bucket keeps versions, which breaks a create's promise on some stores and keeps payloads on all."""
        return bool(self._ask(lambda s3: s3.get_bucket_versioning(Bucket=self._bucket)).get("Status"))

    def create_slowly(self, key: str, data: bytes, midway: Callable[[], None]) -> Created | Exists:
        """Create, but do something else when half of the body has been sent: unsigned, since signing reads a body before it is sent."""
        return self._put(self._client(attempts=1, signed=False), key, _HalfwayBody(data, midway))

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return question(self._client(attempts=3))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"} and _status(error) == 404:
                raise NotFound("there is no such object") from None
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error

    def _client(self, attempts: int, *, signed: bool = True) -> Any:
        with self._making:
            if (attempts, signed) not in self._clients:
                config = ClientConfig(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    max_pool_connections=POOL_CONNECTIONS,
                    s3={"addressing_style": "path" if self._endpoint else "auto", "payload_signing_enabled": signed},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                self._clients[attempts, signed] = boto3.session.Session().client("s3", endpoint_url=self._endpoint, config=config)
            return self._clients[attempts, signed]


class _HalfwayBody:
    """A body whose second half waits for something else to be done."""

    def __init__(self, data: bytes, midway: Callable[[], None]) -> None:
        self._data, self._midway, self._at = data, midway, 0

    def __len__(self) -> int:
        return len(self._data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as a file does: clients measure a body by going to its end and back."""
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def tell(self) -> int:
        """Answer where the next read begins."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Give the first half at once, and the second after the other thing is done."""
        half = len(self._data) // 2
        if self._at >= half and self._at < len(self._data):
            self._midway()
            self._midway = _nothing
        end = half if self._at < half else len(self._data)
        if size is not None and size >= 0:
            end = min(end, self._at + size)
        piece = self._data[self._at : end]
        self._at = end
        return piece


def _nothing() -> None:
    """Do nothing."""


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _clock(answer: dict[str, Any]) -> datetime:
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return parsedate_to_datetime(headers["date"]).astimezone(UTC)


def _unavailable(error: Exception) -> Unavailable:
    """Say what is wrong by the store's short code, which holds no key and no secret."""
    code = error.response.get("Error", {}).get("Code", "?") if isinstance(error, ClientError) else type(error).__name__
    return Unavailable(f"the object store did not do this ({code}): check SKYTALLY_OBJECTS, and ask again")
