"""User-data: the cloud-config with which a vm takes its secret and then reports."""

import base64
import gzip
import re
import shlex
import sys
from typing import Any

import yaml
from msgspec import Struct

from skytally.core.errors import Malformed, NotFound
from skytally.deployment.function_urls import url_of

# On disk, since cloud-init writes files at the first boot only, and power may go before the claim. vm.py empties it.
CLAIM_FILE = "/etc/skytally/claim"
CA_FILE = "/etc/skytally/ca.pem"
# cloud-init runs what lies there at every boot, but runcmd at the first only, whether it came to its end or not.
SCRIPT = "/var/lib/cloud/scripts/per-boot/skytally-first-boot"
# For images whose cloud-init does not run them. Where it does, the script may have done its work and gone.
RUN = ("sh", "-c", f"[ ! -e {SCRIPT} ] || {SCRIPT}")
AGENT = "/usr/local/sbin/skytally-vm.py"
# cloud-init lets a part replace the lists of the parts before it, unless the part itself says how it is to be merged.
MERGE_HOW = "list(append)+dict(recurse_array)+str()"
# What EC2 takes of a vm's user-data in all, before base64; OpenStack takes little more.
MOST_BYTES = 16_384
# No claim token is longer: its name, its end and its secret.
LONGEST_TOKEN = f"{'z' * 64}.{'9' * 12}.{'f' * 64}"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


class Taking(Struct, frozen=True, kw_only=True):
    """Where a vm unpacks its secret, and a batch's names."""

    unpack: str
    owner: str
    mode: str
    names: tuple[str, ...] = ()


def digest_of(name: str, digests: str) -> str:
    """Return a script's digest in SHA256SUMS: exactly 64 hex digits, since it goes into a shell script."""
    for line in digests.splitlines():
        digest, _, named = line.partition("  ")
        if named == name and re.fullmatch(r"[0-9a-f]{64}", digest):
            return digest
    raise NotFound(f"the deployment serves no {name}")


class Door(Struct, frozen=True):
    """How a vm reaches the deployment.

    `ca` is the PEM of the CA that signed its certificate, where the image does not know it.

    `mirrors` are other addresses of vm.py, believed by its digest alone.
    """

    base: str
    insecure: bool = False
    ca: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """Return the options of vm.py."""
        return [
            "--base",
            self.base,
            *(["--ca", CA_FILE] if self.ca else []),
            *(["--insecure", "yes"] if self.insecure else []),
        ]


def certificates_of(pem: str) -> list[str]:
    """Return the certificates of a PEM file, without comments and private keys; raise Malformed for none."""
    certificates = ["\n".join(map(str.strip, block.splitlines())) + "\n" for block in CERTIFICATE.findall(pem)]
    if not certificates:
        raise Malformed("the file of --ca holds no certificate in PEM (-----BEGIN CERTIFICATE-----): name the CA's")
    return certificates


def cloud_config(door: Door, token: str, digest: str, taking: Taking) -> dict[str, Any]:
    """Return the cloud-config: the claim token in a file of root's, and a script that installs a checked vm.py.

    The installed service does the rest and retries it: claim, unpack, benchmark, report. The token is never a command's
    argument, which every process could read; vm.py empties the file after the claim. The site's own user-data is merged
    and still runs. Files of several lines are base64, since cloudscheduler removes blank lines and comments.
    """
    files = [
        {"path": CLAIM_FILE, "permissions": "0600", "owner": "root:root", "content": token},
        _lines(SCRIPT, "0700", _script(door, digest, taking)),
        *([_lines(CA_FILE, "0644", door.ca)] if door.ca else []),
    ]
    return {"merge_how": MERGE_HOW, "write_files": files, "runcmd": [list(RUN)]}


def text_of(config: dict[str, Any]) -> str:
    """Return a cloud-config as user-data, each file on one line: removing blank and comment lines is harmless."""
    return "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=sys.maxsize, default_style='"')


def check_size(door: Door, digest: str, taking: Taking) -> None:
    """Raise Malformed for user-data larger than clouds accept, with the longest token; call it before a deposit."""
    size = len(text_of(cloud_config(door, LONGEST_TOKEN, digest, taking)))
    if size > MOST_BYTES:
        raise Malformed(f"the user-data would be {size} bytes, and clouds take {MOST_BYTES}: {_what_to_do(door)}")


def _what_to_do(door: Door) -> str:
    number = len(CERTIFICATE.findall(door.ca or ""))
    if number < 2:
        return "shorten --base, --unpack or --owner"
    return (
        f"--ca holds {number} certificates. Name a file with the one of the CA that signed the deployment's; or put "
        "the CA into the "
        "image's own trust store and leave --ca out (this command takes it from SSL_CERT_FILE then)"
    )


def _lines(path: str, mode: str, text: str) -> dict[str, str]:
    """Return a write_files entry in the shorter of two encodings; the same text always gives the same bytes."""
    data = text.encode()
    encoded = {"b64": base64.b64encode(data), "gz+b64": base64.b64encode(gzip.compress(data, mtime=0))}
    encoding = min(encoded, key=lambda name: len(encoded[name]))
    return {
        "path": path,
        "permissions": mode,
        "owner": "root:root",
        "encoding": encoding,
        "content": encoded[encoding].decode(),
    }


def _script(door: Door, digest: str, taking: Taking) -> str:
    """Return the script of the first boot. It may be interrupted at any line: the next boot runs it again.

    It runs in the background, so that cloud-init does not wait while the server is away.
    """
    trust = ["--cacert", CA_FILE] if door.ca else []
    fetches = [["get", *trust, url_of(door.base, "agent/vm.py")], *(["get", mirror] for mirror in door.mirrors)]
    takes = ["--claim-file", CLAIM_FILE, "--unpack", taking.unpack, "--owner", taking.owner, "--mode", taking.mode]
    name = f'name=$({_host_name(taking)}) && [ -n "$name" ] && ' if taking.names else ""
    vm = ' --vm "$name"' if taking.names else ""
    return f"""#!/bin/sh
mkdir /run/skytally-first-boot 2>/dev/null || exit 0
get() {{
    curl --fail --silent --show-error --connect-timeout 20 --max-time 120 --output {AGENT}.new "$@" &&
        echo "{digest}  {AGENT}.new" | sha256sum -c >/dev/null && mv {AGENT}.new {AGENT}
}}
first_boot() {{
    left=1800 wait=2
    until {name}{{ {" || ".join(map(shlex.join, fetches))}; }}; do
        if [ "$left" -le 0 ]; then
            echo "skytally: there is no vm.py to be had, so this vm takes no secret and does not report:" \\
                "boot it again" | tee /dev/console
            return
        fi
        pause=$((wait / 2 + $(od -An -N1 -tu1 /dev/urandom) % (wait / 2 + 1)))
        sleep "$pause"
        left=$((left - pause)) wait=$((wait < 60 ? wait * 2 : 60))
    done
    python3 {AGENT} install {shlex.join([*door.options, *takes])}{vm} && sync && rm -f {SCRIPT}
}}
first_boot &
"""


def _host_name(taking: Taking) -> str:
    """Return the command that prints a batch vm's name, with or without its domain as the batch's names have it."""
    return "hostname -f" if any("." in name for name in taking.names) else "hostname -s"
