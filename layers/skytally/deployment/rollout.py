"""Rollouts: bring a platform to what a description specifies.

Invariants:

* A function counts as deployed when the process that answers has exactly the requested specification.
* Functions that match already are left alone.
* Running functions are changed one after another. The first whose new version does not answer ends the rollout, so a
  wrong setting reaches one function at most, and none on a platform that keeps the old version until the new one is
  ready.
* The next rollout finishes one that was interrupted.
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
Log = Callable[[str], None]


class Pace(Struct, frozen=True):
    """How long a rollout waits for one function, and its clock."""

    seconds: float = 120.0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Drift(Enum):
    """How a deployed function differs from its specification."""

    NONE = "as wanted"
    MISSING = "missing"
    CHANGED = "changed"
    NOT_READY = "not ready"
    UNWANTED = "not wanted"


class Row(Struct, frozen=True):
    """One function, timer or secret: how it differs, and the command that corrects it."""

    name: str
    kind: str
    drift: Drift
    words: str = ""
    remedy: str = "skytally deploy apply"


def hand_over(platform: FunctionPlatform, files: Mapping[str, str], names: Iterable[str], log: Log) -> None:
    """Put the missing secrets on the platform; raise Malformed before any change for one without a file.

    A new value has a new name, so functions are changed with it, and a roll-back still has the old one.
    """
    existing = platform.secrets()
    missing = sorted(set(names) - existing)
    without_file = [name for name in missing if name not in files]
    if without_file:
        raise Malformed(
            f"the platform keeps no secret {', '.join(without_file)}: "
            "hand it over with `skytally deploy secret NAME FILE`"
        )
    for name in missing:
        platform.put_secret(name, read_secret(Path(files[name])))
        log(f"secret {name}: kept")


def read_secret(path: Path) -> str:
    """Return the text of a secret's file; raise Malformed with the path, never with any content."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Malformed(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Malformed(f"{path} is no text, and platforms keep secrets as text") from None


def roll_out(platform: FunctionPlatform, specifications: Sequence[Specification], pace: Pace, log: Log) -> None:
    """Deploy functions: new ones all at once, then changed ones one after another, then timers.

    Raise Unavailable if a function does not answer in time, Malformed if the platform refuses one, Conflict if somebody
    else deploys another version meanwhile. Earlier changes stay.
    """
    deployed = {specification.service: platform.running(specification) for specification in specifications}
    new = [specification for specification in specifications if deployed[specification.service] is None]
    changed = [
        specification for specification in specifications if _differs(deployed[specification.service], specification)
    ]
    for specification in specifications:
        if specification not in new and specification not in changed:
            log(f"{specification.service}: unchanged")
    for specification in new:
        platform.put(specification)
    for specification in new:
        _wait(platform, specification, None, pace, log)
    for specification in changed:
        before = platform.running(specification)
        platform.put(specification)
        _wait(platform, specification, before.digest if before else None, pace, log)
    for specification in specifications:
        if isinstance(platform, TimerPlatform):
            platform.put_timer(specification)


def _differs(running: Running | None, specification: Specification) -> bool:
    """Return whether a deployed function has another specification or does not answer."""
    return running is not None and not (running.digest == specification.digest and running.is_ready)


def _wait(platform: FunctionPlatform, specification: Specification, before: str | None, pace: Pace, log: Log) -> None:
    """Wait until the new version answers; report what the platform says when that changes.

    `before` is the digest of the version before. Raise Conflict for a version that is neither.
    """
    deadline, reported = pace.monotonic() + pace.seconds, ""
    while True:
        running = platform.running(specification) or Running(None, "", words="the platform does not know it yet")
        if running.digest == specification.digest and running.is_ready:
            log(f"{specification.service}: deployed")
            return
        if running.digest not in {None, before, specification.digest}:
            raise Conflict(
                f"{specification.service} is not deployed: somebody else deployed another version at the same time"
            )
        if before is not None and running.digest == before != specification.digest:
            running = msgspec.structs.replace(
                running, words="the platform keeps the version before: can it pull the image?"
            )
        if running.is_final or pace.monotonic() >= deadline:
            why = running.words or "it does not answer, and the platform does not say why"
            raise Unavailable(f"{specification.service} is not deployed: {why}")
        if running.words and running.words != reported:
            log(f"{specification.service}: {(reported := running.words)}")
        pace.sleep(LOOK_EVERY_SECONDS)


def status(
    platform: FunctionPlatform,
    specifications: Sequence[Specification],
    secrets: Iterable[str],
    files: Collection[str] = (),
) -> list[Row]:
    """Return the differences from the specifications; `files` names the secrets that a rollout puts by itself."""
    services, secrets_kept = platform.services(), platform.secrets()
    rows = [_row(specification, platform.running(specification)) for specification in specifications]
    if isinstance(platform, TimerPlatform):
        timers = [(specification, platform.has_timer(specification)) for specification in specifications]
        rows += [
            Row(specification.service, "timer", Drift.NONE if is_so else Drift.CHANGED)
            for specification, is_so in timers
            if specification.schedule or not is_so
        ]
    rows += [
        Row(name, "function", Drift.UNWANTED, remedy=f"skytally deploy remove {name}")
        for name in unwanted(services, specifications)
    ]
    rows += [_secret_row(name, name in secrets_kept, name in files) for name in sorted(set(secrets))]
    return rows


def _secret_row(name: str, is_kept: bool, has_file: bool) -> Row:
    if is_kept or has_file:
        return Row(name, "secret", Drift.NONE if is_kept else Drift.MISSING)
    return Row(name, "secret", Drift.MISSING, remedy=f"skytally deploy secret {name} FILE")


def unwanted(services: Iterable[str], specifications: Sequence[Specification]) -> list[str]:
    """Return skytally's deployed functions without a specification, such as another version's."""
    return sorted(set(services) - {specification.service for specification in specifications})


def _row(specification: Specification, running: Running | None) -> Row:
    if running is None:
        return Row(specification.service, "function", Drift.MISSING)
    if running.digest != specification.digest:
        image = f"; its image is {running.image}" if running.image != specification.image else ""
        return Row(specification.service, "function", Drift.CHANGED, running.words + image)
    return Row(specification.service, "function", Drift.NONE if running.is_ready else Drift.NOT_READY, running.words)
