"""User-data: what cloud-init must be told so that a vm takes its secret and reports from then on."""

import base64
import re
import shlex
from typing import Any

from msgspec import Struct

from skytally.errors import NotFound
from skytally.function_url import url_of

CLAIM_FILE = "/run/skytally-claim"
CA_FILE = "/etc/skytally/ca.pem"
SCRIPT = "/usr/local/sbin/skytally-first-boot"
AGENT = "/usr/local/sbin/skytally-vm.py"
# cloud-init lets a part replace the lists of the parts before it, unless the part itself says how it is to be merged.
MERGE_HOW = "list(append)+dict(recurse_array)+str()"


class Taking(Struct, frozen=True, kw_only=True):
    """Where a vm puts its secret, and under which of a batch's names it asks."""

    unpack: str
    owner: str
    mode: str
    names: tuple[str, ...] = ()


def digest_of(name: str, digests: str) -> str:
    """Return a script's digest in SHA256SUMS, which goes into a script: 64 hex digits and nothing else."""
    for line in digests.splitlines():
        digest, _, named = line.partition("  ")
        if named == name and re.fullmatch(r"[0-9a-f]{64}", digest):
            return digest
    raise NotFound(f"the deployment serves no {name}")


class Door(Struct, frozen=True):
    """How a vm reaches the deployment. `ca` is the PEM of the CA that signed its certificate, where the image does not know it."""

    base: str
    insecure: bool = False
    ca: str | None = None

    @property
    def options(self) -> list[str]:
        """Return what vm.py must be told."""
        return ["--base", self.base, *(["--ca", CA_FILE] if self.ca else []), *(["--insecure", "yes"] if self.insecure else [])]


def cloud_config(door: Door, token: str, digest: str, taking: Taking) -> dict[str, Any]:
    """Return the cloud-config: the claim token in a file of root's, and a script that fetches vm.py, checks it, boots, installs.

    The token is never an argument of a command, where every process could read it; the file goes once the secret is taken. What a
    site's own user-data write and run is done, too. What has several lines is base64, since cloudscheduler takes away blank lines and
    those that begin with `#`.
    """
    files = [
        {"path": CLAIM_FILE, "permissions": "0600", "owner": "root:root", "content": token},
        _lines(SCRIPT, "0700", _script(door, digest, taking)),
        *([_lines(CA_FILE, "0644", door.ca)] if door.ca else []),
    ]
    return {"merge_how": MERGE_HOW, "write_files": files, "runcmd": [[SCRIPT]]}


def _lines(path: str, mode: str, text: str) -> dict[str, str]:
    content = base64.b64encode(text.encode()).decode()
    return {"path": path, "permissions": mode, "owner": "root:root", "encoding": "b64", "content": content}


def _script(door: Door, digest: str, taking: Taking) -> str:
    trust = shlex.join(["--cacert", CA_FILE]) + " " if door.ca else ""
    told = shlex.join(door.options) + _name(taking)
    takes = shlex.join(["--claim-file", CLAIM_FILE, "--unpack", taking.unpack, "--owner", taking.owner, "--mode", taking.mode])
    return f"""#!/bin/sh
set -eu
curl --fail --silent --show-error --retry 5 {trust}--output {AGENT} {shlex.quote(url_of(door.base, "agent/vm.py"))}
echo "{digest}  {AGENT}" | sha256sum --check --quiet
python3 {AGENT} boot {told} {takes}
rm -f {CLAIM_FILE}
python3 {AGENT} install {told}
"""


def _name(taking: Taking) -> str:
    """Let a batch's vm ask under its host name, in the form that the names have: with its domain or without."""
    if not taking.names:
        return ""
    return ' --vm "$(hostname -f)"' if any("." in name for name in taking.names) else ' --vm "$(hostname -s)"'
