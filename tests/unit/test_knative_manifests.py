"""What a Knative cluster is given: for any good description,
every object is confined, named and scaled as it must be.
"""

import json
import re

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from skytally.adapters.functions_knative import manifests
from skytally.adapters.functions_knative.manifests import DIGEST, OURS, Site, all_manifests, dump, secret_manifest
from skytally.cli import cli
from skytally.deployment import descriptions
from skytally.deployment.catalog import FUNCTIONS

KEYS = ("master-20261101000000", "token-20261101000000")
DESCRIPTION = {
    "image": "registry.example.org:5000/skytally:1",
    "settings": {"SKYTALLY_DOCUMENTS": "sqlite:///x"},
    "secrets": [*KEYS, "s3"],
}
TIMERS = {function.service for function in FUNCTIONS if function.schedule}
SETTINGS = st.dictionaries(
    st.sampled_from(["SKYTALLY_A", "SKYTALLY_B", "AWS_C"]), st.text(st.characters(codec="utf-8"), max_size=5)
)
SECRETS = st.lists(st.sampled_from([*KEYS, "s3", "search-ca", "0"]), unique=True)
DESCRIPTIONS = st.fixed_dictionaries(
    {
        "image": st.sampled_from(["x:1", "r.example.org:5000/x:1", f"x@sha256:{'0' * 64}"]),
        "settings": SETTINGS,
        "secrets": SECRETS,
    },
    optional={
        "function_settings": st.fixed_dictionaries({"agent": SETTINGS}),
        "function_secrets": st.fixed_dictionaries({"secret-sweep": SECRETS}),
        "schedules": st.fixed_dictionaries({"secret-sweep": st.sampled_from(["", "1 * * * *", "*/2 1 * * mon"])}),
    },
)
SITES = st.builds(
    Site,
    namespace=st.sampled_from(["skytally", "a"]),
    gateway=st.sampled_from([None, "ingress/knative"]),
    host=st.sampled_from([None, "sky.example.org"]),
    min_scale=st.integers(0, 2),
    max_scale=st.integers(2, 50),
)


def specifications(**change):
    return descriptions.specifications(descriptions.parse(json.dumps(DESCRIPTION | change).encode()))


def of_kind(kind, made):
    return {one["metadata"]["name"]: one for one in made if one["kind"] == kind}


@pytest.mark.slow
@settings(max_examples=30)
@given(DESCRIPTIONS, SITES)
def test_every_object_is_as_a_cluster_must_have_it(described, site):
    wanted = specifications(**described)
    made = all_manifests(wanted, site)
    for manifest in made:
        text = dump(manifest)
        assert yaml.load(text, Loader=yaml.CSafeLoader) == manifest
        assert not re.search(r"^[^'\"]*[&*]id\d", text, re.MULTILINE)
        assert OURS.items() <= manifest["metadata"]["labels"].items()
        assert manifest["metadata"].get("namespace") == (None if manifest["kind"] == "Namespace" else site.namespace)
    services = of_kind("Service", made)
    assert services.keys() == {function.service for function in FUNCTIONS}
    for one in wanted:
        check_service(services[one.service], one, site)
    check_timers(of_kind("CronJob", made), wanted, site)
    check_routes(of_kind("HTTPRoute", made), site)


def check_service(service, wanted, site):
    is_timer = wanted.service in TIMERS
    template, metadata = service["spec"]["template"], service["metadata"]
    pod = template["spec"]
    (container,) = pod["containers"]
    assert metadata["annotations"] == {DIGEST: wanted.digest}
    assert (metadata["labels"].get("networking.knative.dev/visibility") == "cluster-local") is (
        is_timer or site.gateway is not None
    )
    assert template["metadata"]["annotations"] == {
        "autoscaling.knative.dev/min-scale": str(0 if is_timer else site.min_scale),
        "autoscaling.knative.dev/max-scale": str(1 if is_timer else site.max_scale),
        "autoscaling.knative.dev/target-burst-capacity": "-1",
    }
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment == wanted.environment
    assert environment["SKYTALLY_DEPLOYMENT"] == wanted.digest
    assert "PORT" not in environment
    assert container["image"] == wanted.image
    assert container["readinessProbe"] == {"httpGet": {"path": "/_/ready"}}
    assert pod["containerConcurrency"] == {"usage-report": 100, "dashboard": 10, "statement": 10}.get(
        wanted.service, 1 if is_timer else 100
    )
    assert pod["timeoutSeconds"] == 30
    check_confined(pod, container)
    check_mounts(pod, container, wanted)


