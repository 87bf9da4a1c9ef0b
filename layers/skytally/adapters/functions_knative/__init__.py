"""Functions on Knative Serving, by server-side apply to the Kubernetes API.

A Service carries its specification's digest as an annotation, which alone makes no new revision, and in its
environment. Applying what is there changes nothing, so a dry run shows what somebody else has changed since. Knative
keeps the old revision until the new one is ready; while it is not, its pods say why, long before Knative gives up.
"""

import contextlib
from base64 import b64encode
from typing import Any

import msgspec

from skytally.adapters.functions_knative.cluster import Cluster
from skytally.adapters.functions_knative.manifests import (
    ACCOUNT,
    COMPONENT,
    CONTAINER,
    DIGEST,
    OURS,
    Manifest,
    Site,
    dump,
    function_manifests,
    route_name,
    secret_manifest,
    site_manifests,
    timer_manifests,
)
from skytally.core.errors import Forbidden, Malformed, NotFound
from skytally.core.plain_text import printable
from skytally.core.ports import Running, Specification

SELECTOR = ",".join(f"{name}={value}" for name, value in OURS.items())
# Waiting does not mend these; a pull that failed once may be tried again by the kubelet.
FINAL_REASONS = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
EX_CONFIG = 78
LOG_LINES, MOST_LETTERS = 5, 500


