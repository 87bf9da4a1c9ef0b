"""Deployment descriptions: each function's specification, from a site's description and deployment/catalog.py.

One image holds all functions; FUNCTION_TARGET chooses one. Secrets are files that the platform mounts at
SECRETS_FOLDER; a description has their names, never their values. Each platform's adapter translates a specification.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import yaml
from cronsim import CronSim, CronSimError
from msgspec import Struct

from skytally.core.clock import now
from skytally.core.errors import Malformed
from skytally.core.plain_text import printable
from skytally.core.ports import Specification
from skytally.deployment.catalog import FUNCTIONS, Function, service_of

MEMORY = {"limit": "256Mi", "request": "96Mi"}
SECRETS_FOLDER = "/var/openfaas/secrets"
KEY_NAME = re.compile(r"(master|wrapping|token)-[0-9]{14}")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SETTING = re.compile(r"SKYTALLY_[A-Z0-9_]+|AWS_[A-Z0-9_]+|STORAGE_EMULATOR_HOST|GOOGLE_APPLICATION_CREDENTIALS")
SECRET_SETTING = re.compile(r"SECRET|PASSWORD|API_KEY$|SESSION_TOKEN")
IMAGE = re.compile(r"\S+(:[^\s:/]+|@sha256:[0-9a-f]{64})")
MOST_LEVELS = 3
# The cron fields that Kubernetes and cron-connector both accept: no seconds, no L, no #, and no 7 for Sunday.
CRON_VALUE = r"(\d{1,2}|[a-zA-Z]{3})"
CRON_TERM = rf"(\*|{CRON_VALUE}(-{CRON_VALUE})?)(/\d{{1,2}})?"
CRON_FIELD = re.compile(rf"{CRON_TERM}(,{CRON_TERM})*")
SUNDAY_AS_7 = re.compile(r"(^|[-,])0?7($|[-,/])")


class Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site's deployment: settings and secrets of all functions, and of single ones by their names in paths.

    `secrets` are mounted by every function, keys only by functions that use keys. `secret_files` names the files with
    the values of secrets, so that a platform that lost them gets them again. `schedules` replace the schedules of
    single timers (cron in UTC); an empty one switches the timer off.
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
        """Return all secrets that functions mount."""
        return {*self.secrets, *(name for names in self.function_secrets.values() for name in names)}


def parse(text: bytes) -> Description:
    """Return the description of a YAML or JSON text; raise Malformed with the fault and its place."""
    try:
        # YAML reads JSON, except for some escapes.
        is_json = text.lstrip().startswith(b'{"')
        fields = json.loads(text, object_pairs_hook=_object) if is_json else _Loader(text).get_single_data()
    except (
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
        yaml.YAMLError,
    ) as error:  # A tag may not fit its value.
        raise Malformed(f"this is no description of a deployment: {printable(' '.join(str(error).split()))}") from None
    try:
        description = msgspec.convert(fields, type=Description)
    except msgspec.ValidationError as error:
        unquoted = next(_unquoted("", fields, MOST_LEVELS), None) if str(error).startswith("Expected `str`") else None
        reason = f"{unquoted} must be text: quote it" if unquoted else str(error)
        raise Malformed(f"this is no description of a deployment: {printable(reason)}") from None
    _check(description)
    return description


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping's node; raise YAMLError with a duplicate key."""
        mapping = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(f"{key.value} is there twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return mapping


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError with a duplicate key."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"{name} is there twice")
        fields[name] = value
    return fields


def _unquoted(path: str, value: Any, levels: int) -> Iterator[str]:
    """Return the paths of values that are no text, such as YAML numbers, down to a depth."""
    if isinstance(value, dict | list) and levels:
        named = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in named:
            yield from _unquoted(f"{path}.{name}" if path else str(name), inner, levels - 1)
    elif not isinstance(value, str | dict | list):
        yield path


def specifications(description: Description) -> list[Specification]:
    """Return the specification of each function."""
    return [_specification(function, description) for function in FUNCTIONS]


def _specification(function: Function, description: Description) -> Specification:
    secrets = {name for name in description.secrets if function.keys or not KEY_NAME.fullmatch(name)}
    settings = {
        "SKYTALLY_KEYS": SECRETS_FOLDER,
        **description.settings,
        **description.function_settings.get(function.service, {}),
    }
    return Specification(
        service=function.service,
        image=description.image,
        settings=settings | {"FUNCTION_TARGET": function.name},
        secrets=tuple(sorted(secrets | set(description.function_secrets.get(function.service, ())))),
        schedule=description.schedules.get(function.service, function.schedule or "") or None,
        memory_limit=MEMORY["limit"],
        memory_request=MEMORY["request"],
    )


def _check(description: Description) -> None:
    if not IMAGE.fullmatch(description.image):
        raise Malformed("image must name a tag or a digest, so that a roll-back is one too", field="image")
    services = {function.service for function in FUNCTIONS}
    _check_names("function_settings", description.function_settings, services)
    _check_names("function_secrets", description.function_secrets, services)
    _check_names("schedules", description.schedules, {function.service for function in FUNCTIONS if function.schedule})
    for settings in (description.settings, *description.function_settings.values()):
        _check_settings(settings)
    for name in sorted(description.secret_names | set(description.secret_files)):
        check_secret_name(name)
    for service, schedule in description.schedules.items():
        _check_schedule(service, schedule)


def check_secret_name(name: str) -> None:
    """Raise Malformed for a secret's name that not every platform accepts."""
    if not DNS_LABEL.fullmatch(name):
        rule = "platforms take up to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
        raise Malformed(f"{name!r} is no name of a secret: {rule}", field="secrets")


def _check_names(field: str, given: Iterable[str], valid_names: set[str]) -> None:
    for name in sorted(set(given) - valid_names):
        remedy = (
            f"write {service_of(name)}"
            if service_of(name) in valid_names
            else f"it is none of {', '.join(sorted(valid_names))}"
        )
        raise Malformed(f"{field} names {name!r}: {remedy}", field=field)


def _check_settings(settings: Mapping[str, str]) -> None:
    for name in settings:
        if not SETTING.fullmatch(name):
            raise Malformed(f"{name} is no setting: those begin with SKYTALLY_ or AWS_", field="settings")
        if SECRET_SETTING.search(name):
            raise Malformed(
                f"{name} is a secret: hand it over as a file, and name that file in a setting", field="settings"
            )


def _check_schedule(service: str, schedule: str) -> None:
    if schedule and not _is_plain_cron(schedule):
        rule = "numbers, names, *, lists, ranges and steps that every platform takes, with 0 for Sunday"
        raise Malformed(
            f"the schedule {schedule!r} of {service} must be five plain fields of cron: {rule}", field="schedules"
        )


def _is_plain_cron(schedule: str) -> bool:
    fields = schedule.split()
    if len(fields) != 5 or not all(map(CRON_FIELD.fullmatch, fields)) or SUNDAY_AS_7.search(fields[4]):
        return False
    try:
        CronSim(schedule, now())
    except CronSimError:
        return False
    return True