def check_confined(pod, container):
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["serviceAccountName"] == "skytally"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def check_mounts(pod, container, wanted):
    """Each secret is one file of its own name in the secrets' folder, for reading; nothing but /tmp can be written."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert volumes[mounts["/tmp"]["name"]] == {"name": "tmp", "emptyDir": {}}
    assert set(mounts) == ({"/tmp", descriptions.SECRETS_FOLDER} if wanted.secrets else {"/tmp"})
    if wanted.secrets:
        projected = volumes[mounts[descriptions.SECRETS_FOLDER]["name"]]["projected"]
        assert mounts[descriptions.SECRETS_FOLDER]["readOnly"] is True
        assert projected["defaultMode"] == 0o444
        assert projected["sources"] == [
            {"secret": {"name": s, "items": [{"key": s, "path": s}]}} for s in wanted.secrets
        ]


def check_timers(cronjobs, wanted, site):
    assert cronjobs.keys() == {one.service for one in wanted if one.schedule}
    for one in wanted:
        if one.schedule:
            spec = cronjobs[one.service]["spec"]
            assert spec["schedule"] == one.schedule
            assert spec["timeZone"] == "Etc/UTC"
            assert spec["concurrencyPolicy"] == "Forbid"
            assert spec["startingDeadlineSeconds"] == 60
            job = spec["jobTemplate"]["spec"]
            assert job["backoffLimit"] == 2
            (container,) = job["template"]["spec"]["containers"]
            assert container["image"] == one.image
            assert container["command"][-1] == f"http://{one.service}.{site.namespace}.svc.cluster.local/"
            check_confined(job["template"]["spec"], container)


def check_routes(routes, site):
    outside = {function.service for function in FUNCTIONS} - TIMERS
    assert routes.keys() == ({f"{name}-path" for name in outside} if site.gateway else set())
    for name in outside if site.gateway else ():
        spec = routes[f"{name}-path"]["spec"]
        assert spec["parentRefs"] == [{"namespace": "ingress", "name": "knative"}]
        assert spec.get("hostnames") == ([site.host] if site.host else None)
        (rule,) = spec["rules"]
        assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": f"/function/{name}"}}]
        (rewrite,) = (one["urlRewrite"] for one in rule["filters"])
        assert rewrite["hostname"] == f"{name}.{site.namespace}.svc.cluster.local"
        assert rewrite["path"] == {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}


def test_a_site_is_a_restricted_namespace_an_account_without_rights_and_a_policy():
    namespace, account, policy = manifests.site_manifests(Site())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert account["automountServiceAccountToken"] is False
    assert "rules" not in account
    assert policy["spec"]["podSelector"] == {"matchLabels": OURS}
    assert policy["spec"]["ingress"] == [
        {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "knative-serving"}}}]}
    ]


def test_timers_are_applied_after_all_functions():
    kinds = [manifest["kind"] for manifest in all_manifests(specifications(), Site(gateway="a/b"))]
    assert kinds[:3] == ["Namespace", "ServiceAccount", "NetworkPolicy"]
    assert kinds[kinds.index("CronJob") :] == ["CronJob"] * len(TIMERS)


def test_a_digest_alone_changes_no_template():
    (before,), (after,) = (
        [
            one
            for one in all_manifests(specifications(schedules=change), Site())
            if one["metadata"]["name"] == "usage-report"
        ]
        for change in ({}, {"secret-sweep": "1 * * * *"})
    )
    assert before == after
    assert before["metadata"]["annotations"][DIGEST] not in json.dumps(before["spec"]["template"]["metadata"])


def test_a_secret_is_immutable_and_holds_one_file_of_its_name():
    secret = secret_manifest("s3", "hühner", Site())
    assert secret["immutable"] is True
    assert secret["data"] == {"s3": "aMO8aG5lcg=="}


@pytest.mark.parametrize(
    "options", [[], ["--route-gateway", "ingress/knative", "--route-host", "sky.example.org", "--min-scale", "1"]]
)
def test_printed_manifests_are_the_bytes_that_are_applied(options):
    printed = CliRunner().invoke(cli, ["deploy", "manifests", "-", *options], input=json.dumps(DESCRIPTION))
    site = Site(gateway="ingress/knative", host="sky.example.org", min_scale=1) if options else Site()
    assert printed.exit_code == 0
    assert printed.output.split("---\n") == [dump(manifest) for manifest in all_manifests(specifications(), site)]
    assert not [one for one in yaml.safe_load_all(printed.output) if one["kind"] == "Secret"]
