"""The Kubernetes objects of a deployment on Knative Serving, made from specifications without a cluster.

::

    Namespace, ServiceAccount (no rights), NetworkPolicy      once a site
    serving.knative.dev/v1 Service   NAME                     one a function; timers are reachable inside the cluster
                                     only
    gateway.networking.k8s.io/v1 HTTPRoute  NAME-path         one a function with callers outside, where path routes are
                                            asked for
    batch/v1 CronJob                 NAME                     one a timer with a schedule
    v1 Secret                        NAME                     immutable, its one key is its name

`dump` writes what is applied, byte for byte, and what `skytally deploy manifests` prints.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import yaml
from msgspec import Struct

from skytally.core.errors import Malformed
from skytally.core.ports import Specification
from skytally.deployment.catalog import FUNCTIONS
from skytally.deployment.descriptions import DNS_LABEL, SECRETS_FOLDER

Manifest = dict[str, Any]
DIGEST = "skytally/digest"
OURS = {"app.kubernetes.io/name": "skytally", "app.kubernetes.io/managed-by": "skytally"}
COMPONENT = "app.kubernetes.io/component"
ACCOUNT = "skytally"
CONTAINER = "function"
DNS_NAME = rf"{DNS_LABEL.pattern}(\.{DNS_LABEL.pattern})*"
GATEWAY, HOST = re.compile(rf"{DNS_LABEL.pattern}/{DNS_NAME}"), re.compile(rf"(\*\.)?{DNS_NAME}")
USER = 10001
TIMERS = frozenset(function.service for function in FUNCTIONS if function.schedule)
# A view adds up a month; a timer's round would meet the one that goes on.
VIEWS, VIEW_CONCURRENCY, TIMER_CONCURRENCY, CONCURRENCY = frozenset({"dashboard", "statement"}), 10, 1, 100
CALL_SECONDS, TICK_SECONDS = 30, 35
SERVING, ROUTING = "serving.knative.dev/v1", "gateway.networking.k8s.io/v1"
# What a timer's pod runs: an answer other than 2xx ends it with an error, and the Job tries again.
TICK = (
    "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], b'', method='POST'), "
    f"timeout={TICK_SECONDS}).read()"
)


class Site(Struct, frozen=True, kw_only=True):
    """Where a cluster keeps a site's functions, and how many pods each may have.

    With `gateway` (NAMESPACE/NAME of a Gateway) functions answer at `host`/function/NAME, and at no host name of their
    own.
    """

    namespace: str = "skytally"
    gateway: str | None = None
    host: str | None = None
    min_scale: int = 0
    max_scale: int = 10

    def __post_init__(self) -> None:
        """Raise Malformed, with the option's name, for a value that no cluster accepts."""
        if not DNS_LABEL.fullmatch(self.namespace):
            raise Malformed(f"--namespace {self.namespace!r} is none: a namespace has up to 63 of a-z, 0-9 and -")
        if self.gateway is not None and not GATEWAY.fullmatch(self.gateway):
            raise Malformed(
                f"--route-gateway is NAMESPACE/NAME of a Gateway, such as ingress/knative, and {self.gateway!r} is none"
            )
        if self.host is not None and not HOST.fullmatch(self.host):
            raise Malformed(f"--route-host is a host name such as sky.example.org, and {self.host!r} is none")
        if self.min_scale > self.max_scale:
            raise Malformed(f"--min-scale {self.min_scale} is more than --max-scale {self.max_scale}")


def site_manifests(site: Site) -> list[Manifest]:
    """Return the objects that a site needs besides its functions; the first is the namespace."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": site.namespace, "labels": OURS | {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        _object("v1", "ServiceAccount", ACCOUNT, site) | {"automountServiceAccountToken": False},
        _object("networking.k8s.io/v1", "NetworkPolicy", ACCOUNT, site) | {"spec": _network_policy()},
    ]


def function_manifests(specification: Specification, site: Site) -> list[Manifest]:
    """Return a function's Service, and its route if the site has a gateway and the function has outside callers."""
    service = _object(SERVING, "Service", specification.service, site, specification)
    service["metadata"]["annotations"] = {DIGEST: specification.digest}
    if specification.service in TIMERS or site.gateway:
        # By a path a call passes one proxy more than by a host name: reachable by both, callers could choose their
        # address.
        service["metadata"]["labels"]["networking.knative.dev/visibility"] = "cluster-local"
    service["spec"] = {"template": {"metadata": _template_metadata(specification, site), "spec": _pod(specification)}}
    return [
        service,
        *([_route(specification, site, site.gateway)] if site.gateway and specification.service not in TIMERS else []),
    ]


def timer_manifests(specification: Specification, site: Site) -> list[Manifest]:
    """Return the CronJob of a timer, or none for other functions; it is applied after the function answers."""
    if specification.schedule is None:
        return []
    cron = _object("batch/v1", "CronJob", specification.service, site, specification)
    job = {
        "backoffLimit": 2,
        "activeDeadlineSeconds": 4 * TICK_SECONDS,
        "template": {"metadata": {"labels": _labels(specification)}, "spec": _tick(specification, site)},
    }
    cron["spec"] = {
        "schedule": specification.schedule,
        "timeZone": "Etc/UTC",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 60,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"spec": job},
    }
    return [cron]


