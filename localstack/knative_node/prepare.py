"""What the node is given: `pack` makes an image of a folder,
`manifests` writes Knative's objects with images of this machine.

python prepare.py pack NAME:TAG FOLDER OUT.tar ENTRYPOINT
python prepare.py manifests OUT SERVING NETWORKING CACHING GATEWAY
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml

# One Gateway for inside and outside: who may reach it reaches timers by their Host header. A site has two.
GATEWAY = (
    "- class: contour\n  gateway: ingress/knative\n  service: ingress/envoy\n  supported-features:\n  - "
    "HTTPRouteRequestTimeout\n"
)
# How this node differs from Knative's defaults: names that end in sky.test, short waits, and images that no registry
# has.
SETTINGS = {
    "config-network": {"ingress-class": "gateway-api.ingress.networking.knative.dev"},
    "config-domain": {"sky.test": ""},
    "config-gateway": {"external-gateways": GATEWAY, "local-gateways": GATEWAY},
    "config-deployment": {"registries-skipping-tag-resolving": "dev.local"},
    "config-autoscaler": {
        "scale-to-zero-grace-period": "10s",
        "stable-window": "20s",
        "scale-to-zero-pod-retention-period": "0s",
    },
}
PROGRAMS = ("activator", "autoscaler", "controller", "webhook", "queue")
IMAGES = {f"ko://knative.dev/serving/cmd/{name}": f"dev.local/kn-{name}:1" for name in PROGRAMS}
IMAGES["ko://knative.dev/net-gateway-api/cmd/controller"] = "dev.local/kn-gateway:1"


def main() -> int:
    """Do what the first word says; return the exit code."""
    match sys.argv[1:]:
        case ["pack", name, folder, out, entrypoint]:
            pack(name, Path(folder), Path(out), entrypoint)
        case ["manifests", out, *modules]:
            serving, networking, caching, gateway = map(Path, modules)
            manifests(Path(out), serving, networking, caching, gateway)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def pack(name: str, folder: Path, out: Path, entrypoint: str) -> None:
    """Write a folder as an OCI image of one layer, run by a user without rights."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(folder, arcname=".", filter=_without_owner)
    layer = stream.getvalue()
    rootfs = {"type": "layers", "diff_ids": [_described(layer, "")["digest"]]}
    how = {"Entrypoint": [entrypoint], "User": "65532"}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": how, "rootfs": rootfs}).encode()
    described = {"config": _described(config, "config.v1+json"), "layers": [_described(layer, "layer.v1.tar")]}
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", **described}
    ).encode()
    named = _described(manifest, "manifest.v1+json") | {"annotations": {"io.containerd.image.name": name}}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [named]}).encode(),
    }
    files |= {f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in (config, manifest, layer)}
    with tarfile.open(out, "w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.mtime = 0
    member.uname = member.gname = ""
    return member


def _described(blob: bytes, kind: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(blob)}


def manifests(out: Path, serving: Path, networking: Path, caching: Path, gateway: Path) -> None:
    """Write definitions and objects; the archives of Go modules hold no links,
    so what serving links to comes from where it lies.
    """
    core, shared = serving / "config/core", networking / "config"
    definitions = [
        *sorted((core / "300-resources").glob("*.yaml")),
        *(shared / f"{name}.yaml" for name in ("ingress", "serverlessservice", "certificate", "domain-claim")),
        caching / "config/image.yaml",
        gateway / "third_party/gateway-api/gateway-api.yaml",
    ]
    objects = [
        core / "100-namespace.yaml",
        core / "200-serviceaccount.yaml",
        *sorted((core / "200-roles").glob("*.yaml")),
        core / "300-knativecertificate.yaml",
        *sorted((core / "configmaps").glob("*.yaml")),
        shared / "config-network.yaml",
        *sorted((core / "webhooks").glob("*.yaml")),
        *(core / f"deployments/{name}.yaml" for name in PROGRAMS if name != "queue"),
        *(gateway / f"config/{name}.yaml" for name in ("200-clusterrole", "300-controller", "config-gateway")),
    ]
    for name, files in (("1-definitions", definitions), ("2-core", objects)):
        read = (document for path in files for document in yaml.safe_load_all(path.read_text()) if document)
        (out / f"{name}.yaml").write_text(
            yaml.safe_dump_all([_adapted(document) for document in read], sort_keys=False)
        )


def _adapted(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return an object with this node's images, settings and small requests."""
    made: dict[str, Any] = _with_images(manifest)
    if made["kind"] == "ConfigMap":
        kept = {name: value for name, value in (made.get("data") or {}).items() if name != "_example"}
        made["data"] = kept | SETTINGS.get(made["metadata"]["name"], {})
        (made["metadata"].get("annotations") or {}).pop("knative.dev/example-checksum", None)
    if made["kind"] == "Deployment":
        for container in made["spec"]["template"]["spec"]["containers"]:
            container["resources"]["requests"]["cpu"] = "10m"
            container["imagePullPolicy"] = "IfNotPresent"
    return made


def _with_images(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_images(document) for name, document in value.items()}
    if isinstance(value, list):
        return [_with_images(document) for document in value]
    return IMAGES.get(value, value) if isinstance(value, str) else value


if __name__ == "__main__":
    sys.exit(main())
