"""Bring what the tests use beside Python packages, where this machine lets us;
say in one line each what it has to do without.

As root on Debian: chromium for the page, poppler for what it prints, debootstrap for a pool of HTCondor, it and buildah
for the image, LibreOffice for CSV (90 MB), openssl, strace, promtool, systemd-analyze. Elsewhere nothing is installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from localstack.opensearch_node import OpenSearch3
from localstack.search_node import java_home
from localstack.server_process import MissingOptional

PACKAGES = {
    "chromium": "chromium",
    "openssl": "openssl",
    "ssh-keygen": "openssh-client",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "curl": "curl",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "soffice": "libreoffice-calc-nogui",
    "pdftotext": "poppler-utils",
}
# Installing these packages would start a service, so the program alone is taken out of them.
UNPACKED = {"promtool": "prometheus"}
WITHOUT = {
    "chromium": "the page is not tested in a browser",
    "openssl": "vm.py's claims are not tested",
    "ssh-keygen": "keys made by ssh-keygen are not tested",
    "strace": "that no secret stands on a command line is not tested",
    "systemd-analyze": "systemd's own reading of our units is not tested",
    "curl": "the claim by open.sh is not tested",
    "debootstrap": "HTCondor and the image are not tested",
    "buildah": "the image is not tested",
    "soffice": "CSV is not tested in a spreadsheet",
    "pdftotext": "the statement's sheet is not read back from paper",
    "promtool": "the rule for Prometheus and the form of the metrics are not tested by Prometheus's own tool",
    "npm": "accessibility is not tested",
    "java": "Elasticsearch and OpenSearch are not tested",
    "mvn": "Elasticsearch and OpenSearch are not tested",
    "go": "versitygw, fake-gcs-server, Alertmanager and what Kubernetes is given are not tested",
    "terraform": "the deployment is not tested, and of infra/ the syntax alone",
}


def main() -> int:
    """Install what is missing and may be installed; return 1 where something is missing and CI asks for everything."""
    missing, unpacked = ([tool for tool in tools if shutil.which(tool) is None] for tools in (PACKAGES, UNPACKED))
    if (missing or unpacked) and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [PACKAGES[tool] for tool in missing]
        print(f"installing {', '.join((*packages, *unpacked))} from Debian's packages", flush=True)
        apt("update")
        if packages:
            apt("install", "--no-install-recommends", *packages)
        for tool in unpacked:
            unpack(tool)
    left_out = [tool for tool in WITHOUT if shutil.which(tool) is None]
    for tool in left_out:
        print(f"without {tool}: {WITHOUT[tool]}")
    say_optional()
    return 1 if left_out and os.environ.get("CI") == "true" else 0


def say_optional() -> None:
    """Say what is left out because of tools that Debian lacks, which CI need not have either."""
    try:
        java_home(OpenSearch3.java, f"OpenSearch {OpenSearch3.version}")
    except MissingOptional as missing:
        print(missing)


def apt(*words: str, folder: str = "/") -> None:
    """Ask apt, which may say no: then the tests say what they leave out."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    no_input, no_output = subprocess.DEVNULL, subprocess.DEVNULL
    command = ["apt-get", "-qq", *words]
    subprocess.run(command, env=environment, cwd=folder, stdin=no_input, stdout=no_output, timeout=600, check=False)


def unpack(tool: str) -> None:
    """Take one program out of its package, without running what the package runs when it is installed."""
    with TemporaryDirectory() as folder:
        apt("download", "-o", "APT::Sandbox::User=root", UNPACKED[tool], folder=folder)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, folder], timeout=600, check=True)
            shutil.move(Path(folder) / "usr" / "bin" / tool, Path("/usr/local/bin") / tool)


if __name__ == "__main__":
    sys.exit(main())