def secret_manifest(name: str, value: str, site: Site) -> Manifest:
    """Return an immutable secret: another value has another name."""
    return _object("v1", "Secret", name, site) | {
        "type": "Opaque",
        "immutable": True,
        "data": {name: b64encode(value.encode()).decode()},
    }


def all_manifests(specification: Sequence[Specification], site: Site) -> list[Manifest]:
    """Return all manifests except secrets, in the order of their application."""
    functions = [manifest for item in specification for manifest in function_manifests(item, site)]
    return [
        *site_manifests(site),
        *functions,
        *(manifest for item in specification for manifest in timer_manifests(item, site)),
    ]


def dump(manifest: Manifest) -> str:
    """Return a manifest as YAML; equal manifests give equal text."""
    return yaml.dump(manifest, Dumper=_Plain, sort_keys=False, width=120)


class _Plain(yaml.CSafeDumper):
    """A YAML dumper without anchors, which would link the labels of different objects."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _object(version: str, kind: str, name: str, site: Site, specification: Specification | None = None) -> Manifest:
    labels = _labels(specification) if specification else dict(OURS)
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": site.namespace, "labels": labels},
    }


def _labels(specification: Specification) -> dict[str, str]:
    return OURS | {COMPONENT: specification.service}


def _template_metadata(specification: Specification, site: Site) -> Manifest:
    """Return a revision's annotations: the activator is always in the path, so trusted hops are constant."""
    is_timer = specification.service in TIMERS
    return {
        "labels": _labels(specification),
        "annotations": {
            "autoscaling.knative.dev/min-scale": str(0 if is_timer else site.min_scale),
            "autoscaling.knative.dev/max-scale": str(1 if is_timer else site.max_scale),
            "autoscaling.knative.dev/target-burst-capacity": "-1",
        },
    }


def _pod(specification: Specification) -> Manifest:
    """Return a revision's pod; Knative sets PORT and refuses one that is set already."""
    container: Manifest = {
        "name": CONTAINER,
        "image": specification.image,
        "ports": [{"containerPort": 8080}],
        "env": [{"name": name, "value": value} for name, value in sorted(specification.environment.items())],
        "resources": {
            "limits": {"memory": specification.memory_limit},
            "requests": {"memory": specification.memory_request},
        },
        "readinessProbe": {"httpGet": {"path": "/_/ready"}},
        "livenessProbe": {"httpGet": {"path": "/healthz"}},
        "securityContext": _confined(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  a folder of the pod's own
    }
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if specification.secrets:
        container["volumeMounts"].append({"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True})
        volumes.append(
            {
                "name": "secrets",
                "projected": {"defaultMode": 0o444, "sources": [_mounted(name) for name in specification.secrets]},
            }
        )
    return {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containerConcurrency": _concurrency(specification.service),
        "timeoutSeconds": CALL_SECONDS,
        "containers": [container],
        "volumes": volumes,
    }


def _mounted(secret: str) -> Manifest:
    return {"secret": {"name": secret, "items": [{"key": secret, "path": secret}]}}


def _concurrency(service: str) -> int:
    if service in TIMERS:
        return TIMER_CONCURRENCY
    return VIEW_CONCURRENCY if service in VIEWS else CONCURRENCY


def _confined() -> Manifest:
    """Return a container's security context: the restricted pod security standard, and a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _route(specification: Specification, site: Site, gateway: str) -> Manifest:
    """Return the route from a path to the function, by the name inside the cluster that Knative gives its Service."""
    namespace, _, name = gateway.partition("/")
    prefix = {"type": "PathPrefix", "value": f"/function/{specification.service}"}
    inside = f"{specification.service}.{site.namespace}.svc.cluster.local"
    rewrite = {"hostname": inside, "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    rule = {
        "matches": [{"path": prefix}],
        "filters": [{"type": "URLRewrite", "urlRewrite": rewrite}],
        "backendRefs": [{"name": specification.service, "port": 80}],
    }
    route = _object(ROUTING, "HTTPRoute", route_name(specification.service), site, specification)
    hosts = {"hostnames": [site.host]} if site.host else {}
    route["spec"] = {"parentRefs": [{"namespace": namespace, "name": name}], **hosts, "rules": [rule]}
    return route


def route_name(service: str) -> str:
    """Return the name of a function's path route: Knative's own route has the function's."""
    return f"{service}-path"


def _tick(specification: Specification, site: Site) -> Manifest:
    container = {
        "name": "post",
        "image": specification.image,
        "command": [
            "python",
            "-I",
            "-S",
            "-c",
            TICK,
            f"http://{specification.service}.{site.namespace}.svc.cluster.local/",
        ],
        "resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}},
        "securityContext": _confined(),
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
    }


def _network_policy() -> Manifest:
    """Return the NetworkPolicy: only Knative may connect to our pods; their own connections are not limited."""
    knative = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "knative-serving"}}}
    return {"podSelector": {"matchLabels": OURS}, "policyTypes": ["Ingress"], "ingress": [{"from": [knative]}]}
