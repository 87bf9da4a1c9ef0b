"""Bring what the tests use beside Python packages, where this machine lets us; say in one line each what it has to do without.

As root on Debian: chromium for the page, debootstrap for a pool of HTCondor, it and
buildah for the image, openssl, strace. Elsewhere nothing is installed.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "chromium": "chromium",
    "openssl": "openssl",
    "ssh-keygen": "openssh-client",
    "strace": "strace",
    "curl": "curl",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}
WITHOUT = {
    "chromium": "the page is not tested in a browser",
    "openssl": "vm.py's claims are not tested",
    "ssh-keygen": "keys made by ssh-keygen are not tested",
    "strace": "that no secret stands on a command line is not tested",
    "curl": "the claim by open.sh is not tested",
    "debootstrap": "HTCondor and the image are not tested",
    "buildah": "the image is not tested",
    "npm": "accessibility is not tested",
    "java": "Elasticsearch is not tested",
    "mvn": "Elasticsearch is not tested",
    "go": "versitygw, fake-gcs-server, Alertmanager and what Kubernetes is given are not tested",
    "terraform": "the deployment is not tested, and of infra/ the syntax alone",
}


def main() -> int:
    """Install what is missing and may be installed; answers 1 where something is missing and CI asks for everything."""
    missing = [tool for tool in PACKAGES if shutil.which(tool) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(PACKAGES[tool] for tool in missing)} from Debian's packages", flush=True)
        install([PACKAGES[tool] for tool in missing])
    left_out = [tool for tool in WITHOUT if shutil.which(tool) is None]
    for tool in left_out:
        print(f"without {tool}: {WITHOUT[tool]}")
    return 1 if left_out and os.environ.get("CI") == "true" else 0


def install(packages: list[str]) -> None:
    """Ask apt, which may say no: then the tests say what they leave out."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "--no-install-recommends", *packages]):
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=600, check=False)


if __name__ == "__main__":
    sys.exit(main())
