"""The load generator of every bench: raw HTTP/1.1 requests on some connections that stay open, all of them timed.

It runs on the same cores as the server, so a figure means something only beside another of the same generator. What
it used of them itself is in its result.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Load:
    """What some requests took: in all, each, and of CPU time, the generator's own and the servers'."""

    seconds: float = 0.0
    latencies_seconds: list[float] = field(default_factory=list)
    generator_cpu_seconds: float = 0.0
    server_cpu_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Return the requests answered in a second."""
        return len(self.latencies_seconds) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Return the milliseconds within which this share of the requests was answered."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e3

    def add(self, other: "Load") -> None:
        """Add the requests of another time on the same server."""
        self.seconds += other.seconds
        self.latencies_seconds += other.latencies_seconds
        self.generator_cpu_seconds += other.generator_cpu_seconds
        self.server_cpu_seconds += other.server_cpu_seconds


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Write a POST request with its body."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def post_json(path: str, body: bytes, token: str = "") -> bytes:
    """Write a POST request with a JSON body."""
    return post(path, body, "Content-Type: application/json", *[f"Authorization: Bearer {token}"] * bool(token))


def drive(port: int, requests: Sequence[bytes], connections: int, is_good: Callable[[bytes], bool] = bool) -> Load:
    """Send all requests over so many connections.

    Raise RuntimeError for an answer that is no 200, or whose body is not good.
    """
    waiting, load = iter(requests), Load()
    return timed(lambda: (_send(port, waiting, load.latencies_seconds, is_good) for _ in range(connections)), load)


def timed(senders: Callable[[], Iterable[Coroutine[Any, Any, None]]], load: Load) -> Load:
    """Run senders, which write down what each request took, together to their end; return the load with its time."""

    async def send_all() -> None:
        await asyncio.gather(*senders())

    began, cpu_began = time.perf_counter(), time.process_time()
    asyncio.run(send_all())
    load.seconds, load.generator_cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return load


async def _send(
    port: int, waiting: Iterator[bytes], latencies_seconds: list[float], is_good: Callable[[bytes], bool]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in waiting:
        began = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        body = await reader.readexactly(length)
        if not head.startswith(b"http/1.1 200") or not is_good(body):
            raise RuntimeError(f"{head.decode()}{body[:500].decode(errors='replace')}")
        latencies_seconds.append(time.perf_counter() - began)
    writer.close()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of `size`; the last may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
