"""Objects in a bucket of S3 or of what speaks it: a create is a PUT with `If-None-Match: *`.

::

    <bucket>/<prefix>/<key>          the prefix may be empty
    200 created · 412 was there · 409, 5xx, time-out, lost connection: not known what happened → Unavailable

The SDK's own retries are off for creates: a retried PUT that had been committed would answer 412 to its own maker. The
answer's Date header is the store's clock; a created object without one is an outcome not known. Only NoSuchKey is
absence: any other 404 comes from a missing bucket, or from something that is no S3 at all.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, TypeVar

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from skytally.core.errors import Misconfigured, NotFound, Unavailable
from skytally.core.ports import OBJECT_KEY, Created, DiskUsage, Exists, checked_key, checked_prefix

T = TypeVar("T")
CONNECT_SECONDS, READ_SECONDS = 2, 6
POOL_CONNECTIONS = 64


class S3Objects:
    """The objects port on one bucket and prefix, safe for threads; creates have their own client without retries."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None = None) -> None:
        self._bucket, self._prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._making = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[int, bool], Any] = {}

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Put unless the name is taken: only a failed precondition means taken; see the port."""
        return self._put(self._client(attempts=1), key, data)

    def _put(self, client: Any, key: str, data: Any) -> Created | Exists:
        where = self._at(key)
        try:
            answer = client.put_object(**where, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if _status(error) == 412:
                return Exists()
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return Created(_clock(answer))

    def get(self, key: str) -> bytes:
        """Return a whole object; see the port."""
        where = self._at(key)
        data: bytes = self._ask(lambda s3: s3.get_object(**where)["Body"].read())
        return data

    def delete(self, key: str) -> None:
        """Delete an object; an absent one is success, whatever the store answers."""
        where = self._at(key)
        with contextlib.suppress(NotFound):
            self._ask(lambda s3: s3.delete_object(**where))

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys in order, a thousand per page; see the port."""
        full_prefix = self._prefix + checked_prefix(prefix)
        more: dict[str, str] = {}
        while True:
            page = self._page(full_prefix, more)
            names = (item["Key"].removeprefix(self._prefix) for item in page.get("Contents", ()))
            yield from filter(OBJECT_KEY.fullmatch, names)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, prefix: str, more: dict[str, str]) -> Any:
        return self._ask(lambda s3: s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more))

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    def rooms(self) -> Sequence[DiskUsage]:
        """Return none: a bucket has no limit."""
        return ()

    def versioned(self) -> bool:
        """Return whether the bucket keeps versions: they break creates on some stores, and keep payloads on all."""
        return bool(self._ask(lambda s3: s3.get_bucket_versioning(Bucket=self._bucket)).get("Status"))

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Create as the body is read: unsigned, since signing would read the whole body first. See the port."""
        return self._put(self._client(attempts=1, signed=False), key, body)

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return question(self._client(attempts=3))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
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
                self._clients[attempts, signed] = self._made(config)
            return self._clients[attempts, signed]

    def _made(self, config: ClientConfig) -> Any:
        try:
            self._session = self._session or boto3.session.Session()
            return self._session.client("s3", endpoint_url=self._endpoint, config=config)
        except (ValueError, BotoCoreError) as error:
            raise Misconfigured.setting(
                "SKYTALLY_S3_ENDPOINT", f"no client can be made for it ({type(error).__name__})"
            ) from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _clock(answer: dict[str, Any]) -> datetime:
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        raise Unavailable(
            "the object store does not say when it did this: check what stands in front of it, and ask again"
        ) from None


def _unavailable(error: Exception) -> Unavailable:
    """Return the error by the store's short code, which contains no key and no secret."""
    code = error.response.get("Error", {}).get("Code", "?") if isinstance(error, ClientError) else type(error).__name__
    return Unavailable(f"the object store did not do this ({code}): check SKYTALLY_OBJECTS, and ask again")
