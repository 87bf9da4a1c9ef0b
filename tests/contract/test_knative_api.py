"""A real API server with today's definitions of Knative:
what is applied is what it takes, twice, by a user with few rights.

Nothing reconciles here: where a test needs a function that is ready, or a pod that is not, it writes the status that
Knative or a kubelet would write.
"""

import contextlib
import json
import os
import subprocess
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from localstack.knative_api import ADMINISTRATORS, knative_api
from localstack.server_process import Missing
from skytally.adapters.functions_knative import KnativeFunctions, cluster, kubeconfig, manifests
from skytally.adapters.functions_knative.cluster import Cluster
from skytally.adapters.functions_knative.manifests import Site, all_manifests, dump
from skytally.cli import cli
from skytally.core.errors import Forbidden, Malformed, NotFound, Unavailable
from skytally.deployment import descriptions, rollout
from skytally.deployment.catalog import FUNCTIONS
from skytally.deployment.rollout import Drift, Pace

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]
ROOT = Path(__file__).resolve().parents[2]
KEYS = ("master-20261101000000", "token-20261101000000")
DESCRIPTION = {
    "image": "registry.example.org/skytally:1",
    "settings": {"SKYTALLY_OBJECTS": "s3://bucket"},
    "secrets": list(KEYS),
}
TIMERS = {function.service for function in FUNCTIONS if function.schedule}
PLURALS = {
    kind: (version, plural) for kind, (version, plural) in cluster.PATHS.items() if kind not in {"Namespace", "Pod"}
}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    try:
        with knative_api(tmp_path_factory.mktemp("api")) as running:
            yield running
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture
def site(request):
    """Return a namespace of the test's own, with path routes."""
    name = request.node.name.replace("_", "-").partition("[")[0][:60].strip("-")
    return Site(namespace=name, gateway="ingress/knative", host="sky.example.org")


@pytest.fixture
def platform(api, site):
    return platform_of(api, site, "admin", ADMINISTRATORS)


def platform_of(api, site, user, group=None):
    return KnativeFunctions(Cluster(kubeconfig.from_kubeconfig(api.kubeconfig(user, group)), site.namespace), site)


def specifications(**change):
    return {
        one.service: one
        for one in descriptions.specifications(descriptions.parse(json.dumps(DESCRIPTION | change).encode()))
    }


def path_of(kind, namespace, name=""):
    version, plural = cluster.PATHS[kind]
    return f"/{'api' if version == 'v1' else 'apis'}/{version}/namespaces/{namespace}/{plural}" + (
        f"/{name}" if name else ""
    )


def everything(api, site):
    """Return all objects of a namespace that could be ours, by kind and name."""
    listed = {kind: api.request("GET", path_of(kind, site.namespace))["items"] for kind in PLURALS}
    return {(kind, one["metadata"]["name"]): one for kind, items in listed.items() for one in items}


def apply_all(platform, wanted):
    for one in wanted.values():
        platform.put(one)
    for one in wanted.values():
        platform.put_timer(one)


def write_status(api, site, service, status, reason="", message=""):
    """Say of a Service what Knative would."""
    there = api.request("GET", path_of("Service", site.namespace, service))
    condition = {"type": "Ready", "status": status, "reason": reason, "message": message}
    there["status"] = {"observedGeneration": there["metadata"]["generation"], "conditions": [condition]}
    api.request("PUT", f"{path_of('Service', site.namespace, service)}/status", there)


@contextlib.contextmanager
def becoming_ready(api, site):
    """Say of every Service that it is ready, until the caller is done;
    yield which CronJobs were there before the first was.
    """
    ended, early = threading.Event(), []

    def reconcile():
        while not ended.wait(0.2):
            for one in api.request("GET", path_of("Service", site.namespace))["items"]:
                if one.get("status", {}).get("observedGeneration") != one["metadata"]["generation"]:
                    early.extend(api.request("GET", path_of("CronJob", site.namespace))["items"])
                    write_status(api, site, one["metadata"]["name"], "True")

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(reconcile)
        try:
            yield early
        finally:
            ended.set()
            done.result()


