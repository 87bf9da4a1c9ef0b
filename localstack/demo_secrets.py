"""The demo's secrets: some wait, some are taken, one of them by two, and one is taken by a vm that never reports."""

import base64
import gzip
import json
import urllib.error
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from localstack import fleet
from skytally.secrets import envelope

Send = Callable[[str, str, Any], bytes]
WAITING, TAKEN = 3, 4


def fill(send: Send, scheduler: str, vms: Sequence[fleet.Vm]) -> None:
    """Leave secrets for some vms, and let some of them be taken; send takes a path, a token and a body."""
    for number in range(WAITING):
        _deposit(send, scheduler, f"{vms[number].cloud}-boots-{number:03}", vms[number].cloud)
    for vm in vms[:TAKEN]:
        _claim(send, _deposit(send, scheduler, vm.name, vm.cloud))
    lost = _deposit(send, scheduler, f"{vms[0].cloud}-never-heard-of", vms[0].cloud)
    _claim(send, lost)
    contested = _deposit(send, scheduler, f"{vms[-1].cloud}-copied-user-data", vms[-1].cloud)
    _claim(send, contested)
    try:
        _claim(send, contested)
    except urllib.error.HTTPError as refused:
        if refused.code != 409:
            raise


def _deposit(send: Send, scheduler: str, vm: str, cloud: str) -> str:
    body = {"vm": vm, "cloud": cloud, "payload": base64.b64encode(b"a certificate of the demo").decode()}
    return str(json.loads(send("secret-deposit", scheduler, body))["token"])


def _claim(send: Send, token: str) -> None:
    """Take a secret by a key of its own, as a vm does."""
    claim, expires, secret = token.split(".")
    private_key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    line = private_key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    key = base64.b64encode(gzip.compress(line + b" root@vm\n", mtime=0)).decode()
    proof = envelope.proof_of(secret.encode(), claim, key, None)
    send("secret-claim", "", {"claim": claim, "expires": int(expires), "public_key": key, "proof": proof})
