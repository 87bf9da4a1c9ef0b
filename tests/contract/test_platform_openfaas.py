"""What a gateway of OpenFaaS's does that one would not guess,
in the manner of both; and that the adapter is right all the same.
"""

import json
import urllib.error

import pytest
from click.testing import CliRunner

from skytally.adapters.functions_openfaas import OpenFaasFunctions, body_of
from skytally.cli import cli
from skytally.core.errors import Conflict, Forbidden, Malformed, Unavailable
from skytally.deployment import descriptions, rollout
from skytally.deployment.rollout import Drift, Pace
from tests.support.gateway import Gateway, wait_until

IMAGE, QUICK = "registry.example.org/skytally:1", Pace(seconds=8.0)
pytestmark = pytest.mark.slow


@pytest.fixture(params=["faas-netes", "faasd"], scope="module")
def like(request):
    return request.param


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, like):
    gateway = Gateway(tmp_path_factory.mktemp("gateway")).start("--like", like)
    yield gateway
    gateway.stop()


@pytest.fixture
def platform(gateway):
    platform = OpenFaasFunctions(gateway.base, gateway.password_file.read_text())
    yield platform
    for service in platform.services():
        platform.remove(service)
    for name in platform.secrets():
        platform.remove_secret(name)


def wanted(image=IMAGE, secrets=(), **settings):
    """Want the function that needs no store."""
    described = descriptions.Description(image=image, settings=settings, secrets=secrets)
    return next(one for one in descriptions.specifications(described) if one.service == "agent")


def roll_out(platform, *specs, pace=QUICK):
    told = []
    rollout.roll_out(platform, specs, pace, told.append)
    return told


def answer(gateway, path, body, method):
    try:
        gateway.system(path, body, method)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 202


# ---- the rows of the table ----


def test_what_is_not_there_cannot_be_changed(gateway, platform):
    assert answer(gateway, "functions", body_of(wanted()), "PUT") == 404


def test_what_is_there_cannot_be_made_again(gateway, platform, like):
    assert answer(gateway, "functions", body_of(wanted()), "POST") == 202
    assert answer(gateway, "functions", body_of(wanted()), "POST") == {"faas-netes": 409, "faasd": 500}[like]


@pytest.mark.parametrize("name", ["secret_claim", "Agent", "-agent", "a" * 64, ""])
def test_a_name_is_a_dns_label(gateway, platform, name):
    assert answer(gateway, "functions", body_of(wanted()) | {"service": name}, "POST") == 400
    assert answer(gateway, "secrets", {"name": name, "value": "x"}, "POST") == 400


def test_a_name_with_underscores_is_no_functions(gateway):
    assert gateway.call("secret_claim").status == 404


def test_an_image_that_cannot_be_pulled_is_told_by_nobody(gateway, platform, like):
    assert answer(gateway, "functions", body_of(wanted()), "POST") == 202
    changed = answer(gateway, "functions", body_of(wanted(image="registry.example.org/nothing:2")), "PUT")
    assert changed == {"faas-netes": 202, "faasd": 500}[like]
    assert gateway.deployed()["agent"]["image"] == IMAGE


def test_success_comes_before_anything_runs(gateway, platform):
    assert answer(gateway, "functions", body_of(wanted()), "POST") == 202
    assert gateway.system("function/agent")["availableReplicas"] == 0
    wait_until(lambda: gateway.system("function/agent")["availableReplicas"] == 1)


def test_what_runs_is_shown_in_part_and_with_additions(gateway, platform):
    answer(gateway, "functions", body_of(wanted()), "POST")
    shown = gateway.system("function/agent")
    assert not {"envVars", "readOnlyRootFilesystem"} & shown.keys()
    assert {"faas_function", "uid"} < shown["labels"].keys()
    assert "prometheus.io.scrape" in shown["annotations"]
    assert shown["limits"]["cpu"] == "0"


