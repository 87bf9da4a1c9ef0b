"""Rate limits: a bounded number of token buckets, one per caller, in this process alone.

A bucket holds the calls of a minute, so that ten thousand vms behind one address may boot together. A bucket that was
not used for a minute is full again, so it is dropped. If there are more callers than buckets, the bucket unused for
longest is dropped; a dropped bucket comes back full.
"""

import ipaddress
import math
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

CLAIMING = "secret_claim"
BURST_SECONDS = 60
BURST = timedelta(seconds=BURST_SECONDS)
MAX_BUCKETS = 20_000
# A holder of one IPv6 address usually holds its whole /64.
IPV6_PREFIX = 64


class Buckets:
    """Token buckets by caller, all refilled at the same rate."""

    def __init__(self, calls_per_second: float, max_buckets: int = MAX_BUCKETS) -> None:
        self._calls_per_second, self._max_buckets = calls_per_second, max_buckets
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def wait_seconds(self, caller: str, now: datetime) -> int:
        """Take one call from a caller's bucket and return 0, or return after how many seconds there will be one."""
        capacity = self._calls_per_second * BURST_SECONDS
        calls, filled_at = self._buckets.pop(caller, (capacity, now))
        calls = min(capacity, calls + max(0.0, (now - filled_at).total_seconds()) * self._calls_per_second)
        is_allowed = calls >= 1
        self._buckets[caller] = (calls - 1 if is_allowed else calls, max(filled_at, now))
        while len(self._buckets) > self._max_buckets or self._is_oldest_full(now):
            self._buckets.popitem(last=False)
        return 0 if is_allowed else math.ceil((1 - calls) / self._calls_per_second)

    def _is_oldest_full(self, now: datetime) -> bool:
        _, filled_at = next(iter(self._buckets.values()))
        return now - filled_at >= BURST


@lru_cache(MAX_BUCKETS)
def network_of(address: str) -> str | None:
    """Return the network that an address counts as: itself, or its IPv6 /64; None for loopback and non-addresses.

    Loopback is not limited: every caller has it behind a local proxy that the settings do not trust.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return network_of(str(parsed.ipv4_mapped))
        if not parsed.is_loopback:
            return str(ipaddress.ip_network((int(parsed) >> (128 - IPV6_PREFIX) << (128 - IPV6_PREFIX), IPV6_PREFIX)))
    return None if parsed.is_loopback else str(parsed)


class Limits:
    """The rate limits of one function's process: per address, per token, and for claims per address.

    Both limits hold, so neither many tokens from one address nor one token from many addresses evade them. Tokens are
    kept as digests. A rate of 0 means no limit.
    """

    def __init__(self, calls_per_second: int, claims_per_second: int) -> None:
        self._by_address = Buckets(calls_per_second) if calls_per_second else None
        self._by_token = Buckets(calls_per_second) if calls_per_second else None
        self._claims = Buckets(claims_per_second) if claims_per_second else None
        self._key = secrets.token_bytes(16)

    def wait_seconds(self, function: str, address: str, authorization: str, now: datetime) -> int:
        """Return 0 for an admitted call, else after how many seconds the caller may try again."""
        network = network_of(address)
        claims = self._claims if function == CLAIMING else None
        limits = [(claims, network), (self._by_address, network), (self._by_token, self._digest(authorization))]
        waits = (buckets.wait_seconds(caller, now) for buckets, caller in limits if buckets is not None and caller)
        return next((wait for wait in waits if wait), 0)

    def _digest(self, authorization: str) -> str:
        return blake2b(authorization.encode(), key=self._key, digest_size=16).hexdigest() if authorization else ""
