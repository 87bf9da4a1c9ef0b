"""What a platform is told: one list, every mistake by its name, and no secret in it."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from skytally.adapters.functions_openfaas import DIGEST, body_of
from skytally.cli import cli
from skytally.core.errors import Malformed
from skytally.deployment import descriptions
from skytally.deployment.catalog import FUNCTIONS
from skytally.deployment.descriptions import Description

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("master-20261101000000", "token-20261101000000")
SITE = {
    "image": "registry.example.org:5000/skytally:1",
    "settings": {"SKYTALLY_DOCUMENTS": "sqlite:///x"},
    "secrets": [*KEYS, "s3-credentials"],
}


def wanted(**change):
    return {
        one.service: one for one in descriptions.specifications(descriptions.parse(json.dumps(SITE | change).encode()))
    }


def test_a_specification_names_secrets_and_holds_none():
    sweep = body_of(wanted()["secret-sweep"])
    assert sweep["secrets"] == ["s3-credentials"]
    assert body_of(wanted()["secret-claim"])["secrets"] == [
        "master-20261101000000",
        "s3-credentials",
        "token-20261101000000",
    ]
    assert sweep["annotations"] == {
        "topic": "cron-function",
        "schedule": "*/5 * * * *",
        DIGEST: wanted()["secret-sweep"].digest,
    }
    assert sweep["envVars"]["FUNCTION_TARGET"] == "secret_sweep"
    assert sweep["envVars"]["SKYTALLY_KEYS"] == "/var/openfaas/secrets"
    assert sweep["readOnlyRootFilesystem"] is True


def test_function_names_are_nouns_with_a_verb_and_make_dns_labels():
    for function in FUNCTIONS:
        assert function.service.replace("-", "").isalpha()
        assert descriptions.DNS_LABEL.fullmatch(function.service)


def test_the_community_edition_has_room_for_all():
    assert len(FUNCTIONS) <= 15


def test_single_functions_have_settings_secrets_and_schedules_of_their_own():
    found = wanted(
        function_settings={"statement": {"SKYTALLY_DOCUMENTS": "sqlite:///y"}},
        function_secrets={"agent": ["extra"]},
        schedules={"panda-collect": "", "secret-sweep": "1 * * * *"},
    )
    assert found["statement"].settings["SKYTALLY_DOCUMENTS"] == "sqlite:///y"
    assert found["agent"].secrets == ("extra", "s3-credentials")
    assert (found["panda-collect"].schedule, found["secret-sweep"].schedule) == (None, "1 * * * *")
    untouched = wanted()
    assert {name for name in found if found[name].digest != untouched[name].digest} == {
        "statement",
        "agent",
        "panda-collect",
        "secret-sweep",
    }


@given(st.dictionaries(st.sampled_from(["SKYTALLY_A", "SKYTALLY_B", "AWS_C"]), st.text(max_size=3)))
def test_a_digest_changes_with_what_is_wanted_and_with_nothing_else(settings):
    mixed = dict(reversed(settings.items()))
    assert wanted(settings=settings)["agent"].digest == wanted(settings=mixed)["agent"].digest
    assert wanted(settings=settings | {"SKYTALLY_D": "1"})["agent"].digest != wanted(settings=settings)["agent"].digest


REFUSED = {
    "an image without a tag": ({"image": "registry.example.org:5000/skytally"}, "tag"),
    "a field that nobody knows": ({"replicas": 3}, "replicas"),
    "a setting of somebody else": ({"settings": {"PATH": "/"}}, "PATH"),
    "a secret as a setting": ({"settings": {"AWS_SECRET_ACCESS_KEY": "x"}}, "file"),
    "a function that is none": ({"function_settings": {"usage": {}}}, "none of agent, .* usage-report"),
    "settings of a function by its folder's name": ({"function_settings": {"usage_report": {}}}, "write usage-report"),
    "secrets of a function by its folder's name": ({"function_secrets": {"usage_report": []}}, "write usage-report"),
    "a schedule by its folder's name": ({"schedules": {"secret_sweep": ""}}, "write secret-sweep"),
    "a timer that is none": ({"schedules": {"usage-report": "* * * * *"}}, "secret-sweep"),
    "a schedule that is none": ({"schedules": {"secret-sweep": "often"}}, "often"),
    "a secret's name that platforms refuse": ({"secrets": ["S3_credentials"]}, "S3_credentials"),
    "a secret's name that is too long": ({"secrets": ["x" * 64]}, "63"),
    "a number where a text belongs": (
        {"settings": {"SKYTALLY_TRUSTED_HOPS": 1}},
        r"settings\.SKYTALLY_TRUSTED_HOPS .* quote it",
    ),
    "a number for one function": (
        {"function_settings": {"agent": {"AWS_X": True}}},
        r"function_settings\.agent\.AWS_X .* quote it",
    ),
    "a number in a list": ({"secrets": ["s3", 1]}, r"secrets\.1 .* quote it"),
}
NO_PLAIN_CRON = [
    *(
        "* * * * * *",
        "* * * *",
        "@hourly",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 * * 5L",
        "0 0 * * 5#3",
        "0 0 * * 7",
        "0 0 * * 1-7",
    ),
    *("60 * * * *", "* * 0 * *", "*/0 * * * *", "? * * * *", "0 0 31 2 *", "5-1 * * * *", "a * * * *"),
]
PLAIN_CRON = ["*/5 * * * *", "0,30 1-5/2 1 JAN-mar MON-FRI", "1/7 0 * * */7", "0 0 1,15 * 0", "17 3 * * sun,6"]


@pytest.mark.parametrize(("change", "word"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_by_its_name(change, word):
    with pytest.raises(Malformed, match=word):
        wanted(**change)


@pytest.mark.parametrize("schedule", NO_PLAIN_CRON)
def test_a_schedule_that_some_platform_does_not_take_is_refused(schedule):
    with pytest.raises(Malformed, match="of secret-sweep must be five plain fields"):
        wanted(schedules={"secret-sweep": schedule})


@pytest.mark.parametrize("schedule", PLAIN_CRON)
def test_a_schedule_of_five_plain_fields_is_taken(schedule):
    assert wanted(schedules={"secret-sweep": schedule})["secret-sweep"].schedule == schedule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"image: x:1\nsecrets: [a]\nimage: x:2\n", "image is there twice, in lines 1 and 3"),
        (b"image: x:1\nsettings:\n  AWS_X: a\n  AWS_X: b\n", "AWS_X is there twice, in lines 3 and 4"),
        (b'{"image": "x:1", "settings": {"AWS_X": "a", "AWS_X": "b"}}', "AWS_X is there twice"),
    ],
)
def test_what_is_said_twice_is_refused(text, words):
    with pytest.raises(Malformed, match=words):
        descriptions.parse(text)


def test_a_description_may_repeat_itself_by_anchors():
    text = b"image: x:1\nfunction_settings:\n  agent: &same {AWS_X: a, AWS_Y: b}\n  statement: {<<: *same, AWS_Y: c}\n"
    assert descriptions.parse(text).function_settings["statement"] == {"AWS_X": "a", "AWS_Y": "c"}


def test_a_description_that_holds_itself_is_refused():
    with pytest.raises(Malformed, match="description"):
        descriptions.parse(b"image: x:1\nsettings: &all {AWS_X: *all}\n")


ODD = [
    b"image: !!int ''",
    b"image: !!bool x",
    b"image: !!timestamp x",
    b"? [a]\n: b",
    b"a: 2026-13-40",
    b"--- a\n--- b",
    b"[" * 9_999,
]


@pytest.mark.parametrize("text", [b"", b"[", b"\xff", b"image: [", b"- 1", b"{}", *ODD])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(Malformed, match="description"):
        descriptions.parse(text)


def test_a_description_may_be_yaml():
    assert descriptions.parse(b"image: x:1\nsecrets: [a]\n") == Description(image="x:1", secrets=("a",))


def test_the_stack_file_is_complete():
    printed = CliRunner().invoke(cli, ["deploy", "stack-file", "-"], input=json.dumps(SITE)).output
    functions = yaml.safe_load(printed)["functions"]
    assert functions.keys() == {f.service for f in FUNCTIONS}
    assert functions["usage-report"]["environment"]["SKYTALLY_DOCUMENTS"] == "sqlite:///x"
    assert functions["usage-report"]["secrets"] == sorted(SITE["secrets"])
    assert functions["secret-sweep"]["annotations"]["topic"] == "cron-function"


def test_the_image_installs_the_runtime_lock_by_hash_as_nobody():
    dockerfile = (ROOT / "functions" / "Dockerfile").read_text()
    assert "--no-deps --require-hashes --requirement requirements.lock" in dockerfile
    assert "USER 10001" in dockerfile
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python == ">=3.11,<3.14"
    assert "ARG BASE=docker.io/library/python:3.13-slim" in dockerfile


def test_keys_go_to_the_functions_that_use_them():
    for function in FUNCTIONS:
        source = (ROOT / "functions" / function.name / "main.py").read_text()
        uses = any(f"wiring.{door}" in source for door in ("keys", "caller", "dashboard_reader", "dirac("))
        assert set(wanted()[function.service].secrets) == {"s3-credentials"} | (set(KEYS) if uses else set()), (
            function.name
        )