def test_secrets_are_made_changed_and_removed_and_never_shown(gateway, platform, like):
    secret = {"name": "s3", "value": "hidden"}
    assert answer(gateway, "secrets", secret, "PUT") == 404
    assert [answer(gateway, "secrets", secret, way) for way in ("POST", "POST", "PUT", "DELETE")] == [
        202,
        409,
        202,
        202,
    ]
    assert answer(gateway, "secrets", secret, "DELETE") == {"faas-netes": 404, "faasd": 500}[like]
    assert "hidden" not in json.dumps(gateway.system("secrets"))


def test_a_process_can_write_neither_its_root_nor_its_secrets(gateway, platform, tmp_path):
    """A function of our own tries it, and says what came of it."""
    folder = tmp_path / "functions" / "agent"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(
        "import os\nimport functions_framework.aio\nfrom skytally.http import web\n\n"
        "def can_write(folder):\n    try:\n        open(os.path.join(folder, 'written'), 'w').close()\n"
        "        os.unlink(os.path.join(folder, 'written'))\n    except OSError:\n        return False\n    return "
        "True\n\n"
        "@functions_framework.aio.http\n@web.endpoint(methods=('GET',))\ndef agent(_):\n"
        "    return web.json_reply({name: can_write(name) for name in ('/etc', os.environ['SKYTALLY_KEYS'], '/tmp')})\n"
    )
    platform.put_secret("token-20261101000000", "ab" * 32)
    one = body_of(wanted()) | {"secrets": ["token-20261101000000"]}
    one["envVars"] = one["envVars"] | {"FUNCTION_SOURCE": str(folder.parent)}
    answer(gateway, "functions", one, "POST")
    wait_until(lambda: gateway.call("agent").status == 200)
    written = list(gateway.call("agent").json.values())
    assert written == [False, False, True]


def test_there_is_room_for_fifteen(gateway, platform):
    statuses = [answer(gateway, "functions", body_of(wanted()) | {"service": f"agent-{n}"}, "POST") for n in range(16)]
    assert statuses == [202] * 15 + [400]


# ---- the adapter ----


def test_a_function_comes_stays_changes_and_goes(gateway, platform):
    assert roll_out(platform, wanted())[-1] == "agent: deployed"
    assert roll_out(platform, wanted()) == ["agent: unchanged"]
    assert roll_out(platform, wanted(SKYTALLY_TRUSTED_HOPS="1"))[-1] == "agent: deployed"
    assert gateway.environment_of("agent")["SKYTALLY_TRUSTED_HOPS"] == "1"
    assert platform.services() == {"agent": wanted(SKYTALLY_TRUSTED_HOPS="1").digest}
    assert (platform.remove("agent"), platform.remove("agent")) == (True, False)


def test_a_wrong_setting_is_told_by_its_name_and_is_not_deployed(gateway, platform, like):
    roll_out(platform, wanted())
    with pytest.raises(Unavailable, match="SKYTALLY_TRUSTED_HOPS"):
        roll_out(platform, wanted(SKYTALLY_TRUSTED_HOPS="many"))
    (row,) = rollout.status(platform, [wanted(SKYTALLY_TRUSTED_HOPS="many")], ())
    assert row.drift is Drift.NOT_READY
    assert gateway.call("agent/SHA256SUMS").status == (200 if like == "faas-netes" else 503)
    told = roll_out(platform, wanted())
    assert told[-1] == "agent: deployed"
    assert "SKYTALLY_TRUSTED_HOPS" not in str(told), "what the version before said is not this one's"


def test_an_image_that_cannot_be_pulled_is_not_deployed(gateway, platform, like):
    roll_out(platform, wanted())
    with pytest.raises(Unavailable, match="can it pull the image" if like == "faas-netes" else "unable to pull image"):
        roll_out(platform, wanted(image="registry.example.org/nothing:2"))
    assert gateway.call("agent/SHA256SUMS").status == 200
    (row,) = rollout.status(platform, [wanted(image="registry.example.org/nothing:2")], ())
    assert (row.drift, row.words) == (Drift.CHANGED, f"another version is deployed; its image is {IMAGE}")