class KnativeFunctions:
    """The functions of one site in one namespace of a cluster."""

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self._cluster, self._site, self._is_prepared = cluster, site, False

    def put(self, specification: Specification) -> None:
        """Apply a function's Service and its route; remove a route without a gateway."""
        self._prepare()
        wanted_manifests = function_manifests(specification, self._site)
        for manifest in wanted_manifests:
            self._apply(manifest)
        if not any(manifest["kind"] == "HTTPRoute" for manifest in wanted_manifests):
            self._cluster.delete("HTTPRoute", route_name(specification.service))

    def running(self, specification: Specification) -> Running | None:
        """Return one function's state: its Service, its pods until it is ready, then its differences."""
        service = self._cluster.get("Service", specification.service)
        if service is None:
            return None
        digest, image = _digest(service), _image(service)
        if digest != specification.digest:
            return Running(
                digest, image, words="another version is deployed" if digest else "somebody else deployed this"
            )
        running = self._progress(service, specification, Running(digest, image))
        differing = [
            item["kind"]
            for item in function_manifests(specification, self._site)
            if running.is_ready and not self._is_as(item)
        ]
        return (
            Running(None, image, words=f"it differs from what is wanted: {', '.join(differing)}")
            if differing
            else running
        )

    def services(self) -> dict[str, str | None]:
        """Return the digests of the Services with our labels."""
        return {
            service["metadata"]["name"]: _digest(service)
            for service in self._cluster.select("Service", labelSelector=SELECTOR)
        }

    def remove(self, service: str) -> bool:
        """Remove a function with its timer and route, and with the last one what the site needed beside them.

        Raise Forbidden for one that is not ours.
        """
        there = self._cluster.get("Service", service)
        if there is not None and not OURS.items() <= (there["metadata"].get("labels") or {}).items():
            raise Forbidden(f"{service} was not deployed by skytally, and stays: remove it by the platform's own means")
        self._cluster.delete("CronJob", service)
        self._cluster.delete("HTTPRoute", route_name(service))
        was_there = self._cluster.delete("Service", service)
        if was_there and not self.services():
            self._cluster.delete("NetworkPolicy", ACCOUNT)
            self._cluster.delete("ServiceAccount", ACCOUNT)
        return was_there

    def put_timer(self, specification: Specification) -> None:
        """Apply the CronJob that calls a timer, or remove it if the timer is off."""
        self._prepare()
        manifests = timer_manifests(specification, self._site)
        for manifest in manifests:
            self._apply(manifest)
        if not manifests:
            self._cluster.delete("CronJob", specification.service)

    def has_timer(self, specification: Specification) -> bool:
        """Return whether a function's timer matches its specification."""
        manifests = timer_manifests(specification, self._site)
        if not manifests:
            return self._cluster.get("CronJob", specification.service) is None
        return all(self._is_as(manifest) for manifest in manifests)

    def secrets(self) -> set[str]:
        """Return the names of the secrets that functions can mount; no value leaves the cluster."""
        return {item["metadata"]["name"] for item in self._cluster.select("Secret", fieldSelector="type=Opaque")}

    def put_secret(self, name: str, value: str) -> None:
        """Create a secret; raise Malformed, without any value, if the name exists with another value."""
        self._prepare()
        try:
            self._apply(secret_manifest(name, value, self._site))
        except Malformed as error:
            shows_it = value in error.message or b64encode(value.encode()).decode() in error.message
            words = "" if shows_it else f" ({error.message})"
            raise Malformed(
                f"the cluster refuses the secret {name}: where it is there with another value, hand the new value "
                "over under a new name, "
                f"and name that in the description{words}"
            ) from None

    def remove_secret(self, name: str) -> bool:
        """Remove a secret."""
        return self._cluster.delete("Secret", name)

    def _prepare(self) -> None:
        """Apply the site's objects, once; without the right to create a namespace use the existing one."""
        if self._is_prepared:
            return
        namespace, *others = site_manifests(self._site)
        with contextlib.suppress(Forbidden):  # Where it is not there, what comes next says so.
            self._apply(namespace)
        for manifest in others:
            self._apply(manifest)
        self._is_prepared = True

    def _apply(self, manifest: Manifest) -> None:
        try:
            self._cluster.apply(manifest["kind"], manifest["metadata"]["name"], dump(manifest).encode())
        except NotFound as error:
            # Only a kind that the cluster does not know, or a namespace that is not there, is "not found" for what
            # makes an object.
            raise NotFound(
                f"{error.message}; the cluster lacks {manifest['apiVersion']} or the namespace {self._site.namespace}"
            ) from None

    def _is_as(self, manifest: Manifest) -> bool:
        """Return whether applying a manifest would change nothing."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        there = self._cluster.get(kind, name)
        return there is not None and _content(there) == _content(
            self._cluster.apply(kind, name, dump(manifest).encode(), dry_run=True)
        )

    def _progress(self, service: Manifest, specification: Specification, running: Running) -> Running:
        status = service.get("status") or {}
        if status.get("observedGeneration") != service["metadata"].get("generation"):
            return msgspec.structs.replace(running, words="Knative has not seen it yet")
        ready: Manifest = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
        if ready.get("status") == "True":
            return msgspec.structs.replace(running, is_ready=True)
        words = _words(ready.get("reason"), ready.get("message"))
        said, is_final = self._pods_say(specification)
        return msgspec.structs.replace(
            running, is_final=is_final or ready.get("status") == "False", words=said or words
        )

    def _pods_say(self, specification: Specification) -> tuple[str, bool]:
        """Return why the newest revision is not ready, and whether that is final."""
        missing = sorted(set(specification.secrets) - self.secrets())
        if missing:
            return f"the secret {missing[0]} is not there: hand it over with `skytally deploy secret NAME FILE`", True
        pods = [pod for pod in self._pods(specification.service) if _deployment(pod) == specification.digest]
        reasons = [self._pod_says(pod) for pod in pods]
        return next((item for item in reasons if item[1]), next((item for item in reasons if item[0]), ("", False)))

    def _pods(self, service: str) -> list[Manifest]:
        try:
            return self._cluster.select(
                "Pod", labelSelector=f"{COMPONENT}={service},serving.knative.dev/service={service}"
            )
        except Forbidden:
            return []  # Then Knative's own words must do, which come later.

    def _pod_says(self, pod: Manifest) -> tuple[str, bool]:
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        container: Manifest = next((item for item in statuses if item.get("name") == CONTAINER), {})
        state, before = container.get("state") or {}, container.get("lastState") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or before.get("terminated") or {}
        is_final = waiting.get("reason") in FINAL_REASONS or ended.get("exitCode") == EX_CONFIG
        if not ended:
            return (_words(waiting.get("reason"), waiting.get("message")), is_final) if is_final else ("", False)
        log = self._cluster.log(pod["metadata"]["name"], CONTAINER, LOG_LINES, previous="terminated" not in state)
        reason = waiting.get("reason") or ended.get("reason") or "Error"
        return _words(
            f"{reason} (exit code {ended.get('exitCode')})", log[-MOST_LETTERS:] or waiting.get("message")
        ), is_final


def _digest(service: Manifest) -> str | None:
    digest: str | None = (service["metadata"].get("annotations") or {}).get(DIGEST)
    return digest


def _container(pod_spec: Manifest) -> Manifest:
    return next((item for item in pod_spec.get("containers") or [] if item.get("name") == CONTAINER), {})


def _image(service: Manifest) -> str:
    return str(_container(service.get("spec", {}).get("template", {}).get("spec", {})).get("image"))


def _deployment(pod: Manifest) -> str | None:
    """Return the digest of a pod's specification."""
    return next(
        (
            item.get("value")
            for item in _container(pod["spec"]).get("env") or []
            if item.get("name") == "SKYTALLY_DEPLOYMENT"
        ),
        None,
    )


def _content(there: Manifest) -> Manifest:
    """Return an object without the fields that servers and controllers add."""
    noted = {"managedFields", "resourceVersion", "generation"}
    metadata = {name: value for name, value in there["metadata"].items() if name not in noted}
    return {name: value for name, value in there.items() if name not in {"metadata", "status"}} | {"metadata": metadata}


def _words(reason: Any, message: Any) -> str:
    told = ": ".join(str(item) for item in (reason, " ".join(str(message or "").split())) if item)
    return printable(told)
