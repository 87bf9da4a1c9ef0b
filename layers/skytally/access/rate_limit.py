"""How much one caller may ask: token buckets, a bounded number of them, in this process alone.

A bucket holds a minute's worth of calls, so that whoever is silent most of the time may come in a burst: ten thousand
vms behind one address that boot together do. Of more callers than there are places, those not heard of for longest are
forgotten, which only fills their buckets.
"""

import ipaddress
import math
import secrets
from collections import OrderedDict
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

CLAIMING = "secret_claim"
BURST_SECONDS = 60
PLACES = 20_000
# Whoever has one IPv6 address usually has all of these.
IPV6_PREFIX = 64


class Buckets:
    """A bucket a caller, each refilled at the same rate."""

    def __init__(self, per_second: float, places: int = PLACES) -> None:
        self._per_second, self._places = per_second, places
        self._left: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def wait_seconds(self, caller: str, now: datetime) -> int:
        """Take one call from a caller's bucket and answer 0, or answer in how many seconds there will be one."""
        most = self._per_second * BURST_SECONDS
        left, at = self._left.pop(caller, (most, now))
        left = min(most, left + max(0.0, (now - at).total_seconds()) * self._per_second)
        enough = left >= 1
        self._left[caller] = (left - 1 if enough else left, max(at, now))
        if len(self._left) > self._places:
            self._left.popitem(last=False)
        return 0 if enough else math.ceil((1 - left) / self._per_second)


@lru_cache(PLACES)
def place_of(address: str) -> str | None:
    """Return what an address is counted as: itself, or its IPv6 network;
    None for this machine and for what is no address.

    Behind a proxy on this machine that the settings do not trust, every caller would be this machine.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return place_of(str(parsed.ipv4_mapped))
        if not parsed.is_loopback:
            return str(ipaddress.ip_network((int(parsed) >> (128 - IPV6_PREFIX) << (128 - IPV6_PREFIX), IPV6_PREFIX)))
    return None if parsed.is_loopback else str(parsed)


class Limits:
    """What is asked of one function's process: by each address, by each token, and claims by each address.

    A rate of 0 is no limit.

    Both count, so that neither many tokens from one address nor one token from many gets around it; tokens are kept as
    digests.
    """

    def __init__(self, calls_per_second: int, claims_per_second: int) -> None:
        self._by_address = Buckets(calls_per_second) if calls_per_second else None
        self._by_token = Buckets(calls_per_second) if calls_per_second else None
        self._claims = Buckets(claims_per_second) if claims_per_second else None
        self._key = secrets.token_bytes(16)

    def wait_seconds(self, function: str, address: str, authorization: str, now: datetime) -> int:
        """Return 0 for a call that may go on, else after how many seconds the caller may ask again."""
        place = place_of(address)
        claims = self._claims if function == CLAIMING else None
        asked = [(claims, place), (self._by_address, place), (self._by_token, self._digest(authorization))]
        waits = (buckets.wait_seconds(caller, now) for buckets, caller in asked if buckets is not None and caller)
        return next((wait for wait in waits if wait), 0)

    def _digest(self, authorization: str) -> str:
        return blake2b(authorization.encode(), key=self._key, digest_size=16).hexdigest() if authorization else ""
