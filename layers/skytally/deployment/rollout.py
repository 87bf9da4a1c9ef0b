"""Rolling out: a platform is brought to what a description wants, and nothing is called deployed that does not answer.

Invariants: a function counts as deployed when the process that answers is of the very specification that was asked for.
What is so already is left alone. Functions that run are changed one after another, and the first whose new version does
not come up ends the rollout, so that a wrong setting reaches one function at most; where the platform keeps the old
version until the new one is ready, it reaches none. A rollout that was broken off is finished by the next.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path

import msgspec
from msgspec import Struct

from skytally.core.errors import Conflict, Malformed, Unavailable
from skytally.core.ports import FunctionPlatform, Running, Specification, TimerPlatform

LOOK_EVERY_SECONDS = 0.5
Tell = Callable[[str], None]


class Pace(Struct, frozen=True):
    """How long a rollout waits for one function, and by which clock."""

    seconds: float = 120.0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Drift(Enum):
    """How what runs differs from what is wanted."""

    NONE = "as wanted"
    MISSING = "missing"
    CHANGED = "changed"
    NOT_READY = "not ready"
    UNWANTED = "not wanted"


class Row(Struct, frozen=True):
    """One function, timer or secret, how it differs, and the command that puts it right."""

    name: str
    kind: str
    drift: Drift
    words: str = ""
    remedy: str = "skytally deploy apply"


def hand_over(platform: FunctionPlatform, files: Mapping[str, str], wanted: Iterable[str], tell: Tell) -> None:
    """Hand over the secrets that the platform does not keep yet;
    raise Malformed, before anything runs, for one that nobody has.

    A secret with another value has another name: so functions roll with it, and a roll-back finds the old one.
    """
    kept = platform.secrets()
    missing = sorted(set(wanted) - kept)
    unknown = [name for name in missing if name not in files]
    if unknown:
        raise Malformed(
            f"the platform keeps no secret {', '.join(unknown)}: hand it over with `skytally deploy secret NAME FILE`"
        )
    for name in missing:
        platform.put_secret(name, read_secret(Path(files[name])))
        tell(f"secret {name}: kept")


def read_secret(path: Path) -> str:
    """Return the text of a secret's file; raises Malformed with the path, never with a part of what is in it."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Malformed(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Malformed(f"{path} is no text, and platforms keep secrets as text") from None


def roll_out(platform: FunctionPlatform, wanted: Sequence[Specification], pace: Pace, tell: Tell) -> None:
    """Bring functions to what is wanted: those that are new all at once,
    then those that change, one after another; timers come last.

    Raises Unavailable where one does not come up in time, Malformed where the platform refuses one, Conflict where
    somebody else deploys another version meanwhile; what came before it stays.
    """
    found = {one.service: platform.running(one) for one in wanted}
    new = [one for one in wanted if found[one.service] is None]
    changed = [one for one in wanted if _differs(found[one.service], one)]
    for one in wanted:
        if one not in new and one not in changed:
            tell(f"{one.service}: unchanged")
    for one in new:
        platform.put(one)
    for one in new:
        _wait(platform, one, None, pace, tell)
    for one in changed:
        before = platform.running(one)
        platform.put(one)
        _wait(platform, one, before.digest if before else None, pace, tell)
    for one in wanted:
        if isinstance(platform, TimerPlatform):
            platform.put_timer(one)


def _differs(running: Running | None, wanted: Specification) -> bool:
    """Say whether a function that is there is another one, or one that does not answer."""
    return running is not None and not (running.digest == wanted.digest and running.is_ready)


def _wait(platform: FunctionPlatform, wanted: Specification, before: str | None, pace: Pace, tell: Tell) -> None:
    """Wait until the version that is wanted answers, telling what it waits for when that changes.

    `before` is the digest of the version that was there. Raises Conflict for one that is neither.
    """
    deadline, told = pace.monotonic() + pace.seconds, ""
    while True:
        running = platform.running(wanted) or Running(None, "", words="the platform does not know it yet")
        if running.digest == wanted.digest and running.is_ready:
            tell(f"{wanted.service}: deployed")
            return
        if running.digest not in {None, before, wanted.digest}:
            raise Conflict(f"{wanted.service} is not deployed: somebody else deployed another version at the same time")
        if before is not None and running.digest == before != wanted.digest:
            running = msgspec.structs.replace(
                running, words="the platform keeps the version before: can it pull the image?"
            )
        if running.is_final or pace.monotonic() >= deadline:
            why = running.words or "it does not answer, and the platform does not say why"
            raise Unavailable(f"{wanted.service} is not deployed: {why}")
        if running.words and running.words != told:
            tell(f"{wanted.service}: {(told := running.words)}")
        pace.sleep(LOOK_EVERY_SECONDS)


def status(
    platform: FunctionPlatform, wanted: Sequence[Specification], secrets: Iterable[str], files: Collection[str] = ()
) -> list[Row]:
    """Compare what runs with what is wanted; `files` names the secrets that a rollout hands over by itself."""
    there, kept = platform.services(), platform.secrets()
    rows = [_row(one, platform.running(one)) for one in wanted]
    if isinstance(platform, TimerPlatform):
        timers = [(one, platform.has_timer(one)) for one in wanted]
        rows += [
            Row(one.service, "timer", Drift.NONE if is_so else Drift.CHANGED)
            for one, is_so in timers
            if one.schedule or not is_so
        ]
    rows += [
        Row(name, "function", Drift.UNWANTED, remedy=f"skytally deploy remove {name}")
        for name in unwanted(there, wanted)
    ]
    rows += [_secret_row(name, name in kept, name in files) for name in sorted(set(secrets))]
    return rows


def _secret_row(name: str, is_kept: bool, has_file: bool) -> Row:
    if is_kept or has_file:
        return Row(name, "secret", Drift.NONE if is_kept else Drift.MISSING)
    return Row(name, "secret", Drift.MISSING, remedy=f"skytally deploy secret {name} FILE")


def unwanted(services: Iterable[str], wanted: Sequence[Specification]) -> list[str]:
    """Return the functions of ours that a platform has and nobody wants, such as another version's of skytally."""
    return sorted(set(services) - {one.service for one in wanted})


def _row(wanted: Specification, running: Running | None) -> Row:
    if running is None:
        return Row(wanted.service, "function", Drift.MISSING)
    if running.digest != wanted.digest:
        image = f"; its image is {running.image}" if running.image != wanted.image else ""
        return Row(wanted.service, "function", Drift.CHANGED, running.words + image)
    return Row(wanted.service, "function", Drift.NONE if running.is_ready else Drift.NOT_READY, running.words)
