"""User-data: what cloud-init must be told so that a vm takes its secret and reports from then on."""

import shlex
from typing import Any

from skytally.errors import NotFound

CLAIM_FILE = "/run/skytally-claim"
SCRIPT = "/usr/local/sbin/skytally-first-boot"
AGENT = "/usr/local/sbin/skytally-vm.py"


def digest_of(name: str, digests: str) -> str:
    """Find a script's digest in SHA256SUMS."""
    for line in digests.splitlines():
        digest, _, named = line.partition("  ")
        if named == name:
            return digest
    raise NotFound(f"the deployment serves no {name}")


def cloud_config(base: str, token: str, digest: str, *, batch: bool, unpack: str, owner: str, mode: str) -> dict[str, Any]:
    """Answer the cloud-config: the claim token in a file of root's, and a script that fetches vm.py, checks it, boots, installs.

    The token is never an argument of a command, where every process could read it; the file goes once the secret is taken.
    """
    agent = f"python3 {AGENT}"
    options = ["--base", base, *(["--vm", "$(hostname)"] if batch else [])]
    told = " ".join(word if word.startswith("$(") else shlex.quote(word) for word in options)
    takes = " ".join(shlex.quote(word) for word in ("--claim-file", CLAIM_FILE, "--unpack", unpack, "--owner", owner, "--mode", mode))
    script = f"""#!/bin/sh
set -eu
curl --fail --silent --show-error --retry 5 --output {AGENT} {shlex.quote(f"{base.rstrip('/')}/function/agent/vm.py")}
echo "{digest}  {AGENT}" | sha256sum --check --quiet
{agent} boot {told} {takes}
rm -f {CLAIM_FILE}
{agent} install {told}
"""
    return {
        "write_files": [
            {"path": CLAIM_FILE, "permissions": "0600", "owner": "root:root", "content": token},
            {"path": SCRIPT, "permissions": "0700", "owner": "root:root", "content": script},
        ],
        "runcmd": [[SCRIPT]],
    }