def test_of_a_function_that_merely_differs_nobody_asks_for_its_image(gateway, platform):
    answer(gateway, "functions", body_of(wanted()), "POST")
    (row,) = rollout.status(platform, [wanted(SKYTALLY_TRUSTED_HOPS="1")], ())
    assert (row.drift, row.words) == (Drift.CHANGED, "another version is deployed")


@pytest.mark.parametrize("is_there", [True, False])
def test_of_two_rollouts_at_once_the_one_that_lost_says_so(gateway, platform, is_there):
    other = OpenFaasFunctions(gateway.base, gateway.password_file.read_text())
    if is_there:
        roll_out(platform, wanted())
    pace = Pace(seconds=60.0, sleep=lambda _: other.put(wanted(SKYTALLY_TRUSTED_HOPS="2")))
    with pytest.raises(Conflict, match="agent is not deployed: somebody else deployed another version"):
        roll_out(platform, wanted(SKYTALLY_TRUSTED_HOPS="many"), pace=pace)


def test_a_missing_secret_is_told_by_its_name_before_anything_changes(gateway, platform):
    with pytest.raises(Malformed, match="nothing-here"):
        rollout.hand_over(platform, {}, {"nothing-here"}, print)
    with pytest.raises(Malformed, match="nothing-here"):
        roll_out(platform, wanted(secrets=("nothing-here",)))
    assert platform.services() == {}


def test_secrets_come_once_and_go(platform, tmp_path):
    (tmp_path / "value").write_text("hidden\n")
    told = []
    for _ in range(2):
        rollout.hand_over(platform, {"s3": str(tmp_path / "value")}, {"s3"}, told.append)
    assert told == ["secret s3: kept"]
    platform.put_secret("s3", "other")
    assert (platform.remove_secret("s3"), platform.remove_secret("s3"), platform.secrets()) == (True, False, set())


def test_a_rollout_that_was_broken_off_is_finished_by_the_next(gateway, platform):
    platform.put(wanted())
    wait_until(lambda: platform.running(wanted()).is_ready)
    assert roll_out(platform, wanted()) == ["agent: unchanged"]
    answer(gateway, "functions", body_of(wanted()) | {"annotations": {}}, "PUT")
    assert roll_out(platform, wanted())[-1] == "agent: deployed"


def test_what_somebody_else_deployed_is_drift_and_not_ours_to_remove(gateway, platform):
    foreign = body_of(wanted()) | {"service": "theirs", "labels": {}}
    answer(gateway, "functions", foreign, "POST")
    (row,) = rollout.status(platform, [wanted()], ())
    assert row.drift is Drift.MISSING
    assert platform.services() == {}
    with pytest.raises(Forbidden, match="theirs was not deployed by skytally"):
        platform.remove("theirs")
    assert set(gateway.deployed()) == {"theirs"}
    assert answer(gateway, "functions", {"functionName": "theirs"}, "DELETE") == 202


def test_a_function_of_another_version_of_skytally_is_told_with_the_command_that_removes_it(gateway, platform):
    answer(gateway, "functions", body_of(wanted()) | {"service": "old-one"}, "POST")
    rows = rollout.status(platform, [wanted()], {"s3", "s4"}, {"s4"})
    assert [(row.name, row.drift, row.remedy) for row in rows] == [
        ("agent", Drift.MISSING, "skytally deploy apply"),
        ("old-one", Drift.UNWANTED, "skytally deploy remove old-one"),
        ("s3", Drift.MISSING, "skytally deploy secret s3 FILE"),
        ("s4", Drift.MISSING, "skytally deploy apply"),
    ]


def test_a_secret_that_is_refused_is_told_in_the_gateways_words_without_its_value(platform):
    with pytest.raises(Malformed, match=r"the secret A_b: .* 400: the name of a secret is a DNS label") as refused:
        platform.put_secret("A_b", "hidden")
    assert "hidden" not in str(refused.value)