def add_pod(api, site, wanted, name, state, last_state=None):
    """Make the pod that Knative would make of a revision, and say of its container what a kubelet would."""
    template = next(one for one in manifests.function_manifests(wanted, site) if one["kind"] == "Service")["spec"][
        "template"
    ]
    spec = {
        key: value for key, value in template["spec"].items() if key not in {"containerConcurrency", "timeoutSeconds"}
    }
    for probe in ("readinessProbe", "livenessProbe"):
        spec["containers"][0][probe]["httpGet"]["port"] = 8080
    labels = template["metadata"]["labels"] | {"serving.knative.dev/service": wanted.service}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    made = api.request("POST", path_of("Pod", site.namespace), pod)
    container = {"name": "function", "image": wanted.image, "imageID": "", "ready": False, "restartCount": 0}
    made["status"] = {
        "phase": "Pending",
        "containerStatuses": [container | {"state": state, "lastState": last_state or {}}],
    }
    api.request("PUT", f"{path_of('Pod', site.namespace, name)}/status", made)


def test_everything_is_applied_strictly_and_again_without_a_change(api, platform, site):
    wanted = specifications()
    apply_all(platform, wanted)
    first = everything(api, site)
    assert {kind for kind, _ in first} >= {"Service", "HTTPRoute", "CronJob", "ServiceAccount", "NetworkPolicy"}
    assert len([key for key in first if key[0] == "Service"]) == len(FUNCTIONS) == 14
    assert len([key for key in first if key[0] == "CronJob"]) == len(TIMERS)
    assert len([key for key in first if key[0] == "HTTPRoute"]) == len(FUNCTIONS) - len(TIMERS)
    apply_all(platform_of(api, site, "admin", ADMINISTRATORS), wanted)
    second = everything(api, site)
    assert second == first
    assert {one["metadata"].get("generation", 1) for one in second.values()} == {1}
    assert platform.services() == {name: one.digest for name, one in wanted.items()}


@pytest.mark.parametrize("kind", ["Service", "HTTPRoute", "CronJob", "NetworkPolicy", "ServiceAccount", "Secret"])
def test_an_unknown_field_is_refused_by_its_name(api, platform, site, kind):
    platform.put_secret("s", "x")
    made = [*all_manifests(list(specifications().values()), site), manifests.secret_manifest("s", "x", site)]
    manifest = next(one for one in made if one["kind"] == kind)
    calls = Cluster(kubeconfig.from_kubeconfig(api.kubeconfig("admin", ADMINISTRATORS)), site.namespace)
    with pytest.raises(Malformed, match="replicaz"):
        calls.apply(kind, manifest["metadata"]["name"], dump(manifest | {"replicaz": 3}).encode())


