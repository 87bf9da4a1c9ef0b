"""Deployment: what a platform must be told of each function, from a site's description and the one list in catalog.py.

One image holds all functions; FUNCTION_TARGET chooses. Secrets are files that the platform mounts at SECRETS_FOLDER and are named here,
never held. What is the same on every platform is here, an adapter a platform says it in that platform's words.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import Struct

from skytally.catalog import FUNCTIONS, Function
from skytally.clock import now
from skytally.errors import Malformed
from skytally.ports import Specification

MEMORY = {"limit": "256Mi", "request": "96Mi"}
SECRETS_FOLDER = "/var/openfaas/secrets"
KEY_NAME = re.compile(r"(master|wrapping|token)-[0-9]{14}")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SETTING = re.compile(r"SKYTALLY_[A-Z0-9_]+|AWS_[A-Z0-9_]+|STORAGE_EMULATOR_HOST|GOOGLE_APPLICATION_CREDENTIALS")
SECRET_SETTING = re.compile(r"SECRET|PASSWORD|API_KEY$|SESSION_TOKEN")
IMAGE = re.compile(r"\S+(:[^\s:/]+|@sha256:[0-9a-f]{64})")


class Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site wants to run: settings and secrets of every function and of single ones, by function name.

    `secrets` are mounted by every function, keys among them by those that use keys. `secret_files` says where the values of secrets lie,
    so that a platform that lost them gets them again. `schedules` are other schedules of single timers (cron in UTC), an empty one
    switches the timer off.
    """

    image: str
    settings: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    function_settings: dict[str, dict[str, str]] = {}
    function_secrets: dict[str, tuple[str, ...]] = {}
    schedules: dict[str, str] = {}
    secret_files: dict[str, str] = {}

    @property
    def secret_names(self) -> set[str]:
        """Return every secret that some function mounts."""
        return {*self.secrets, *(name for names in self.function_secrets.values() for name in names)}


def parse(text: bytes) -> Description:
    """Read a description, written in YAML or JSON; raises Malformed with what is wrong and where."""
    try:
        # JSON is YAML but for what some characters are written as.
        decode = msgspec.json.decode if text.lstrip().startswith(b'{"') else msgspec.yaml.decode
        described = decode(text, type=Description)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"this is no description of a deployment: {error}") from None
    _check(described)
    return described


def specifications(described: Description) -> list[Specification]:
    """Return what is wanted of each function."""
    return [_specification(function, described) for function in FUNCTIONS]


def _specification(function: Function, described: Description) -> Specification:
    secrets = {name for name in described.secrets if function.keys or not KEY_NAME.fullmatch(name)}
    settings = {"SKYTALLY_KEYS": SECRETS_FOLDER, **described.settings, **described.function_settings.get(function.name, {})}
    return Specification(
        service=function.service,
        image=described.image,
        settings=settings | {"FUNCTION_TARGET": function.name},
        secrets=tuple(sorted(secrets | set(described.function_secrets.get(function.name, ())))),
        schedule=described.schedules.get(function.service, function.schedule or "") or None,
        memory_limit=MEMORY["limit"],
        memory_request=MEMORY["request"],
    )


def _check(described: Description) -> None:
    if not IMAGE.fullmatch(described.image):
        raise Malformed("image must name a tag or a digest, so that a roll-back is one too", field="image")
    _check_names("function_settings", described.function_settings, {function.name for function in FUNCTIONS})
    _check_names("function_secrets", described.function_secrets, {function.name for function in FUNCTIONS})
    _check_names("schedules", described.schedules, {function.service for function in FUNCTIONS if function.schedule})
    for settings in (described.settings, *described.function_settings.values()):
        _check_settings(settings)
    for name in described.secret_names | set(described.secret_files):
        if not DNS_LABEL.fullmatch(name):
            raise Malformed(f"{name!r} is no name of a secret: platforms take up to 63 of a-z, 0-9 and -", field="secrets")
    for service, schedule in described.schedules.items():
        _check_schedule(service, schedule)


def _check_names(field: str, given: Iterable[str], known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise Malformed(f"{field} names {unknown[0]!r}, which is none of {', '.join(sorted(known))}", field=field)


def _check_settings(settings: Mapping[str, str]) -> None:
    for name in settings:
        if not SETTING.fullmatch(name):
            raise Malformed(f"{name} is no setting: those begin with SKYTALLY_ or AWS_", field="settings")
        if SECRET_SETTING.search(name):
            raise Malformed(f"{name} is a secret: hand it over as a file, and name that file in a setting", field="settings")


def _check_schedule(service: str, schedule: str) -> None:
    try:
        if schedule:
            CronSim(schedule, now())
    except CronSimError as error:
        raise Malformed(f"the schedule {schedule!r} of {service} is no cron expression: {error}", field="schedules") from None