def test_a_platform_at_its_limit_says_so(gateway, platform):
    for n in range(15):
        answer(gateway, "functions", body_of(wanted()) | {"service": f"agent-{n}"}, "POST")
    with pytest.raises(Malformed, match="limit of 15"):
        roll_out(platform, wanted())


def test_a_gateway_that_refuses_the_password_or_is_away(gateway):
    with pytest.raises(Forbidden, match="password"):
        OpenFaasFunctions(gateway.base, "wrong").services()
    told = []
    with pytest.raises(Unavailable, match="does not answer"):
        OpenFaasFunctions("http://127.0.0.1:9", "x", log=told.append).services()
    assert len(told) == 4
    assert "again in" in told[0]


# ---- the command ----


def test_the_command_brings_one_function_says_what_differs_and_removes(gateway, platform, tmp_path):
    access = ["--gateway", gateway.base, "--password-file", str(gateway.password_file)]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "token-20260101000000").write_text("ab" * 32)
    (tmp_path / "keys" / "statement.pem").write_text("a key that signs")

    def run(*arguments, exit_code=0, **how):
        done = CliRunner().invoke(cli, ["deploy", *map(str, arguments), *access], **how)
        assert done.exit_code == exit_code, done.output + str(done.exception)
        assert "ab" * 32 not in done.output
        return done.output

    for _ in range(2):
        assert run("secrets", tmp_path / "keys") == "statement.pem: left out\ntoken-20260101000000: kept\n"
        assert gateway.secrets() == {"token-20260101000000"}
    kept, token = {"name": "token-20260101000000", "state": "kept"}, tmp_path / "keys" / "token-20260101000000"
    assert json.loads(run("secrets", tmp_path / "keys", "--json")) == [
        {"name": "statement.pem", "state": "left out"},
        kept,
    ]
    assert json.loads(run("secret", "token-20260101000000", token, "--json")) == [kept]
    site = json.dumps({"image": IMAGE, "settings": {"SKYTALLY_TRUSTED_HOPS": "1"}, "secrets": ["token-20260101000000"]})
    assert "agent: deployed" in run("apply", "-", "--only", "agent", input=site)
    assert "agent: unchanged" in run("apply", "-", "--only", "agent", input=site)
    assert gateway.call("agent/SHA256SUMS").status == 200
    printed = run("status", "-", "--json", exit_code=3, input=site).partition("\n]")[0] + "]"
    drift = {row["name"]: row["state"] for row in json.loads(printed)}
    assert (drift["agent"], drift["statement"], drift["token-20260101000000"]) == ("as wanted", "missing", "as wanted")
    assert "there is no function agnet: is it agent?" in run("remove", "agent", "agnet", exit_code=2)
    assert set(gateway.deployed()) == {"agent"}, "nothing is removed before all names are known"
    assert run("remove", "agent") == "agent: removed\n"
    assert run("remove", "agent") == "agent: was not there\n"
    assert json.loads(run("remove", "agent", "--json")) == [{"name": "agent", "state": "was not there"}]
    assert run("remove-secret", "token-20260101000000") == "token-20260101000000: removed\n"
    gone = json.loads(run("remove-secret", "token-20260101000000", "--json"))
    assert gone == [{"name": "token-20260101000000", "state": "was not there"}]
    assert "there is no function nothing" in run("apply", "-", "--only", "nothing", exit_code=2, input=site)
    answer(gateway, "functions", body_of(wanted()) | {"service": "old-one"}, "POST")
    no_secrets = json.dumps({"image": IMAGE})
    assert "`skytally deploy remove old-one` removes it" in run("apply", "-", "--only", "agent", input=no_secrets)
    assert "  skytally deploy remove old-one" in run("status", "-", exit_code=3, input=site)
    assert run("remove", "old-one") == "old-one: removed\n"
    assert "--all" in run("remove", exit_code=2)
