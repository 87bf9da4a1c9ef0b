"""The local server with a store that loses replies, for the race;
`--mutant` decides claims by check-then-delete instead.

Usage: python -m tests.support.race_server PORT LOST_SHARE [--mutant]
"""

import random
import sys
from typing import Any

from localstack import serve
from skytally.app import wiring
from skytally.core.config import Config
from skytally.core.errors import NotFound, Unavailable
from skytally.secrets import claims


class LossyObjects:
    """A real store whose creates are sometimes done and not told, sometimes neither."""

    def __init__(self, store: Any, lost_share: float) -> None:
        self._store, self._lost_share = store, lost_share
        self._random = random.Random()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes) -> Any:
        if key.startswith("mark/") and self._random.random() < self._lost_share / 3:
            raise Unavailable("lost before it was done")
        made = self._store.create(key, data)
        if key.startswith("mark/") and self._random.random() < self._lost_share:
            raise Unavailable("done, and the reply lost")
        return made


def check_then_delete(objects: Any, key: str, mark: claims.ClaimOutcome) -> Any:
    """Look whether anybody has it, then write down that we do: what must never decide a claim."""
    try:
        return claims.read_outcome(objects, key), None
    except NotFound:
        objects.create(key, claims.msgspec.json.encode(mark))
        return mark, None


def main() -> None:
    lost_share = float(sys.argv[2])
    store = LossyObjects(wiring.open_objects(Config.from_env()), lost_share)
    wiring.objects = lambda: store
    if "--mutant" in sys.argv:
        claims.decide = check_then_delete
    sys.argv = ["serve.py", "--port", sys.argv[1], "--processes", "1"]
    serve.main()


if __name__ == "__main__":
    main()