def test_a_role_in_the_namespace_is_enough(api, platform, site):
    role = yaml.safe_load((ROOT / "infra/terraform/examples/knative/role.yaml").read_text())
    subject = {"kind": "User", "name": "deployer", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": role["metadata"]["name"], "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": "deployer"}, "subjects": [subject], "roleRef": reference}
    deployer = platform_of(api, site, "deployer")
    with pytest.raises(Forbidden, match="cannot patch"):
        deployer.put(specifications()["agent"])
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": site.namespace}})
    with pytest.raises(Forbidden):
        deployer.put(specifications()["agent"])
    rights = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{site.namespace}"
    api.request("POST", f"{rights}/roles", role)
    api.request("POST", f"{rights}/rolebindings", binding)
    until_allowed(deployer, specifications()["agent"])
    wanted = specifications()
    for name in KEYS:
        deployer.put_secret(name, "x")
    with becoming_ready(api, site):
        rollout.roll_out(deployer, list(wanted.values()), Pace(seconds=60), lambda _: None)
        assert {row.drift for row in rollout.status(deployer, list(wanted.values()), KEYS)} == {Drift.NONE}
    write_status(api, site, "agent", "Unknown")
    add_pod(
        api, site, wanted["agent"], "agent-1", {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    )
    assert deployer.running(wanted["agent"]).words == "ImagePullBackOff: no such image"
    for name in wanted:
        assert deployer.remove(name)
    for name in KEYS:
        assert deployer.remove_secret(name)
    assert [key for key in everything(api, site) if key[0] != "ServiceAccount"] == []


def test_who_may_not_make_a_namespace_is_told_that_it_is_not_there(api, site):
    role = yaml.safe_load((ROOT / "infra/terraform/examples/knative/role.yaml").read_text()) | {"kind": "ClusterRole"}
    subject = {"kind": "User", "name": "everywhere", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": role["metadata"]["name"], "apiGroup": "rbac.authorization.k8s.io"}
    api.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    binding = {"metadata": {"name": "everywhere"}, "subjects": [subject], "roleRef": reference}
    api.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    with pytest.raises(NotFound, match=f"the namespace {site.namespace}"):
        until_allowed(platform_of(api, site, "everywhere"), specifications()["agent"])


def until_allowed(platform, wanted):
    """Wait until the API server has heard of new rights, which it learns within a second or so."""
    for _ in range(50):
        with contextlib.suppress(Forbidden):
            return platform.put(wanted)
        threading.Event().wait(0.1)
    return platform.put(wanted)


def test_removal_leaves_nothing(api, platform, site):
    wanted = specifications()
    apply_all(platform, wanted)
    platform.put_secret("s", "x")
    assert all(platform.remove(name) for name in wanted)
    assert list(everything(api, site)) == [("Secret", "s")]
    assert platform.remove_secret("s")
    assert everything(api, site) == {}
    assert not platform.remove("agent")
    assert not platform.remove_secret("s")


def test_a_service_that_somebody_else_deployed_is_not_ours_to_remove(api, platform, site):
    platform.put(specifications()["agent"])
    mine = api.request("GET", path_of("Service", site.namespace, "agent"))
    theirs = {"apiVersion": mine["apiVersion"], "kind": "Service", "metadata": {"name": "theirs"}, "spec": mine["spec"]}
    api.request("POST", path_of("Service", site.namespace), theirs)
    assert platform.services().keys() == {"agent"}
    with pytest.raises(Forbidden, match="theirs was not deployed by skytally"):
        platform.remove("theirs")
    assert ("Service", "theirs") in everything(api, site)


def test_kubectl_takes_the_printed_manifests_and_they_are_what_is_wanted(api, platform, site):
    options = ["--namespace", site.namespace, "--route-gateway", "ingress/knative", "--route-host", "sky.example.org"]
    printed = CliRunner().invoke(cli, ["deploy", "manifests", "-", *options], input=json.dumps(DESCRIPTION)).output
    try:
        api.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=printed)
    except Missing as missing:
        pytest.skip(str(missing))
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    for name, one in specifications().items():
        write_status(api, site, name, "True")
        assert platform.running(one).is_ready
        assert platform.has_timer(one)


def test_a_secret_is_kept_once_and_no_other_value_takes_its_name(api, platform, site):
    platform.put_secret("s3", "the value")
    kept = api.request("GET", path_of("Secret", site.namespace, "s3"))
    assert kept["immutable"] is True
    platform.put_secret("s3", "the value")
    assert api.request("GET", path_of("Secret", site.namespace, "s3")) == kept
    with pytest.raises(Malformed, match=r"new name, .*immutable") as refused:
        platform.put_secret("s3", "hunter2")
    assert not {"hunter2", b64encode(b"hunter2").decode()} & set(str(refused.value).replace('"', " ").split())
    assert api.request("GET", path_of("Secret", site.namespace, "s3")) == kept
    assert platform.secrets() == {"s3"}


def test_what_somebody_changed_by_hand_is_found_and_put_right(api, platform, site):
    wanted = specifications()
    apply_all(platform, wanted)
    for name in wanted:
        write_status(api, site, name, "True")
    path = path_of("Service", site.namespace, "agent")
    there = api.request("GET", path)
    there["spec"]["template"]["spec"]["containerConcurrency"] = 7
    api.request("PUT", path, there)
    api.request("DELETE", path_of("CronJob", site.namespace, "secret-sweep"))
    api.request("DELETE", path_of("HTTPRoute", site.namespace, "statement-path"))
    rows = {(row.kind, row.name): row.drift for row in rollout.status(platform, list(wanted.values()), [])}
    differing = {("function", "agent"), ("timer", "secret-sweep"), ("function", "statement")}
    assert {key for key, drift in rows.items() if drift is not Drift.NONE} == differing
    with becoming_ready(api, site):
        rollout.roll_out(platform, list(wanted.values()), Pace(seconds=60), lambda _: None)
        assert {row.drift for row in rollout.status(platform, list(wanted.values()), [])} == {Drift.NONE}


def test_timers_begin_once_all_functions_answer(api, site, platform):
    told = []
    with becoming_ready(api, site) as early:
        rollout.roll_out(platform, list(specifications().values()), Pace(seconds=60), told.append)
    assert not early
    assert {line for line in told if line.endswith("deployed")} == {
        f"{function.service}: deployed" for function in FUNCTIONS
    }
    assert {name for kind, name in everything(api, site) if kind == "CronJob"} == TIMERS
    off = list(specifications(schedules={"secret-sweep": ""}).values())
    assert {
        row.name for row in rollout.status(platform, off, []) if row.kind == "timer" and row.drift is not Drift.NONE
    } == {"secret-sweep"}
    with becoming_ready(api, site):
        rollout.roll_out(platform, off, Pace(seconds=60), told.append)
    assert {name for kind, name in everything(api, site) if kind == "CronJob"} == TIMERS - {"secret-sweep"}


def test_a_route_that_is_not_wanted_any_more_goes(api, platform, site):
    platform.put(specifications()["agent"])
    platform_of(api, Site(namespace=site.namespace), "admin", ADMINISTRATORS).put(specifications()["agent"])
    assert ("HTTPRoute", "agent-path") not in everything(api, site)


WRONG = {
    "an image that cannot be pulled": (
        {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}},
        {},
        "no such tag",
    ),
    "a name that is no image": ({"waiting": {"reason": "InvalidImageName", "message": "bad"}}, {}, "InvalidImageName"),
    "a container that cannot be made": (
        {"waiting": {"reason": "CreateContainerConfigError", "message": "no key"}},
        {},
        "no key",
    ),
    "a setting that is wrong": ({"terminated": {"exitCode": 78, "reason": "Error"}}, {}, "78"),
    "a setting that was wrong a moment ago": (
        {"running": {}},
        {"terminated": {"exitCode": 78, "reason": "Error"}},
        "78",
    ),
    "a crash again and again": (
        {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        {"terminated": {"exitCode": 1, "reason": "Error"}},
        "CrashLoopBackOff",
    ),
}


@pytest.mark.parametrize(("state", "last_state", "word"), WRONG.values(), ids=WRONG)
def test_what_waiting_does_not_mend_is_told_at_once(api, platform, site, state, last_state, word):
    wanted = specifications()["agent"]
    platform.put(wanted)
    write_status(api, site, "agent", "Unknown", "RevisionMissing", "waiting")
    add_pod(api, site, wanted, f"agent-{abs(hash(word))}", state, last_state)
    running = platform.running(wanted)
    assert (running.is_ready, running.is_final) == (False, True)
    assert word in running.words
    api.request("DELETE", f"{path_of('Pod', site.namespace)}/agent-{abs(hash(word))}?gracePeriodSeconds=0")


def test_what_may_come_right_is_waited_for(api, platform, site):
    wanted = specifications()["agent"]
    platform.put(wanted)
    assert not platform.running(wanted).is_final
    write_status(api, site, "agent", "Unknown", "Deploying", "a moment")
    add_pod(api, site, wanted, "agent-1", {"waiting": {"reason": "ErrImagePull", "message": "the registry is busy"}})
    assert platform.running(wanted) == rollout.Running(wanted.digest, wanted.image, words="Deploying: a moment")


def test_an_older_version_that_crashes_says_nothing_of_the_new_one(api, platform, site):
    old, new = specifications()["agent"], specifications(image="registry.example.org/skytally:2")["agent"]
    platform.put(old)
    add_pod(api, site, old, "agent-old", {"waiting": {"reason": "CrashLoopBackOff"}})
    platform.put(new)
    write_status(api, site, "agent", "Unknown")
    assert not platform.running(new).is_final


def test_a_status_of_the_version_before_is_not_this_ones(api, platform, site):
    platform.put(specifications()["agent"])
    write_status(api, site, "agent", "True")
    new = specifications(image="registry.example.org/skytally:2")["agent"]
    platform.put(new)
    running = platform.running(new)
    assert (running.digest, running.is_ready, running.is_final) == (new.digest, False, False)


def test_a_failed_revision_is_told_in_the_platforms_words(api, platform, site):
    wanted = specifications()["agent"]
    platform.put(wanted)
    write_status(api, site, "agent", "False", "RevisionFailed", "Unable to fetch image")
    with pytest.raises(Unavailable, match="RevisionFailed: Unable to fetch image"):
        rollout.roll_out(platform, [wanted], Pace(seconds=60), lambda _: None)


def test_a_missing_secret_is_told_by_its_name(api, platform, site):
    wanted = specifications()["usage-report"]
    platform.put(wanted)
    platform.put_secret(KEYS[0], "x")
    write_status(api, site, "usage-report", "Unknown")
    running = platform.running(wanted)
    assert running.is_final
    assert f"secret {KEYS[1]} is not there" in running.words


@pytest.mark.parametrize("name", [function.service for function in FUNCTIONS])
def test_pods_are_admitted_where_only_restricted_ones_are(api, platform, site, name):
    wanted = specifications()[name]
    platform.put(wanted)
    add_pod(api, site, wanted, f"{name}-1", {"running": {}})
    for cron in manifests.timer_manifests(wanted, site):
        spec = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        api.request("POST", path_of("Pod", site.namespace), {"metadata": {"name": f"{name}-tick"}, "spec": spec})
    spec["containers"][0].pop("securityContext") if name in TIMERS else None
    if name in TIMERS:
        refused = api.ask("POST", path_of("Pod", site.namespace), {"metadata": {"name": f"{name}-root"}, "spec": spec})
        assert (refused.status, b"PodSecurity" in refused.data) == (403, True)


def test_two_who_apply_at_once_leave_one_of_both_whole(api, site):
    both = [specifications(image=f"registry.example.org/skytally:{tag}") for tag in (1, 2)]
    platforms = [platform_of(api, site, "admin", ADMINISTRATORS) for _ in both]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(apply_all, platforms, both))
    found = platforms[0].services()
    for name, digest in found.items():
        one = next(wanted[name] for wanted in both if wanted[name].digest == digest)
        write_status(api, site, name, "True")
        assert platforms[0].running(one).is_ready


def test_a_cluster_without_knative_says_so(api, site, monkeypatch):
    platform = platform_of(api, site, "admin", ADMINISTRATORS)
    monkeypatch.setitem(cluster.PATHS, "Service", ("serving.example.org/v1", "services"))
    with pytest.raises(NotFound, match=r"lacks serving\.knative\.dev/v1"):
        platform.put(specifications()["agent"])


def test_the_command_applies_says_status_and_removes(api, site, tmp_path):
    for name in KEYS:
        (tmp_path / name).write_text("x\n")
    description = DESCRIPTION | {"secret_files": {name: str(tmp_path / name) for name in KEYS}}
    access = [
        "--platform",
        "knative",
        "--kubeconfig",
        str(api.kubeconfig("admin", ADMINISTRATORS)),
        "--namespace",
        site.namespace,
    ]

    def run(*words):
        return CliRunner().invoke(
            cli, ["deploy", words[0], *access, *words[1:]], input=msgspec.json.encode(description)
        )

    with becoming_ready(api, site):
        applied = run("apply", "-")
    assert applied.exception is None
    assert (applied.exit_code, "usage-report: deployed" in applied.output) == (0, True)
    again = run("apply", "-")
    assert [line for line in again.output.splitlines() if not line.endswith("unchanged")] == []
    assert run("status", "-").exit_code == 0
    api.request("DELETE", path_of("Service", site.namespace, "agent"))
    drifted = run("status", "--json", "-")
    assert drifted.exit_code == 3
    assert run("remove", "--all").exit_code == 0
    assert {kind for kind, _ in everything(api, site)} == {"Secret"}


def test_a_stranger_and_a_cluster_that_is_away_are_told_apart(api, site, tmp_path):
    config = yaml.safe_load(api.kubeconfig("admin", ADMINISTRATORS).read_text())
    config["users"][0]["user"] = {"token": "wrong"}
    stranger = api.authority.folder / "stranger.kubeconfig"
    stranger.write_text(yaml.safe_dump(config))
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    away = api.authority.folder / "away.kubeconfig"
    away.write_text(yaml.safe_dump(config))
    config["clusters"][0]["cluster"] = {"server": api.url}
    untrusted = api.authority.folder / "untrusted.kubeconfig"
    untrusted.write_text(yaml.safe_dump(config))
    for path, error, word in (
        (stranger, Forbidden, "credentials"),
        (away, Unavailable, "address"),
        (untrusted, Unavailable, "trusted"),
    ):
        with pytest.raises(error, match=word):
            KnativeFunctions(Cluster(kubeconfig.from_kubeconfig(path), site.namespace), site).services()
